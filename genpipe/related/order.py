"""What orders the rows of a parent: the differences learnt in its place, and its limits.

The limits are published with the model, so they are told only as far as `LEAST` entities reach.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.codecs.base import LEAST
from genpipe.codecs.holders import Crowd
from genpipe.fields import AnyField, Integer, Number
from genpipe.related.flatten import firsts, gaps
from genpipe.related.nodes import Order

FINE = 32  # to how many parts of it the greatest difference is told


def ordered(
    field: AnyField, column: pa.ChunkedArray, above: np.ndarray, family: np.ndarray
) -> tuple[Order, pa.Array, tuple[AnyField, pa.Array]]:
    """The order, its column within the limits, and what is learnt in its place. above, family: (N,) the
    parent of each row, in order, and the one without parents it descends from.
    """
    bare = Order(field=field, gap=f"since previous {field.name}", low=0, high=0)
    order = limited(bare, bare.ticks(column), family)
    column = order.values(bare.ticks(column))
    learnt: AnyField = Integer(name=order.gap, minimum=0)
    if isinstance(field, Number):
        learnt = Number(name=order.gap, minimum=0, decimals=field.decimals)
    first = firsts(above)
    found = order.rounded(gaps(order.ticks(column), first, order.low))
    widest = _widest(found[~first], family[~first])
    return order.model_copy(update={"widest": widest}), column, (learnt, pa.array(found))


def limited(order: Order, ticks: np.ndarray, who: np.ndarray) -> Order:
    """With the least and the greatest of the data as limits, as `Crowd.ends` tells them. who: (N,) the entity
    of each row. Of fewer than `LEAST` entities they are rounded outwards by the whole range.
    """
    crowd = Crowd.of(LEAST, ticks, ticks, (np.arange(len(ticks)), who))
    whole = np.issubdtype(ticks.dtype, np.integer)
    if crowd.enough():
        low, high = crowd.ends(0.0)
        if whole:  # whole minutes stay such
            some, grid = int(ticks[0]), max(1, int(np.gcd.reduce(np.diff(np.unique(ticks)))))
            low, high = some + (low - some) // grid * grid, some - (some - high) // grid * grid
    else:
        step = _power(max(1.0, float(ticks.max() - ticks.min())))
        low, high = np.floor(ticks.min() / step) * step, np.ceil(ticks.max() / step) * step
        low, high = (int(low), int(high)) if whole else (float(low), float(high))
    decimals = getattr(order.field, "decimals", None)
    if decimals is not None:
        low, high = round(low, decimals), round(high, decimals)
    return order.model_copy(update={"low": low, "high": high})


def _widest(steps: np.ndarray, who: np.ndarray) -> float | int:
    """The greatest difference that `LEAST` entities reach, rounded down; 0 where fewer have any."""
    ids, place = np.unique(who, return_inverse=True)
    if len(ids) < LEAST:
        return 0
    most = np.zeros(len(ids), steps.dtype)
    np.maximum.at(most, place, steps)
    reached = np.sort(most)[-LEAST].item()
    if reached <= 0:
        return 0
    step = max(1, int(_power(reached)) // FINE) if isinstance(reached, int) else _power(reached) / FINE
    return reached // step * step


def _power(size: float) -> float:
    """The greatest power of two that is not larger."""
    return float(2.0 ** np.floor(np.log2(size)))
