"""Cells and scores fitted to a column: which values are atoms, where bins are cut, where knots lie.

Where a crowd is given, what is written down is no single entity's value: atoms are those that k entities
have; ends, cuts, edges and knots are round numbers near which k are (holders.py); no bin holds fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np

from genpipe.codecs.holders import Crowd
from genpipe.codecs.scale import Axis, Cells, Score, bin_levels, make_axis
from genpipe.codecs.sketch import combine, quantiles

PIECES = 8  # pieces of a bin
# fewer rows would make edges of single training values
ROWS_PER_BIN, ROWS_PER_TAIL_BIN, ROWS_PER_PIECE = 20, 10, 5
FOLDED = 0.1  # so few of the rows of a column of few values get no bins: these would be wide and learn little
LOST_VARIANCE = 1e-4  # share of a column's variance one bin may turn into noise
KNOTS = np.linspace(0.0, 1.0, 65)[1:-1]
DEEPEST = 4_000  # a score's outermost knot is at least 1/(2 * DEEPEST) inside the tail


def _cut_levels(where: np.ndarray, weights: np.ndarray, number: int) -> np.ndarray:
    """Levels of the bins' cuts: even, then bins halved while a draw inside them costs correlation.

    Such a draw turns about mass * width**2 / 6 of a column's variance into noise: little in the middle,
    nearly everything in the tail of a skewed column.
    """
    total = weights.sum()
    mean = (where * weights).sum() / total
    variance = max(((where - mean) ** 2 * weights).sum() / total, np.finfo(float).tiny)
    levels = np.linspace(0.0, 1.0, number + 1)
    for _ in range(12):
        width, mass = np.diff(quantiles(where, weights, levels)), np.diff(levels)
        split = (mass * width**2 / 6 > LOST_VARIANCE * variance) & (mass * total >= 2 * ROWS_PER_TAIL_BIN)
        if not split.any():
            break
        levels = np.sort(np.concatenate([levels, (levels[:-1] + levels[1:])[split] / 2]))
    return levels


def make_cells(
    points: np.ndarray,
    counts: np.ndarray,
    axis: Axis,
    *,
    bins: int,
    crowd: Crowd | None = None,
    held: np.ndarray | None = None,
) -> Cells:
    """points ascending with their counts in a sample of the training rows; see the module docstring.

    crowd: whose the points are, and held: (P,) whether enough entities have each; None = keep them all.
    """
    few = len(points) <= 2 * bins
    often = np.ones(len(points), bool) if few else (counts >= 0.25 / bins * counts.sum()) & (counts >= 5)
    if held is not None:
        often &= held
    if often.sum() > 2 * bins:
        often &= counts >= np.sort(counts[often])[-2 * bins]
    atoms, rest, weights = points[often], points[~often], counts[~often]
    origin = axis.low if axis.whole else 0.0
    cells = Cells(atoms, np.zeros((0, 2)), 1, axis.whole, origin)
    if crowd is not None:
        crowd = crowd.only(~np.isin(crowd.points, atoms))
        if not crowd.enough() or (few and weights.sum() <= FOLDED * counts.sum()):
            return cells  # the others count as the nearest of these
        crowd = crowd.at(cells.coordinate(crowd.points))
    if not len(rest):
        return cells
    limits = (0, axis.high - origin - len(atoms)) if axis.whole else (axis.low, axis.high)
    return replace(cells, **_binned(cells.coordinate(rest), weights, limits, axis.whole, bins, crowd))


def _binned(
    where: np.ndarray,
    weights: np.ndarray,
    limits: tuple[float, float],
    whole: bool,
    bins: int,
    crowd: Crowd | None,
) -> dict[str, Any]:
    """edges and pieces of the bins of points at these coordinates, ascending and within limits."""
    total, half = int(weights.sum()), 0.5 * whole
    per_piece, ends = ROWS_PER_PIECE, (where[0], where[-1])
    if crowd is not None:
        per_piece, ends = max(per_piece, 4 * crowd.k), np.clip(crowd.ends(2.0 * half), *limits)
        where = np.clip(where, *ends)
    cuts = quantiles(
        where, weights, _cut_levels(where, weights, int(np.clip(total // ROWS_PER_BIN, 1, bins)))
    )
    if crowd is not None:
        cuts = np.clip(crowd.snapped(cuts, shift=-half, unit=2.0 * half), ends[0] - half, ends[1] + half)
    elif whole:
        cuts = np.floor(cuts) + 0.5
    cuts[0], cuts[-1] = ends[0] - half, ends[1] + half
    cuts = np.unique(cuts)
    if crowd is not None:
        cuts = _joined(cuts, crowd)
    if len(cuts) == 1:  # one real number, too rare to be an atom
        cuts = np.repeat(cuts, 2)
    # levels of the cuts themselves, so that pieces of merged bins hold equal shares as well
    upto = np.concatenate([[0], np.cumsum(weights)])
    at = upto[np.searchsorted(where, cuts, side="right")] / total
    at[0] = 0.0
    number = len(cuts) - 1
    pieces = int(np.clip(total // number // per_piece, 1, PIECES))
    while True:
        inner = bin_levels(number, pieces)
        levels = at[:-1, None] + inner * np.diff(at)[:, None]
        edges = quantiles(where, weights, levels)
        if crowd is not None and pieces > 1:
            snapped = crowd.snapped(edges[:, 1:-1].ravel(), shift=-half, unit=2.0 * half)
            edges[:, 1:-1] = np.sort(snapped.reshape(number, -1), axis=1)
        edges = np.clip(edges, cuts[:-1, None], cuts[1:, None])
        edges[:, 0], edges[:, -1] = cuts[:-1], cuts[1:]
        # pieces that round to nothing would draw a number that nobody has, again and again
        lost = (np.diff(inner, axis=1) * (np.diff(edges, axis=1) == 0)).sum(1).max() * total / number
        if pieces == 1 or crowd is None or lost < crowd.k:
            return {"edges": edges, "pieces": pieces}
        pieces -= 1


def _joined(cuts: np.ndarray, crowd: Crowd) -> np.ndarray:
    """The cuts that are left when bins of too few entities are joined with the next."""
    at = np.searchsorted(crowd.points, cuts, side="right")
    at[0], at[-1] = 0, len(crowd.points)
    kept = [0]
    for i in range(1, len(cuts) - 1):
        if crowd.among(at[kept[-1]], at[i]) >= crowd.k:
            kept.append(i)
    while len(kept) > 1 and crowd.among(at[kept[-1]], at[-1]) < crowd.k:
        kept.pop()
    return cuts[[*kept, len(cuts) - 1]] if len(cuts) > 1 else cuts


def make_score(
    points: np.ndarray, counts: np.ndarray, ends: Sequence[float], crowd: Crowd | None = None
) -> Score:
    """points: ascending, within two different ends. crowd: whose they are; None = any may be a knot."""
    deepest = int(np.clip(counts.sum() // ROWS_PER_PIECE, 10, DEEPEST))
    tail = 0.5 ** np.arange(7, int(np.log2(2 * deepest)) + 1)
    levels = np.unique(np.concatenate([[0.5 / deepest, 1 - 0.5 / deepest], tail, KNOTS, 1 - tail]))
    levels = levels[(levels >= 0.5 / deepest) & (levels <= 1 - 0.5 / deepest)]
    at = quantiles(points, counts, levels)
    if crowd is not None:
        at = np.sort(np.clip(crowd.snapped(at), ends[0], ends[1]))  # rounding may change their order
    at[0], at[-1] = ends
    knots, back, times = np.unique(at, return_inverse=True, return_counts=True)
    normal = NormalDist()
    level = np.zeros(len(knots))
    np.add.at(level, back, levels)
    scores = np.array([normal.inv_cdf(p) for p in level / times])
    return Score(knots, 2.0 * (scores - scores[0]) / (scores[-1] - scores[0]) - 1.0)


def within(axis: Axis, crowd: Crowd) -> Axis:
    """The axis with ends that are no single entity's, within the limits of the schema."""
    low, high = crowd.at(axis.places(crowd.points)).ends(float(axis.whole))
    if axis.step:
        low, high = (max(-(2**63), min(2**63 - 1, end * axis.step)) for end in (low, high))
    elif axis.decimals is not None:
        low, high = low / 10.0**axis.decimals, high / 10.0**axis.decimals
    return make_axis(axis.field, step=axis.step, low=low, high=high)


def fit_score(points: np.ndarray, counts: np.ndarray, axis: Axis, crowd: Crowd | None) -> Score | None:
    """The score of the values that are no modes; None where modes are all there is."""
    origin = axis.low if axis.whole else 0.0
    where = (points - origin).astype(np.float64)
    if crowd is not None:
        crowd = crowd.only(np.isin(crowd.points, points))
        if not crowd.enough():
            return None
        crowd = crowd.at((crowd.points - origin).astype(np.float64))
        ends = np.clip(crowd.ends(float(axis.whole)), axis.low - origin, axis.high - origin)
        where, counts = combine(np.clip(where, *ends), counts)
        if ends[0] < ends[1]:
            return make_score(where, counts, ends, crowd)
        return None
    return make_score(where, counts, (where[0], where[-1])) if len(where) > 1 else None
