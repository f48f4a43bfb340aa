"""Which columns of few rows see each other: what hangs together does, chance does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genpipe.batch import Batch, to_batch
from genpipe.draws import Draws
from genpipe.evaluation.privacy.membership import area
from genpipe.families.base import PartialConditioning
from genpipe.families.sequence import SequenceConfig, SequenceModel
from genpipe.families.ties import tied
from genpipe.networks.autoregressive import AutoregressiveConfig, Columns
from genpipe.recipe import make_family
from genpipe.recipes import RECIPES, parse_recipe
from genpipe.spec import TensorSpec
from genpipe.suited import fitted_to, penalised
from genpipe.training.data import Resident
from genpipe.training.loop import fit
from genpipe.training.state import TrainingState

ROWS = 400


def spec_of(x: np.ndarray, ordered: tuple[bool, ...], conditions: tuple[int, ...] = ()) -> TensorSpec:
    sizes = tuple(int(c.max()) + 1 for c in x.T)
    shares = tuple(
        tuple((np.bincount(c, minlength=n) / len(c)).tolist()) for c, n in zip(x.T, sizes, strict=True)
    )
    return TensorSpec(
        layout="tokens", shape=(x.shape[1],), dtype="int32", vocabulary=sizes, frequencies=shares,
        ordered=ordered, conditions=conditions,
    )  # fmt: skip


def of(x: np.ndarray, classes: np.ndarray, ordered: tuple[bool, ...], seed: int = 0) -> torch.Tensor:
    spec = spec_of(x, ordered, tuple(int(c.max()) + 1 for c in classes.T))
    batch = torch.from_numpy(x).long(), torch.from_numpy(classes).long()
    return tied(*batch, spec, Draws(seed, "begin", total=len(x)))


def test_columns_that_nothing_ties_are_learnt_apart() -> None:
    """Of many columns and many options, where a test of each pair by itself would let every hundredth by."""
    false = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = np.stack([rng.integers(0, n, ROWS) for n in (2, 3, 10, 50, 200, 60, 5, 2)], 1)
        found = of(x, rng.integers(0, 2, (ROWS, 1)), (False, False, True, False, True, True, False, True))
        false += int((found.sum() - len(found)) > 0)
    assert false <= 2  # one in twenty is what is allowed


def test_what_hangs_together_stays_together() -> None:
    rng = np.random.default_rng(0)
    place = rng.choice(40, ROWS, p=(lambda s: s / s.sum())(1 / np.arange(1, 41)))
    size = np.clip(np.rint(place / 2 + rng.normal(0, 4, ROWS)), 0, 30).astype(int)  # a trend
    bow = np.abs(rng.integers(-9, 10, ROWS))  # no rank correlation with what it is made of
    made = np.where(rng.random(ROWS) < 0.5, bow, -bow) + 9
    alone = rng.integers(0, 6, ROWS)
    kind = (size > 12).astype(int)
    found = of(np.stack([place, size, bow, made, alone], 1), kind[:, None], (False, True, True, True, False))
    expected = torch.eye(5, 6, dtype=torch.bool)
    for one, other in ((0, 1), (1, 0), (2, 3), (3, 2), (0, 5), (1, 5)):
        expected[one, other] = True
    assert torch.equal(found, expected)


def test_the_same_rows_and_seed_have_the_same_ties() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 5, (ROWS, 4))
    x[:, 3] = (x[:, 0] + rng.integers(0, 2, ROWS)) % 5
    none = np.zeros((ROWS, 0), int)
    assert torch.equal(of(x, none, (False,) * 4), of(x, none, (False,) * 4))


def network(order: str) -> tuple[SequenceModel, Columns]:
    x = np.random.default_rng(0).integers(0, 4, (ROWS, 4))
    spec = spec_of(x, (False,) * 4, (2,))
    config = AutoregressiveConfig(embed=4, width=4, ties="tested", order=order)  # type: ignore[arg-type]
    torch.manual_seed(0)
    family = SequenceModel(SequenceConfig(model=config), spec)
    net = family.build()["model"]
    assert isinstance(net, Columns)
    with torch.no_grad():
        for group in net.outlet.parameters():
            group.add_(torch.randn_like(group))
    return family, net


@pytest.mark.parametrize("order", ["fixed", "any"])
def test_a_column_sees_nothing_of_those_it_is_not_tied_to(order: str) -> None:
    family, net = network(order)
    assert net.tied is not None
    net.tied.fill_(False)
    net.tied[2, 1] = net.tied[1, 2] = net.tied[3, 4] = True  # 3 depends on the class, 2 and 1 on each other
    x, c = torch.zeros(8, 4, dtype=torch.long), torch.zeros(8, 1, dtype=torch.long)
    first = family.log_probability({"model": net}, x, c)
    for column, seen in ((0, []), (1, [2])):
        other = x.clone()
        other[:, column] = 3
        moved = (family.log_probability({"model": net}, other, c) - first).abs().amax(0) > 1e-6
        assert moved.nonzero().flatten().tolist() == [column, *seen]
    moved = (family.log_probability({"model": net}, x, c + 1) - first).abs().amax(0) > 1e-6
    assert moved.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("order", ["fixed", "any"])
@pytest.mark.parametrize("rows", [5, 3000])  # multiplied, and looked up
def test_what_is_drawn_is_what_is_learnt(order: str, rows: int) -> None:
    """Step by step a column is told the same as at once."""
    _, net = network(order)
    assert net.tied is not None
    net.tied.copy_(torch.rand(net.tied.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    rng = Draws(0, "rows", total=rows)
    x, c = rng.integers(4, 4), torch.eye(2)[rng.integers(2)]
    at_once = torch.cat(list(net(x, c)))
    state, previous = net.begin(c), None
    for t in range(4):
        logits, state = net.step(previous, state)
        torch.testing.assert_close(logits, at_once[t][:, : logits.shape[1]], atol=1e-4, rtol=1e-4)
        previous = x[:, t]


def test_ties_are_tested_for_few_rows_and_are_part_of_what_is_kept() -> None:
    recipe = RECIPES["tabular_autoregressive"]()
    assert fitted_to(recipe, 400).family.model.ties == "tested"  # type: ignore[union-attr]
    assert fitted_to(recipe, 20_000).family.model.ties == "all"  # type: ignore[union-attr]
    asked = parse_recipe(
        {"base": "tabular_autoregressive", "family": {"model": {"network": "autoregressive", "ties": "all"}}},
        "tabular",
    )
    assert fitted_to(asked, 400).family.model.ties == "all"  # type: ignore[union-attr]
    family, net = network("fixed")
    assert "tied" in net.state_dict()
    state = TrainingState(family, recipe.training, seed=0, device="cpu")
    rng = np.random.default_rng(3)
    rows = Batch(
        torch.from_numpy(rng.integers(0, 4, (ROWS, 4))), torch.from_numpy(rng.integers(0, 2, (ROWS, 1)))
    )
    family.begin(state.nets, rows, Draws(0, "begin", total=ROWS))
    assert not state.nets["model"].state_dict()["tied"].all()
    assert state.average is not None
    state.average.update(("model",))
    kept = [nets["model"].state_dict()["tied"] for nets in (state.nets, state.average.nets)]
    assert torch.equal(*kept)


def known(ties: str) -> tuple[float, float]:
    """(how often a row of training gains more by the ties a network found than one never seen does, nats of
    the latter). All columns are independent.
    """
    sides = [np.random.default_rng([7, k]).integers(0, (2, 9, 30, 60, 12, 8), (ROWS, 6)) for k in (0, 1)]
    spec = spec_of(sides[0], (False, False, True, True, False, True))
    recipe = parse_recipe(
        {"base": "tabular_autoregressive", "family": {"model": {"network": "autoregressive", "ties": ties}}},
        "tabular",
    )
    recipe = penalised(fitted_to(recipe, ROWS), ROWS, spec)
    shown, never = ({"x": x.astype(np.int32), "condition": np.zeros((ROWS, 0), np.int64)} for x in sides)
    result = fit(recipe, spec, Resident(shown, seed=0), seed=0)
    family = make_family(recipe, spec)
    nets = family.build()
    nets["model"].load_state_dict({n.removeprefix("model."): t for n, t in result.weights.items()})
    assert isinstance(family, PartialConditioning)
    gains, nats = [], 0.0
    for arrays in (shown, never):
        batch = to_batch(arrays, spec, "cpu")
        likely = family.log_probability(nets, batch.x, batch.condition)
        shares = zip(spec.frequencies, batch.x.t(), strict=True)
        alone = [torch.tensor(share).clamp_min(1e-4).log()[x] for share, x in shares]
        gains.append((likely - torch.stack(alone, 1)).sum(1).numpy())
        nats = float(likely.sum(1).mean())
    return area(*gains)[0], nats


def test_columns_learnt_apart_do_not_tell_who_was_there() -> None:
    """By likelihood beside that of the columns alone, an attack which what is rare does not drown."""
    with torch.random.fork_rng(devices=[]):
        (tested, nats), (every, worse) = known("tested"), known("all")
    assert tested < 0.55 < 0.6 < every
    assert nats > worse  # unseen rows are no less likely
