"""Table columns one after the other: where the network begins, and what calibration mends."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from genpipe.batch import Batch, one_hot
from genpipe.bundle.observed import draw_condition
from genpipe.codecs.conditions import ConditionTable
from genpipe.draws import Draws
from genpipe.errors import QualityError
from genpipe.families.sequence import SequenceConfig, SequenceModel, evenly
from genpipe.networks.autoregressive import (
    MOST_WEIGHTS,
    AutoregressiveConfig,
    Columns,
    LookedUp,
    Multiplied,
)
from genpipe.networks.head import alike
from genpipe.spec import UNOBSERVED, TensorSpec

SHARES = ((0.7, 0.2, 0.1), tuple([0.05] * 20), (0.5, 0.5))
SPEC = TensorSpec(
    layout="tokens",
    shape=(3,),
    dtype="int32",
    vocabulary=(3, 20, 2),
    frequencies=SHARES,
    ordered=(False, True, False),
    conditions=(2,),
)
ROWS = 4000


def model(seed: int = 0) -> tuple[SequenceModel, Columns]:
    torch.manual_seed(seed)
    family = SequenceModel(SequenceConfig(model=AutoregressiveConfig(embed=8, width=8)), SPEC)
    net = family.build()["model"]
    assert isinstance(net, Columns)
    return family, net


def condition() -> torch.Tensor:
    return torch.arange(ROWS).unsqueeze(1) % 2


def calibrate(family: SequenceModel, net: Columns) -> None:
    rows = Batch(torch.zeros(ROWS, 3, dtype=torch.long), condition())
    family.finish({"model": net}, rows, Draws(0, "finish", total=ROWS))


def shares_of(x: torch.Tensor, position: int) -> torch.Tensor:
    return torch.bincount(x[:, position], minlength=SPEC.vocabulary[position]) / len(x)


def test_heads_begin_at_the_marginals() -> None:
    _, net = model()
    x = torch.stack([torch.randint(0, v, (64,)) for v in SPEC.vocabulary], 1)
    with torch.no_grad():
        logits = net(x, one_hot(condition()[:64], SPEC.conditions))
    for group, each in zip(alike(SPEC.vocabulary), logits, strict=True):
        for t, predicted in zip(group, each.softmax(-1).mean(1), strict=True):
            shares = torch.tensor(SHARES[t])
            torch.testing.assert_close(predicted[: len(shares)], shares, atol=0.02, rtol=0)
            assert not predicted[len(shares) :].any()


def test_near_values_begin_with_near_embeddings_and_only_ordered_ones() -> None:
    _, net = model()
    table = net.inlet.embed.weight.detach()
    ordered, free = table[3:23], table[23:25]
    steps = (ordered[1:] - ordered[:-1]).norm(dim=1)
    assert float(steps.max()) < float((ordered[0] - ordered[-1]).norm())
    assert float(free.abs().max()) < 1  # drawn at random, small


def test_embeddings_are_no_wider_than_the_values() -> None:
    _, net = model()
    assert net.before.shape == (3 * 8, 3 + 8 + 2)


def test_calibration_brings_the_shares_back() -> None:
    family, net = model()
    with torch.no_grad():
        net.outlet.bias(0)[0] -= 1.0
        net.outlet.bias(1)[:10] += 1.0
        net.outlet.bias(2)[1] += 2.0
    rng = Draws(0, "before", total=ROWS)
    off = family.sample({"model": net}, condition(), rng)
    calibrate(family, net)
    mended = family.sample({"model": net}, condition(), Draws(0, "after", total=ROWS))
    for t, shares in enumerate(SHARES):
        wanted = torch.tensor(shares)
        assert float((shares_of(off, t) - wanted).abs().sum()) > 0.2
        assert float((shares_of(mended, t) - wanted).abs().sum()) < 0.02


def test_calibration_is_the_same_each_time() -> None:
    biases = []
    for _ in range(2):
        family, net = model()
        calibrate(family, net)
        biases.append(torch.cat([net.outlet.bias(t).detach() for t in range(3)]))
    assert torch.equal(*biases)


def test_no_column_sees_itself_or_later_ones_and_in_another_order_those_before_it() -> None:
    torch.manual_seed(0)
    config = AutoregressiveConfig(embed=8, width=8, order="any")
    net = SequenceModel(SequenceConfig(model=config), SPEC).build()["model"]
    with torch.no_grad():  # heads that begin at zero would hide what the units see
        for k in range(len(alike(SPEC.vocabulary))):
            net.outlet.get_parameter(f"weight_{k}").normal_()  # type: ignore[operator, union-attr]
    x, told = torch.randint(0, 2, (1, 3)), torch.zeros(1, 2)
    positions = [t for group in alike(SPEC.vocabulary) for t in group]

    def depends(order: torch.Tensor | None) -> list[list[bool]]:
        """[t][s]: whether column t's logits move with column s."""
        rows = []
        for changed in range(3):
            other = x.clone()
            other[0, changed] = 1 - other[0, changed]
            with torch.no_grad():
                both = zip(net(x, told, order), net(other, told, order), strict=True)
                moved = [bool((a[i] != b[i]).any()) for a, b in both for i in range(len(a))]
            rows.append([moved[positions.index(t)] for t in range(3)])
        return [list(column) for column in zip(*rows, strict=True)]

    no, yes = False, True
    assert depends(None) == [[no, no, no], [yes, no, no], [yes, yes, no]]
    assert depends(torch.tensor([2, 0, 1])) == [[no, no, yes], [yes, no, yes], [no, no, no]]


@pytest.mark.parametrize("given", [False, True])
def test_sums_of_looked_up_rows_are_the_matrix_product(given: bool) -> None:
    """Few rows are multiplied, many looked up; each column's logits are those of the whole pass."""
    spec = SPEC.model_copy(update={"shape": (3,)})
    torch.manual_seed(0)
    net = Columns(spec, AutoregressiveConfig(embed=8, width=8, order="any" if given else "fixed"))
    rng = torch.Generator().manual_seed(1)
    x = torch.stack([torch.randint(v, (40,), generator=rng) for v in spec.vocabulary], 1)
    known = torch.where(torch.rand(x.shape, generator=rng) < 0.5, x, UNOBSERVED) if given else None
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.3)
        for rows, way in ((10, Multiplied), (40, LookedUp)):
            c = one_hot(condition()[:rows], spec.conditions)
            state = net.begin(c, None if known is None else known[:rows])
            assert type(state.before) is way
            previous = None
            for t in range(3):
                there = torch.arange(3) < t if known is None else (torch.arange(3) < t) | (known[:rows] >= 0)
                logits, state = net.step(previous, state)
                whole = net(
                    x[:rows], c, torch.arange(3).roll(-t - 1) if given else None, there.expand(rows, 3)
                )
                k, i = net.outlet.place[t]
                torch.testing.assert_close(logits, whole[k][i, :, : logits.shape[1]], atol=1e-5, rtol=1e-4)
                previous = x[:rows, t]


def test_the_first_layer_never_outgrows_its_limit() -> None:
    wide = SPEC.model_copy(
        update={"shape": (600,), "vocabulary": (40,) * 600, "frequencies": (), "ordered": ()}
    )
    net = Columns(wide, AutoregressiveConfig())
    assert MOST_WEIGHTS / 2 < net.before.numel() <= MOST_WEIGHTS * 1.3
    assert net(torch.zeros(2, 600, dtype=torch.long), torch.zeros(2, 2))[0].shape == (600, 2, 40)


@cache
def any_order_model() -> tuple[SequenceModel, dict[str, torch.nn.Module]]:
    """A network that learnt: c is fair, column 0 is c or, one time in four, its opposite; column 1 is column
    0 with a coin; column 2 is column 0's opposite one time in ten.
    """
    spec = TensorSpec(
        layout="tokens",
        shape=(3,),
        dtype="int32",
        vocabulary=(2, 4, 2),
        frequencies=((0.5, 0.5), (0.25,) * 4, (0.5, 0.5)),
        ordered=(False, False, False),
        conditions=(2,),
    )
    g = torch.Generator().manual_seed(1)
    c = torch.randint(0, 2, (8192,), generator=g)
    first = c ^ (torch.rand(8192, generator=g) < 0.25).long()
    second = 2 * first + torch.randint(0, 2, (8192,), generator=g)
    third = first ^ (torch.rand(8192, generator=g) < 0.1).long()
    x = torch.stack([first, second, third], 1)
    torch.manual_seed(0)
    config = AutoregressiveConfig(embed=8, width=16, order="any")
    family = SequenceModel(SequenceConfig(model=config), spec)
    nets = family.build()
    optimizer = torch.optim.Adam(nets["model"].parameters(), lr=1e-2)
    for step in range(500):
        rows = torch.randint(0, 8192, (512,), generator=g)
        batch = Batch(x[rows], c[rows].unsqueeze(1))
        loss = sum(family.loss("likelihood", nets, batch, Draws(0, step, total=512)).values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    return family, nets


def test_known_columns_shape_those_before_them_and_the_condition() -> None:
    family, nets = any_order_model()
    assert family.takes_observed == "any"
    rows = 4096
    known = torch.full((rows, 3), UNOBSERVED)
    known[:, 2] = 1
    told = torch.full((rows, 1), UNOBSERVED)
    table = ConditionTable(names=("c",), values=(("0", "1"),), cells=((0, 1), (1, 1)))
    drawn = draw_condition(family, nets, table, known, told, Draws(0, "c", total=rows))
    # p(c = 1 | third = 1) = .75 * .9 + .25 * .1
    assert abs(float(drawn.float().mean()) - 0.7) < 0.03
    x = family.sample(nets, drawn, Draws(0, "x", total=rows), known)
    assert bool((x[:, 2] == 1).all())
    assert abs(float(x[:, 0].float().mean()) - 0.9) < 0.03
    assert float((x[:, 1] // 2 == x[:, 0]).float().mean()) > 0.97


def test_a_barred_token_is_never_drawn_and_odds_add_up() -> None:
    family, nets = any_order_model()
    rows = 2048
    known = torch.full((rows, 3), UNOBSERVED)
    known[:, 1] = UNOBSERVED - 1 - 3
    condition = torch.ones(rows, 1, dtype=torch.long)
    x = family.sample(nets, condition, Draws(0, total=rows), known)
    assert 3 not in x[:, 1] and {0, 1, 2} <= set(x[:, 1].tolist())
    every = torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(2))
    odds = family.log_probability(nets, every, torch.ones(16, 1, dtype=torch.long))
    assert abs(float(odds.sum(1).exp().sum()) - 1) < 1e-4
    partly = every.clone()
    partly[:, :2] = UNOBSERVED
    alone = family.log_probability(nets, partly, torch.ones(16, 1, dtype=torch.long))
    assert not alone[:, :2].any()
    assert abs(float(alone[1, 2].exp()) - 0.7) < 0.03  # p(third = 1 | c = 1)


def test_a_fixed_order_takes_first_columns_only() -> None:
    family, net = model()
    assert family.takes_observed == "first"
    known = torch.full((ROWS, 3), UNOBSERVED)
    known[:, 0] = 2
    x = family.sample({"model": net}, condition(), Draws(0, total=ROWS), known)
    assert bool((x[:, 0] == 2).all()) and len(set(x[:, 1].tolist())) == 20


def test_weights_that_are_not_finite_are_named() -> None:
    family, net = model()
    net.outlet.bias(1).data[0] = torch.nan
    with pytest.raises(QualityError, match="numbers that are not finite"):
        family.sample({"model": net}, condition(), Draws(0, total=ROWS))


def test_conditions_are_thinned_class_by_class() -> None:
    many = (torch.arange(10_000) % 10 < 3).long().unsqueeze(1)
    few = evenly(many, 1000)
    assert few.shape == (1000, 1) and int(few.sum()) == 300
    assert evenly(many[:50], 1000).shape == (50, 1)
    assert evenly(torch.zeros(10_000, 0, dtype=torch.long), 1000).shape == (1000, 0)
