"""The rows of a table that others refer to, sorted so that one like a description is found (match.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.dataset import Dataset
from genpipe.errors import UsageError
from genpipe.related.match_columns import numbers
from genpipe.related.nodes import Reference, naming

KEY = "key"
KIN = "family of rows"  # whose described rows are; no column of a table is called so
COARSE, FINE = 4, 16  # bins of a number
DECIDED = 0.5  # a column that its context explains by so much is matched though one row alone has the value
FEWEST = 4  # other columns only among so many: a popular description must not fall on one row
SELDOM = 1e-3  # the weight of a row of the family that is like no other, but is never named


@dataclass(frozen=True)
class Coder:
    """A column as whole numbers from 0 (missing) on, -1 for what no row has. values: of a choice."""

    values: pa.Array | None
    edges: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray, weights: np.ndarray, bins: int) -> Coder:
        if not bins or pa.types.is_string(column.type) or pa.types.is_boolean(column.type):
            return cls(column.unique().drop_null(), np.zeros(0))
        values = numbers(column)
        order = np.argsort(values, kind="stable")
        order = order[~np.isnan(values[order])]
        reach = weights[order].cumsum()
        wanted = np.arange(1, bins) / bins * reach[-1] if len(order) else np.zeros(0)
        return cls(None, np.unique(values[order][np.searchsorted(reach, wanted).clip(0, len(order) - 1)]))

    def codes(self, column: pa.ChunkedArray) -> np.ndarray:
        if self.values is None:
            values = numbers(column)
            return np.where(np.isnan(values), 0, np.searchsorted(self.edges, values, side="right") + 1)
        there = column.is_valid().to_numpy()
        found = pc.index_in(column, self.values).fill_null(-2).to_numpy() + 1
        return np.where(there, found, 0)

    @property
    def size(self) -> int:
        return 2 + (len(self.edges) if self.values is None else len(self.values))


@dataclass(frozen=True)
class Level:
    """Rows in cells that agree in the columns so far. cells: (C,) cell of the level before * size + code,
    ascending; open: (C,) whether a description may go there. order: rows by cell; last: (C,) the place in it
    where each cell ends; reach: see `added`.
    """

    column: str
    coder: Coder | None
    cells: np.ndarray
    open: np.ndarray
    order: np.ndarray
    last: np.ndarray
    reach: tuple[np.ndarray, np.ndarray]

    @property
    def begin(self) -> np.ndarray:
        """(C,) the place in the order where each cell begins."""
        return np.concatenate([[0], self.last[:-1] + 1])

    def added(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights added up: (M,) in the order of cells, and (C + 1,) where these begin and end."""
        reach = weights[self.order].cumsum()
        return reach, np.concatenate([[0.0], reach[self.last]])


def _level(
    column: str, coder: Coder | None, mixed: np.ndarray, weights: np.ndarray, few: int
) -> tuple[Level, np.ndarray]:
    """The level, and the cell (M,) of each row there."""
    cells, cell = np.unique(mixed, return_inverse=True)
    order = cell.argsort(kind="stable")
    last = np.searchsorted(cell[order], np.arange(len(cells)), side="right") - 1
    counts = np.bincount(cell, weights > 0, minlength=len(cells))
    level = Level(column, coder, cells, counts >= few, order, last, (np.zeros(0), np.zeros(0)))
    return replace(level, reach=level.added(weights)), cell


class Shelf:
    """The rows of a table that is referred to, sorted for one reference. keys: the columns of their key.
    kin: whether rows of the own family are named.
    """

    def __init__(
        self, keys: pa.Table, handed: pa.Table, reference: Reference, popularity: str, *, kin: bool = False
    ) -> None:
        self.keys, self.handed, self.reference, self.kin = keys, handed, reference, kin
        self.size = keys.num_rows
        if not self.size:
            raise UsageError(
                "ROWS",
                where=f"references.{reference.column}",
                found=f"no row of {reference.table!r} was made that could be referred to",
                expected="at least one",
                fix="ask for more rows",
            )
        weights = handed[popularity].to_numpy().astype(float)
        weights = np.maximum(weights, SELDOM) if kin else weights
        self.weights = weights = weights if weights.sum() > 0 else np.ones(self.size)
        level, cell = _level("", None, np.zeros(self.size, np.int64), weights, 0)
        self.levels = [level]
        for name, score, bins in self._columns():
            column = handed[name]
            coder = Coder.of(column, weights, bins)
            few = 1 if kin or (score >= DECIDED and bins == COARSE) else FEWEST
            level, cell = _level(name, coder, cell * coder.size + coder.codes(column), weights, few)
            self.levels.append(level)

    def _columns(self) -> list[tuple[str, float, int]]:
        """(column, score, bins) of each level: all columns, then the numbers again in finer bins."""
        scores = [(n.removeprefix(f"{self.reference.column}."), s) for n, s in self.reference.likeness]
        fine = [
            (n, s, FINE)
            for n, s in scores
            if not (pa.types.is_string(self.handed[n].type) or pa.types.is_boolean(self.handed[n].type))
        ]
        first = [(KIN, 1.0, 0)] if self.kin else []
        return [*first, *((n, s, COARSE) for n, s in scores), *fine]


def key_columns(count: int) -> list[str]:
    """The names of so many columns of a key in described rows."""
    return [KEY] if count == 1 else [f"{KEY} {i + 1}" for i in range(count)]


@lru_cache(maxsize=8)
def open_shelf(uri: str, reference: Reference, table: str, *, kin: bool = False) -> Shelf:
    """The shelf of a committed dataset of described rows, once per worker process."""
    rows, keys = Dataset(uri).table("generated"), key_columns(len(reference.names))
    popularity = f"{reference.table}.{naming(table, reference.column)}"
    others = [KIN] if KIN in rows.column_names and not kin else []
    return Shelf(rows.select(keys), rows.drop_columns([*keys, *others]), reference, popularity, kin=kin)
