"""Numbers that must never move: what a seed draws, how records are scaled, how conditions are dealt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genpipe.batch import one_hot, to_arrays, to_batch
from genpipe.codecs.conditions import ConditionTable, spread_draws
from genpipe.draws import GOLDEN, Draws, cumulated
from genpipe.seeds import derive, drawn, numpy_rng
from genpipe.spec import TensorSpec

PICTURE = TensorSpec(layout="grid", shape=(1, 1, 4), dtype="uint8")


def test_the_children_of_a_seed_are_what_they_have_always_been() -> None:
    """BLAKE2 of the length-prefixed path, 8 bytes, the lowest bit dropped: written down once."""
    assert [derive(0), derive(0, "train", 3), derive(7, "generate", 0)] == [
        1887154467326967967,
        3614011334049776152,
        3222287885776454482,
    ]
    assert derive(0, "a", "bc") != derive(0, "ab", "c") and derive(0, 1) != derive(0, "1")
    assert all(0 <= derive(seed, "x") < 2**63 for seed in range(50))


def test_the_streams_are_what_they_have_always_been() -> None:
    assert numpy_rng(0, "order", 0).integers(1000, size=4).tolist() == [278, 873, 681, 966]
    assert Draws(0, "train", total=3).integers(1000).tolist() == [938, 583, 606]


def test_places_are_drawn_without_replacement_and_in_order() -> None:
    found = drawn(np.random.default_rng(0), 50, 20)
    assert len(set(found.tolist())) == 20 and (np.diff(found) > 0).all()
    assert drawn(np.random.default_rng(0), 5, 20).tolist() == [0, 1, 2, 3, 4]


def test_pixels_are_scaled_to_one_and_back() -> None:
    """0 and 255 are -1 and 1; 51 is a fifth of the way: -.6."""
    pixels = np.array([[[[0, 51, 204, 255]]]], dtype=np.uint8)
    batch = to_batch({"x": pixels}, PICTURE)
    assert batch.x.flatten().tolist() == pytest.approx([-1.0, -0.6, 0.6, 1.0])
    assert (to_arrays(batch.x, batch.condition, PICTURE)["x"] == pixels).all()
    wide = torch.tensor([[[[-1.5, -0.597, 0.597, 1.5]]]])  # rounded to the nearest, and cut
    assert to_arrays(wide, batch.condition, PICTURE)["x"].flatten().tolist() == [0, 51, 204, 255]


def test_classes_become_one_hot_side_by_side() -> None:
    found = one_hot(torch.tensor([[1, 0], [0, 2]]), (2, 3))
    assert found.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]


def test_even_draws_walk_the_golden_ratio() -> None:
    """Four rows that are alike, shares .3 and .7: uniform u, u + φ, u + 2 φ, u + 3 φ without their whole
    parts, dealt in a random order.
    """
    rng = Draws(3, "walk", total=4)
    start, order = torch.rand(1, generator=rng.generator), rng.order(4).tolist()
    walk = [float((start + order.index(row) * GOLDEN).frac()) for row in range(4)]
    upto = cumulated(torch.tensor([[0.3, 0.7]]).log().repeat(4, 1))
    found = Draws(3, "walk", total=4).systematic(upto, torch.zeros(4).long())
    assert found.tolist() == [int(u >= 0.3) for u in walk]


@pytest.mark.parametrize("rows", [10, 13, 400])
def test_classes_are_dealt_to_within_one_row_of_their_share(rows: int) -> None:
    found = spread_draws(np.array([1, 2, 7]), rows, np.random.default_rng(0))
    assert np.abs(np.bincount(found, minlength=3) - rows * np.array([0.1, 0.2, 0.7])).max() < 1
    assert (np.diff(found) < 0).any()  # in random order


def test_pairs_of_classes_are_drawn_as_often_as_they_occur_together() -> None:
    """(a, x) 3, (b, y) 1, and never (a, y)."""
    table = ConditionTable.from_counts(("one", "two"), {("a", "x"): 3, ("b", "y"): 1})
    found = table.draw(400, np.random.default_rng(0))
    assert np.unique(found, axis=0, return_counts=True)[1].tolist() == [300, 100]
    assert (found[:, 0] == found[:, 1]).all()
