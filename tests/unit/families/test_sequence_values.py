"""Likelihoods, temperature and known tokens of sequence models and trees against numbers worked out by hand.

A model that says the same at every position: token 0 with share ¼, token 1 with ¾ (logits 0 and ln 3).
"""

from __future__ import annotations

from itertools import pairwise
from math import exp, log, pi
from typing import Any

import pytest
import torch
from told import Told
from torch import Tensor, nn

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.families.sequence import SequenceConfig, SequenceModel
from genpipe.families.trees import Forest, Trees, TreesConfig
from genpipe.spec import UNOBSERVED, TensorSpec

LOGITS = [0.0, log(3)]
NONE = torch.zeros(2, 0).long()
TEXT = TensorSpec(layout="tokens", shape=(3,), dtype="int32", vocabulary=(2,))
X = torch.tensor([[1, 1, 0], [0, 1, 1]])
NATS = [2 * log(4 / 3) + log(4), log(4) + 2 * log(4 / 3)]  # of the two rows


class Same(nn.Module):
    """Says the same of every position, whatever came before."""

    def __init__(self, said: list[float]) -> None:
        super().__init__()
        self.said = torch.tensor(said)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.said.expand(len(x), x.shape[1], -1)

    def begin(self, c: Tensor) -> int:
        return len(c)

    def step(self, previous: Tensor | None, rows: int) -> tuple[Tensor, int]:
        return self.said.expand(rows, -1), rows


def text(**config: Any) -> SequenceModel:
    return SequenceModel(SequenceConfig(**config), TEXT)


def test_the_loss_is_nats_a_row_over_the_positions() -> None:
    found = text().loss("likelihood", {"model": Same(LOGITS)}, Batch(X, NONE), Draws(0, total=2))
    assert found["likelihood"].item() == pytest.approx(sum(NATS) / 2 / 3)


def test_padding_counts_nothing_in_the_loss_and_the_holdout() -> None:
    """Of row 1 two positions are real, of row 2 one: (2 ln 4/3 + ln 4) / 2 nats a row, 1.5 positions a
    row.
    """
    mask = torch.tensor([[True, True, False], [True, False, False]])
    batch, nets = Batch(X, NONE, mask), {"model": Same(LOGITS)}
    nats = (2 * log(4 / 3) + log(4)) / 2
    loss = text().loss("likelihood", nets, batch, Draws(0, total=2))["likelihood"].item()
    assert loss == pytest.approx(nats / 3)
    found = text().holdout_loss(nets, batch, Draws(0, total=2))
    assert found["nats"].item() == pytest.approx(nats)
    assert found["nats_per_position"].item() == pytest.approx(nats / 1.5)


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.25), (0.5, 0.1), (2.0, 1 / (1 + 3**0.5))])
def test_the_temperature_divides_the_logits(temperature: float, share: float) -> None:
    """Shares ¼ and ¾ to the power 1 / T: at ½ they are 1 : 9."""
    rows = 20_000
    family = SequenceModel(SequenceConfig(temperature=temperature), TEXT)
    x = family.sample({"model": Same(LOGITS)}, torch.zeros(rows, 0).long(), Draws(0, total=rows))
    assert (x == 0).float().mean().item() == pytest.approx(
        share, abs=0.008
    )  # 5 standard deviations of 3 x rows


def test_a_value_is_its_components_mean_with_noise_of_its_width_times_the_temperature() -> None:
    """Two components, means -.5 and .25, the second far likelier; width e⁻¹, noise 1, temperature ½."""
    spec = TensorSpec(layout="sequence", shape=(1, 1), dtype="float32")
    said = [0.0, -0.5, 0.0, 50.0, 0.25, -1.0]
    for temperature, noise, value in (
        (1.0, 1.0, 0.25 + exp(-1)),
        (0.5, 1.0, 0.25 + 0.5 * exp(-1)),
        (1.0, 9.0, 1.0),
    ):
        family = SequenceModel(SequenceConfig(temperature=temperature), spec)
        rng = Told(uniform=[[[0.5, 0.5]]], normal=[[[noise]]])
        x = family.sample({"model": Same(said)}, torch.zeros(1, 0).long(), rng)
        assert x.item() == pytest.approx(value)


def test_a_series_is_scored_by_its_mixture() -> None:
    """Equal weights, N(0, 1) and N(1, 1) at x = 0: -ln(½ (1 + e^-½) / √2π)."""
    spec = TensorSpec(layout="sequence", shape=(1, 1), dtype="float32")
    nets, row = {"model": Same([0.0, 0.0, 0.0, 0.0, 1.0, 0.0])}, Batch(torch.zeros(1, 1, 1), NONE[:1])
    found = SequenceModel(SequenceConfig(), spec).holdout_loss(nets, row, Draws(0, total=1))
    assert found["nats"].item() == pytest.approx(-log(0.5 * (1 + exp(-0.5)) / (2 * pi) ** 0.5))


TABLE = TensorSpec(layout="tokens", shape=(2,), dtype="int32", vocabulary=(2, 2), conditions=(2,))


def forest() -> dict[str, nn.Module]:
    """Column 1: ¼ and ¾ in class 0, ½ and ½ in class 1. Column 2 repeats column 1 with share .9."""
    made = Forest(TABLE, 2)
    made.feature[:] = torch.tensor([[1], [2]])  # of (0, class, column 1)
    made.left[:], made.right[:] = -1, -2
    made.shares[:] = torch.tensor([[0.25, 0.75, 0.9, 0.1], [0.5, 0.5, 0.1, 0.9]])
    return {"model": made}


def test_a_trees_odds_are_those_of_the_leaves_a_row_falls_into() -> None:
    told = torch.tensor([[0], [1], [1]])
    known = torch.tensor([[1, 1], [0, 1], [1, UNOBSERVED]])
    found = Trees(TreesConfig(), TABLE).log_probability(forest(), known, told)
    expected = [[log(0.75), log(0.9)], [log(0.5), log(0.1)], [log(0.5), 0.0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_trees_draw_the_shares_of_the_class_asked_for() -> None:
    """1,000 rows of a class are one stratum: its shares come out nearly exactly; at temperature ½ as 1 :
    9.
    """
    for asked, temperature, share in ((0, 1.0, 0.75), (1, 1.0, 0.5), (0, 0.5, 0.9)):
        told = torch.full((1000, 1), asked)
        family = Trees(TreesConfig(temperature=temperature), TABLE)
        x = family.sample(forest(), told, Draws(0, total=1000))
        assert x[:, 0].float().mean().item() == pytest.approx(share, abs=0.003)


def test_trees_keep_known_tokens_and_draw_the_rest_given_them() -> None:
    told = torch.zeros(1000, 1).long()
    known = torch.tensor([[0, UNOBSERVED]]).expand(1000, 2)
    x = Trees(TreesConfig(), TABLE).sample(forest(), told, Draws(0, total=1000), known)
    assert (x[:, 0] == 0).all() and (x[:, 1] == 0).float().mean().item() == pytest.approx(0.9, abs=0.003)


def test_trees_never_draw_a_barred_token() -> None:
    """`UNOBSERVED - 1 - c` bars token c of column 1; every row has the other."""
    known = torch.tensor([[UNOBSERVED - 1 - 1, UNOBSERVED]]).expand(500, 2)
    x = Trees(TreesConfig(), TABLE).sample(forest(), torch.zeros(500, 1).long(), Draws(0, total=500), known)
    assert (x[:, 0] == 0).all()


def test_a_leaf_of_a_default_tree_has_twenty_rows_and_as_many_of_its_parents() -> None:
    """40 rows, 20 of each class, whose code is the class: two leaves. Each weighs its 20 rows against 20 of
    the root's even shares: (20 + 10) / 40 = ¾. With 19 rows in a class there is no split. So few confirm
    none, so it is not asked.
    """
    spec = TensorSpec(layout="tokens", shape=(1,), dtype="int32", vocabulary=(2,), conditions=(2,))
    family = Trees(TreesConfig(prune=False), spec)
    for rows, share in ((20, 0.75), (19, 19 / 39)):
        told = (torch.arange(20 + rows) >= 20).long().unsqueeze(1)
        nets = family.build()
        family.finish(nets, Batch(told, told), Draws(0, total=len(told)))
        found = family.log_probability(nets, torch.tensor([[1]]), torch.tensor([[1]])).exp()
        assert found.item() == pytest.approx(share)


def test_each_position_waits_for_those_before_it() -> None:
    """A model that repeats: after token t it says t again. Rows begin at random and never change."""

    class Repeats(Same):
        def step(self, previous: Tensor | None, rows: int) -> tuple[Tensor, int]:
            if previous is None:
                return torch.zeros(rows, 2), rows
            return 50.0 * nn.functional.one_hot(previous, 2).float(), rows

    x = text().sample({"model": Repeats(LOGITS)}, torch.zeros(200, 0).long(), Draws(0, total=200))
    assert all(torch.equal(a, b) for a, b in pairwise(x.t())) and 60 < x[:, 0].sum() < 140


@pytest.mark.parametrize("seed", range(4))
def test_a_stretch_of_a_long_series_knows_where_in_the_season_it_begins(seed: int) -> None:
    spec = TensorSpec(layout="sequence", shape=(300, 1), dtype="float32", conditions=(2, 6), periods=(6, 3))
    seen = list[Tensor]()

    class Seen(nn.Module):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            seen.extend((x, c))
            return torch.zeros(*x.shape[:2], 3)  # a mixture of one

    begins = torch.tensor([0, 4, 5])
    x = ((begins[:, None] + torch.arange(300)) % 6).unsqueeze(-1) / 10
    batch = Batch(x, torch.stack([torch.tensor([1, 0, 1]), begins], 1))
    SequenceModel(SequenceConfig(), spec).loss("likelihood", {"model": Seen()}, batch, Draws(seed, total=3))
    stretch, told = seen
    assert stretch.shape == (3, 128, 1)
    assert told[:, :2].argmax(1).tolist() == [1, 0, 1]
    torch.testing.assert_close(told[:, 2:].argmax(1) / 10, stretch[:, 0, 0])
