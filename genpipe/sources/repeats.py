"""What the columns of a table repeat: a sample of bounded size, whatever order the rows are read in.

Of each column the values with the smallest hashes are kept (a bottom-k sample: Cohen and Kaplan, "Summarizing
data using bottom-k sketches", 2007), with how often they occur and some of their rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.keys import NULL, ODD, column_keys, mix
from genpipe.sources.called import ATTRIBUTE, PERSON, names_person, words

MOST_COLUMNS = 40  # looked at: those whose names speak of persons, and the first of the others
VALUES, ROWS = 48, 24  # sampled values of a column, and rows kept of each
OFTENEST = 500  # rows of an entity, on average


@dataclass(frozen=True)
class Repeats:
    """A sample of one column's values. values: (V,) hashes, ascending. counts: (V,) rows of each.

    of: (R,) which value each kept row has. cells: column -> (R,) hashes of these rows.
    """

    values: np.ndarray
    counts: np.ndarray
    of: np.ndarray
    cells: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def distinct(self) -> float:
        """About how many different values the column has."""
        if len(self.values) < VALUES:
            return len(self.values)
        return (VALUES - 1) / max(float(self.values[-1]) / 2.0**64, 2.0**-63)

    def merge(self, other: Repeats) -> Repeats:
        values, back = np.unique(np.concatenate([self.values, other.values]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, back, np.concatenate([self.counts, other.counts]))
        mine, theirs = back[: len(self.values)], back[len(self.values) :]
        of = np.concatenate([mine[self.of], theirs[other.of]])
        names = list(dict.fromkeys([*self.cells, *other.cells]))
        a, b = (np.full(len(r.of), NULL) for r in (self, other))
        cells = {n: np.concatenate([self.cells.get(n, a), other.cells.get(n, b)]) for n in names}
        return _fewer(values, counts, of, cells)


def _fewer(
    values: np.ndarray, counts: np.ndarray, of: np.ndarray, cells: Mapping[str, np.ndarray]
) -> Repeats:
    """The first VALUES values and up to ROWS rows of each, whatever order they came in."""
    key = np.zeros(len(of), np.uint64)
    for name in sorted(cells):
        key = key * ODD + cells[name]
    key = mix(key)
    order = np.lexsort((key, of))
    starts = np.searchsorted(of[order], of[order], side="left")
    kept = order[(np.arange(len(of)) - starts < ROWS) & (of[order] < VALUES)]
    return Repeats(values[:VALUES], counts[:VALUES], of[kept], {n: c[kept] for n, c in cells.items()})


def look(batch: pa.RecordBatch) -> dict[str, Repeats]:
    """What the columns of a typed batch that may name entities repeat."""
    names = _looked_at(batch.schema.names)
    chosen: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = {}
    for name in names:
        column = batch.column(name)
        if pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
            continue
        if names_person(words(name)) or not _few(column):
            chosen[name] = _smallest(_whole(column))
    rows = np.unique(np.concatenate([np.zeros(0, np.int64), *(at for _, _, at, _ in chosen.values())]))
    some = batch.select(names).take(pa.array(rows))
    cells = {name: column_keys(_whole(some.column(name))) for name in names} if len(rows) else {}
    return {
        name: _fewer(values, counts, of, {n: c[np.searchsorted(rows, at)] for n, c in cells.items()})
        for name, (values, counts, at, of) in chosen.items()
    }


def _looked_at(names: list[str]) -> list[str]:
    """In their order, the columns whose names speak of persons, and the first of the others."""
    called = [words(n) for n in names]
    personal = [bool(PERSON.search(c) or ATTRIBUTE.search(c)) for c in called]
    first = sorted(range(len(names)), key=lambda i: not personal[i])
    return [names[i] for i in sorted(first[:MOST_COLUMNS])]


def _whole(column: pa.Array) -> pa.Array:
    """Whole numbers as such, however a batch has them: 12.0 is 12."""
    if not pa.types.is_floating(column.type):
        return column
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column


def _few(column: pa.Array) -> bool:
    """Whether each value has so many rows of a large batch that it names no entity."""
    step = max(1, len(column) // 1024)
    spread = column.take(pa.array(np.arange(0, len(column), step)))
    return len(column) >= 4 * OFTENEST and len(pc.unique(spread)) <= 8


def _smallest(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(values, their counts, some of their rows, which value each has) of the smallest hashes, but nulls."""
    keys = column_keys(column)
    there = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    low = there[keys[there] < np.uint64(2**64 // 16)]
    values = np.unique(keys[low])
    if len(values) < VALUES:
        low, values = there, np.unique(keys[there])
    values = values[:VALUES].copy()  # a view would keep all of them
    if not len(values):
        return values, np.zeros(0, np.int64), low[:0], low[:0]
    low = low[keys[low] <= values[-1]]
    of = np.searchsorted(values, keys[low])
    counts = np.bincount(of, minlength=len(values))
    order = np.argsort(of, kind="stable")
    ends = np.cumsum(counts)
    nth = np.arange(len(of)) - np.repeat(ends - counts, counts)
    # rows from all over the batch: neighbours may be the same event told twice
    stride = np.repeat(np.maximum(1, counts // ROWS), counts)
    kept = order[(nth % stride == 0) & (nth // stride < ROWS)]
    return values, counts, low[kept], of[kept]


def merged(a: Mapping[str, Repeats], b: Mapping[str, Repeats]) -> dict[str, Repeats]:
    """Of two pieces of a table together."""
    return {**a, **b, **{name: a[name].merge(b[name]) for name in a.keys() & b.keys()}}
