"""What a page may tell of real rows: of many at once, never of fewer than five entities.

A bar, a bin, a band, an end of an axis is a statement about somebody where few are in it; an entity with many
rows is one, whatever its rows are like.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.codecs.holders import Crowd, entities
from genpipe.schema import Schema

CROWD = 5  # entities: as many as a codec asks for (`codec.rare_below`)


def whose(table: pa.Table, schema: Schema) -> np.ndarray:
    """(N,) which entity each row is of, as a number."""
    if not schema.about:
        return np.arange(table.num_rows)
    batches = table.select(list(schema.about)).combine_chunks().to_batches()
    keys = [entities(batch, schema) for batch in batches]
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *(k for k in keys if k is not None)]),
                     return_inverse=True)[1]  # fmt: skip


def crowded(places: np.ndarray, who: np.ndarray, number: int) -> np.ndarray:
    """(number,) whether enough entities are in each place. places: (N,) the place of each row, from 0."""
    pairs = np.unique(np.stack([places, who]), axis=1)
    return np.bincount(pairs[0], minlength=number) >= CROWD


def ends(
    values: np.ndarray, who: np.ndarray, shares: tuple[float, float] = (0.01, 0.99)
) -> tuple[float, float] | None:
    """Where a chart of these values begins and ends: about these quantiles, moved to round numbers
    with enough entities near, and with as many beyond. None where there are too few.
    """
    if not len(values):
        return None
    crowd = Crowd(CROWD, values, who).sorted()
    if not crowd.enough():
        return None
    first, last = (float(v) for v in crowd.ends(0.0))
    low, high = np.clip(crowd.snapped(np.quantile(values, shares)), first, last).tolist()
    low, high = (low, high) if low < high else (first, last)
    return low, high if high > low else low + 1.0


def bins(values: np.ndarray, who: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(bins,) share of the values in each bin, those beyond the edges in the outer ones; 0 of few."""
    at = np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)
    shares = np.bincount(at, minlength=len(edges) - 1) / max(1, len(values))
    return np.where(crowded(at, who, len(shares)), shares, 0.0)


def bands(values: np.ndarray, who: np.ndarray) -> np.ndarray | None:
    """(3, T) the 10 %, 50 % and 90 % quantiles of (N, T) values, each the mean of so many in order around it
    that five entities are among them. None where that is too many to be near it.
    """
    rows = len(values)
    width = 1 + (CROWD - 1) * int(np.bincount(who).max(initial=1))
    if width > max(CROWD, rows // 5):
        return None
    order = np.sort(values, axis=0)
    first = [min(max(0, round(q * (rows - 1)) - width // 2), rows - width) for q in (0.1, 0.5, 0.9)]
    return np.stack([order[f : f + width].mean(axis=0) for f in first])
