"""A sample of a table's rows, its numbers and times alone: what relations between columns are sought in.

Texts that may be numbers or times, such as $1,924.45, wait as texts until it is known how all are written.

The rows are those of the smallest keys, made of a file's place in the listing and a row's in the file. So any
cut into batches, in any order, gives the same sample, and it costs what is taken, not what is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.constraints import TIMES
from genpipe.fields import AnyField
from genpipe.keys import mix
from genpipe.written import reader_of
from genpipe.written.numbers import parse, takes

ROWS, CELLS, COLUMNS = 4096, 2_000_000, 1000  # at most; of a table's columns the first ones


@dataclass(frozen=True)
class Sample:
    """keys: (R,) of the rows, ascending. columns: name -> (R,) float64, NaN where missing; times are
    microseconds. texts: name -> (R,) texts that are to be read, missing where they are in `columns`."""

    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    texts: dict[str, pa.Array] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: pa.RecordBatch, file: int, first: int, written: Collection[str] = ()) -> Sample:
        """Of a typed batch that begins at row `first` of the file of this number. written: columns of texts
        most of which follow a form."""
        counts = {n for n in batch.schema.names if _counts(batch.schema.field(n).type)}
        said = {n for n in written if pa.types.is_string(batch.schema.field(n).type)}
        names = [n for n in batch.schema.names[:COLUMNS] if n in counts or n in said]
        if not names:
            return cls()
        place = np.arange(first, first + batch.num_rows, dtype=np.uint64)
        keys = mix(place + mix(np.array([file], np.uint64)))
        kept = _smallest(keys, len(names))
        some = batch.select(names).take(pa.array(kept))
        texts = {n: some.column(n) for n in names if n not in counts}
        return cls(keys[kept], {n: _numbers(some.column(n)) for n in names if n in counts}, texts)

    def merge(self, other: Sample) -> Sample:
        keys = np.concatenate([self.keys, other.keys])
        names, texts = ({**getattr(self, part), **getattr(other, part)} for part in ("columns", "texts"))
        kept = _smallest(keys, len({**names, **texts}))
        a, b = (np.full(len(s.keys), np.nan) for s in (self, other))
        c, d = (pa.nulls(len(s.keys), pa.string()) for s in (self, other))
        both = ((n, (self.columns.get(n, a), other.columns.get(n, b))) for n in names)
        said = ((n, (self.texts.get(n, c), other.texts.get(n, d))) for n in texts)
        return Sample(
            keys[kept],
            {n: np.concatenate(parts)[kept] for n, parts in both},
            {n: pa.concat_arrays(parts).take(pa.array(kept)) for n, parts in said},
        )

    def read(self, fields: Iterable[AnyField]) -> Sample:
        """Texts read in the forms of their fields; those of columns that turned out otherwise left out."""
        columns = {n: values for n, values in self.columns.items() if n not in self.texts}
        for f in fields:
            form = getattr(f, "format", None)
            reader = reader_of(form) if form else None
            if reader is not None and f.name in {**self.columns, **self.texts}:
                columns[f.name] = self._in_form(f, reader)
        return replace(self, columns=columns, texts={})

    def _in_form(self, f: Any, reader: Any) -> np.ndarray:
        absent = pa.nulls(len(self.keys), pa.string())
        values = _numbers(reader.read(self.texts.get(f.name, absent), f.format))
        typed = self.columns.get(f.name, np.full(len(values), np.nan))
        if takes(f.format) and parse(f.format).mark == ".":  # 1.234 is no fraction there
            return values
        if f.kind in TIMES:  # 20230709 was seen as a number
            there = np.isfinite(typed)
            days = pa.array(np.where(there, typed, 0).astype(np.int64), mask=~there)
            typed = _numbers(reader.read(days.cast(pa.string()), f.format))
        return np.where(np.isnan(values), typed, values)


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
