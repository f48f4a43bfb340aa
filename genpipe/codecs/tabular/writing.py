"""Numbers whose way of being written follows from the rest of their row, and the ladder each is learnt on.

All shares of one year have two decimals, those of another six; a discount of a fifth makes prices of three.
Drawn for each number by itself, a person sees at once that such a row is made up. So where other columns
tell which steps of a ladder (1, 10, 100 .., with the fives between where they are preferred) divide a number,
the last one that does is a token of its own, learnt given all before it (endings.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from genpipe.codecs.endings import steps
from genpipe.codecs.scale import make_axis
from genpipe.codecs.sketch import Sample
from genpipe.codecs.tabular.numeric import NumberStats

ROWS, FEWEST = 8_000, 1_000  # looked at; of values without a token of their own
COLUMNS = 60  # of a table, the first ones
HIGHEST = 10**9
SEEN, PREFERRED = 0.02, 0.05  # share of rows on a step of tens; of multiples of five beyond those by chance
OFTEN = 0.0025  # share of the rows of a value that has a token of its own anyway
LEFT = 0.2  # share of the rows whose values have none
BINS, GROUPS = 20, 8  # of the number itself; of another column
GAIN = 0.05  # nats a row that another column must tell
SURE = 6.0  # standard deviations beyond chance


def ladders(
    fields: Iterable[Any], numbers: Mapping[str, NumberStats], sample: Sample
) -> dict[str, tuple[int, ...]]:
    """Of each number whose writing another column tells, the ladder; () of the others is left out."""
    told: dict[str, np.ndarray] = {}
    points: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for field in [f for f in fields if f.name in numbers][:COLUMNS]:
        values, valid = (sample.payload[name][:ROWS] for name in (field.name, f"{field.name}?"))
        if not valid.any():
            continue
        told[field.name] = _grouped(values, valid, GROUPS)
        number = numbers[field.name]
        if field.kind in ("integer", "number") and number.low is not None and number.high is not None:
            axis = make_axis(field, step=number.step, low=number.low, high=number.high)
            if axis.whole:
                points[field.name] = axis.places(values), valid
    free = {name: valid & _seldom(at) for name, (at, valid) in points.items()}
    rungs = {
        name: found
        for name, (at, _) in points.items()
        if free[name].sum() >= max(FEWEST, LEFT * len(at)) and len(found := _ladder(at[free[name]])) > 1
    }
    last = {name: np.where(points[name][1], steps(points[name][0], r), 0) for name, r in rungs.items()}
    out = {}
    for name, rung in rungs.items():
        rows = free[name]
        own = _grouped(points[name][0][rows], rows[rows], BINS) * len(rung) + last[name][rows]
        others = [o for n, o in told.items() if n != name] + [o for n, o in last.items() if n != name]
        if any(_tells(own, len(rung), other[rows]) for other in others):
            out[name] = rung
    return out


def _seldom(values: np.ndarray) -> np.ndarray:
    """(B,) whether a value is rare enough to have no token of its own."""
    _, back, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: np.ndarray = counts[back] < OFTEN * len(values)
    return found


def _ladder(points: np.ndarray) -> tuple[int, ...]:
    """The steps that enough of the points lie on."""
    found, ten = [1], 1
    while ten < HIGHEST:
        on = points[(points % ten == 0) & (points % (10 * ten) != 0)]
        if len(on) >= SEEN * len(points) and abs(np.mean(on % (5 * ten) == 0) - 1 / 9) > PREFERRED:
            found.append(5 * ten)
        ten *= 10
        if np.mean(points % ten == 0) < SEEN:
            break
        found.append(ten)
    return tuple(found)


def _grouped(values: np.ndarray, valid: np.ndarray, groups: int) -> np.ndarray:
    """(B,) the quantile group of each value; what is missing is one of its own."""
    cuts = np.unique(np.quantile(values[valid], np.arange(1, groups) / groups))
    return np.where(valid, np.searchsorted(cuts, values, side="right"), groups)


def _tells(own: np.ndarray, size: int, other: np.ndarray) -> bool:
    """Whether `other` tells the step (own % size) inside the bins (own // size): their information, less what
    chance gives it.
    """
    groups = int(other.max()) + 1
    places = own // size * (groups * size) + other * size + own % size
    table = np.bincount(places, minlength=BINS * groups * size).reshape(BINS, groups, size)
    return _information(table) > GAIN


def _information(table: np.ndarray) -> float:
    """Nats a row that the second axis tells of the third given the first; 0 where chance may be all of it."""
    rows = table.sum()
    parts = [
        table,
        table.sum(1, keepdims=True),
        table.sum(2, keepdims=True),
        table.sum((1, 2), keepdims=True),
    ]
    found = sum(
        sign * float((p * np.log(np.maximum(p, 1))).sum())
        for sign, p in zip((1, -1, -1, 1), parts, strict=True)
    )
    used = [(t.any(0).sum() - 1) * (t.any(1).sum() - 1) for t in table if t.any()]
    free = float(sum(used))
    excess = 2.0 * found - free
    return excess / 2.0 / rows if excess > SURE * np.sqrt(2.0 * max(free, 1.0)) else 0.0
