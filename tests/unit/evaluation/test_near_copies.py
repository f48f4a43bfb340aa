"""Near copies among many training rows: told where rows were moved a little, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from genpipe.evaluation.base import Points
from genpipe.evaluation.privacy.findings import Finding
from genpipe.evaluation.privacy.near_copies import Grid, NearCopies

ROWS, MADE = 120_000, 3_000


def rows(count: int, seed: int, wide: int = 9) -> Points:
    """Numbers and choices that hang together, as ranks and codes."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(count, 1))
    numeric = 1 / (1 + np.exp(-common - rng.normal(size=(count, wide))))
    codes = np.digitize(common + rng.normal(size=(count, 3)), np.linspace(-2, 2, 7))
    return Points(numeric, codes)


TRAIN, UNSEEN = rows(ROWS, 1), rows(8_000, 2)


def found(
    made: Points, train: Points = TRAIN, unseen: Points = UNSEEN, *, piece: int = 50_000, seed: int = 0
) -> Finding:
    near = NearCopies(made, unseen, np.arange(len(unseen)) % 2, len(train), seed)
    for at in range(0, len(train), piece):
        near.see(train[at : at + piece])
    return near.finding()


def copier(share: float, noise: float, seed: int = 3) -> Points:
    """Fresh rows, but for a share of training rows of anywhere whose numbers are moved."""
    rng, fresh, copied = np.random.default_rng(seed), rows(MADE, seed), int(share * MADE)
    at = rng.choice(ROWS, copied, replace=False)
    moved = TRAIN.numeric[at] + rng.normal(0, noise, (copied, TRAIN.numeric.shape[1]))
    return Points(
        np.concatenate([moved, fresh.numeric[copied:]]),
        np.concatenate([TRAIN.codes[at], fresh.codes[copied:]]),
    )


@pytest.mark.parametrize("noise", [0.001, 0.01])
@pytest.mark.parametrize("seed", [3, 4])
def test_a_tenth_of_rows_moved_a_little_is_found_among_all_training_rows(noise: float, seed: int) -> None:
    told = found(copier(0.1, noise, seed), seed=seed)
    assert told.leak and told.score.value == pytest.approx(0.1, abs=0.02)
    assert told.score.ceiling < 0.015 and told.score.error < 0.01
    assert "3,000 generated and 4,000 unseen rows, among all 120,000 training rows" in told.score.meaning
    assert "(others 1.0%)" in told.leak


@pytest.mark.parametrize("seed", range(5))
def test_fresh_rows_are_no_near_copies(seed: int) -> None:
    told = found(copier(0.0, 0.0, 10 + seed), seed=seed)
    assert not told.leak and told.score.value < 0.03


def test_pieces_of_any_size_find_the_same() -> None:
    made = copier(0.05, 0.003)
    assert found(made) == found(made, piece=7_001)


def test_a_training_row_counts_once_however_often_it_is_made() -> None:
    many = rows(MADE, 5)
    many.numeric[:600], many.codes[:600] = TRAIN.numeric[7] + 1e-4, TRAIN.codes[7]
    assert found(many).score.value < 0.03


def test_rows_of_a_lattice_are_excused() -> None:
    """Where unseen rows equal training rows as often, equal rows copy nobody."""

    def coarse(points: Points) -> Points:
        return Points(np.round(points.numeric[:, :2] * 40) / 40, points.codes[:, :1])

    assert not found(coarse(rows(MADE, 6)), coarse(TRAIN), coarse(UNSEEN)).leak


def test_rows_that_are_all_alike_are_excused() -> None:
    alike = Points(np.zeros((4_000, 2)), np.zeros((4_000, 1), np.int64))
    told = found(alike[:MADE], alike, alike)
    assert told.score.value is not None and not told.leak


@pytest.mark.parametrize("wide", [1, 3, 60])
def test_few_training_rows_share_a_cell_whatever_the_columns(wide: int) -> None:
    reference, train = (
        Points(rows(count, count, wide).numeric, np.zeros((count, 0), np.int64)) for count in (8_000, 40_000)
    )
    grid = Grid(reference, len(train), np.random.default_rng(0))
    mine, theirs = np.unique(grid.keys(reference)), grid.keys(train)
    counts = np.unique(theirs, return_counts=True)[1]
    assert len(mine) > 100 and float((counts**2).sum() / len(train)) < 80
