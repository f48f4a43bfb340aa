"""What rows are told of other rows, without what is one family's alone.

A row that many name would stand in many flat rows, so that its own value seems to be many people's. So values
that `LEAST` families have are told as they are, and others as some value between the ends of a group of so
many families: microaggregation (Defays & Anwar, "Masking microdata using micro-aggregation", 1998), with a
draw in place of the mean, as a mean that comes again and again would be learnt as a value of its own.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import LEAST
from genpipe.related.flatten import Related
from genpipe.related.match_columns import numbers
from genpipe.seeds import numpy_rng


def crowded(related: Related, rows: np.ndarray) -> pa.Table:
    """What the rows hand down, for each that names one. rows: (N,) the row named, -1 for none."""
    handed, index = related.handed_down(), pa.array(rows, mask=rows < 0)
    out = {}
    for name in handed.column_names:
        column = handed[name].combine_chunks()
        rng = numpy_rng(0, "crowded", related.node.name, name)
        out[name] = _column(column, related.family, rows, index, rng)
    return pa.table(out)


def _column(
    column: pa.Array, family: np.ndarray, rows: np.ndarray, index: pa.Array, rng: np.random.Generator
) -> pa.Array:
    codes = pc.dictionary_encode(column).indices.fill_null(-1).to_numpy(zero_copy_only=False)
    pairs = np.unique(np.stack([codes, family], 1), axis=0)
    pairs = pairs[pairs[:, 0] >= 0]
    many = np.bincount(pairs[:, 0], minlength=codes.max(initial=-1) + 1) >= LEAST
    common = many[codes] & (codes >= 0) if len(many) else np.zeros(len(codes), bool)
    told = column.take(index)
    rare = ~common[rows] & (rows >= 0)
    if not rare.any():
        return told
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return pc.if_else(pa.array(~rare), told, pa.scalar(None, kind))
    low, high = _ends(numbers(column), family, common)
    drawn = low[rows] + rng.random(len(rows)) * (high - low)[rows]
    return pc.if_else(pa.array(~rare), told, _as(drawn, kind))


def _ends(values: np.ndarray, family: np.ndarray, common: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (N,): where the group of each value begins and ends; not a number for those in none."""
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    left = np.flatnonzero(~common & ~np.isnan(values))
    left = left[np.argsort(values[left], kind="stable")]
    cuts, seen = [0], set[int]()
    for at, who in enumerate(family[left].tolist()):
        seen.add(who)
        if len(seen) == LEAST:
            cuts.append(at + 1)
            seen = set()
    cuts = [*cuts[:-1], len(left)] if len(cuts) > 1 else []
    for first, last in pairwise(cuts):
        group = left[first:last]
        low[group], high[group] = values[group[0]], values[group[-1]]
    return low, high


def _as(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Floats as a column of numbers, dates or times."""
    none = np.isnan(values)
    if pa.types.is_floating(kind):
        return pa.array(values, mask=none).cast(kind)
    whole = pa.array(np.where(none, 0, np.rint(values)).astype(np.int64), mask=none)
    return (whole.cast(pa.int32()) if pa.types.is_date32(kind) else whole).cast(kind)
