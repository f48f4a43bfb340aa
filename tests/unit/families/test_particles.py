"""Gaps of a series: what is drawn fits what is given after them."""

from __future__ import annotations

import math

import pytest
import torch

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.families.particles import has_gaps, resampled
from genpipe.families.sequence import SequenceConfig, SequenceModel
from genpipe.networks.recurrent import RecurrentConfig
from genpipe.spec import TensorSpec

SPEC = TensorSpec(layout="sequence", shape=(8, 2), dtype="float32")


def walks(rows: int, seed: int) -> torch.Tensor:
    """Two channels that walk by steps of .1, and begin anywhere."""
    g = torch.Generator().manual_seed(seed)
    start = torch.rand(rows, 1, 2, generator=g) - 0.5
    return (start + 0.1 * torch.randn(rows, 8, 2, generator=g).cumsum(1)).clamp(-1, 1)


def test_what_is_given_after_a_gap_makes_it_one() -> None:
    observed = torch.full((1, 5, 2), math.nan)
    assert not has_gaps(observed)
    observed[:, :2] = 0.0
    assert not has_gaps(observed)
    observed[:, 4, 1] = 0.0
    assert has_gaps(observed)


def test_particles_go_on_as_often_as_their_weight_says() -> None:
    weight = torch.tensor([[0.75, 0.25, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]]).log()
    found = resampled(weight, Draws(0, total=8))
    assert torch.bincount(found[0], minlength=4).tolist() == [3, 1, 0, 0]
    assert found[1].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_walk_comes_to_where_it_is_given(cell: str) -> None:
    """The bridge of a walk lies half way between its ends; drawn without them it stays where it began."""
    torch.manual_seed(0)
    family = SequenceModel(
        SequenceConfig(model=RecurrentConfig(cell=cell, width=16, channels="in turn")), SPEC
    )
    nets = family.build()
    adam, data = torch.optim.Adam(nets["model"].parameters(), lr=0.01), walks(512, 0)
    for step in range(150):
        adam.zero_grad()
        batch = Batch(data, torch.zeros(512, 0).long())
        family.loss("likelihood", nets, batch, Draws(0, step, total=512))["likelihood"].backward()
        adam.step()
    given = torch.full((200, 8, 2), math.nan)
    given[:, 0], given[:, 4:] = 0.0, 0.3
    none = torch.zeros(200, 0).long()
    made = family.sample(nets, none, Draws(1, total=200), given)
    assert (made[:, 0] == 0).all() and (made[:, 4:] == torch.tensor(0.3)).all()
    middle, spread = made[:, 2].mean(0), made[:, 2].std(0)
    assert ((middle - 0.15).abs() < 0.05).all()  # forward alone: 0, within .02
    assert ((spread > 0.06) & (spread < 0.14)).all()  # of the bridge .1; of a walk .14
    assert torch.equal(made, family.sample(nets, none, Draws(1, total=200), given))
