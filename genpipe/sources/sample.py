"""A sample of a table's rows, its numbers and times alone: what relations between columns are sought in.

The rows are those of the smallest keys, made of a file's place in the listing and a row's in the file. So any
cut into batches, in any order, gives the same sample, and it costs what is taken, not what is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from genpipe.keys import mix

ROWS, CELLS, COLUMNS = 4096, 2_000_000, 1000  # at most; of a table's columns the first ones


@dataclass(frozen=True)
class Sample:
    """keys: (R,) of the rows, ascending. columns: name -> (R,) float64, NaN where missing; times are
    microseconds."""

    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: pa.RecordBatch, file: int, first: int) -> Sample:
        """Of a typed batch that begins at row `first` of the file of this number."""
        names = [n for n in batch.schema.names[:COLUMNS] if _counts(batch.schema.field(n).type)]
        if not names:
            return cls()
        place = np.arange(first, first + batch.num_rows, dtype=np.uint64)
        keys = mix(place + mix(np.array([file], np.uint64)))
        kept = _smallest(keys, len(names))
        some = batch.select(names).take(pa.array(kept))
        return cls(keys[kept], {n: _numbers(some.column(n)) for n in names})

    def merge(self, other: Sample) -> Sample:
        keys = np.concatenate([self.keys, other.keys])
        names = list(dict.fromkeys([*self.columns, *other.columns]))
        kept = _smallest(keys, len(names))
        a, b = (np.full(len(s.keys), np.nan) for s in (self, other))
        both = ((n, (self.columns.get(n, a), other.columns.get(n, b))) for n in names)
        return Sample(keys[kept], {n: np.concatenate(parts)[kept] for n, parts in both})


def _counts(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind) or types.is_floating(kind) or types.is_date(kind) or types.is_timestamp(kind)
    )


def _smallest(keys: np.ndarray, columns: int) -> np.ndarray:
    """Which rows have the smallest keys, by these."""
    most = min(ROWS, CELLS // max(1, columns))
    few = np.argpartition(keys, most)[:most] if len(keys) > most else np.arange(len(keys))
    found: np.ndarray = few[np.argsort(keys[few])]
    return found


def _numbers(column: pa.Array) -> np.ndarray:
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
        column = column.cast(pa.int64())
    found: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found
