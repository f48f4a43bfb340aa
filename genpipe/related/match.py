"""Which generated row is referred to: one that is like a description, in proportion to its popularity.

A row that refers to another table draws a description of what it wants first (flat.py). Of the rows that are
there those are kept that agree with it in its first column (`Reference.likeness`), of these those that agree
in the second, .., for as long as some are left: choices by value, numbers by bins, first coarse, then fine.
Among the rest each is chosen as often as its column `named by ..` says rows of the data are, evenly: the
choices of a cell follow each other by the golden ratio, so no row is far from its share (Kronecker sequence).
What a parent may not name, twice or as itself, is chosen again, in the end among rows less alike.

Memory is the learnt columns and the key of the table referred to, and some 40 bytes a row and level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.dataset import Dataset
from genpipe.draws import GOLDEN
from genpipe.errors import UsageError
from genpipe.related.flatten import Node, Reference, described, naming
from genpipe.related.match_columns import numbers
from genpipe.seeds import derive, numpy_rng

KEY = "key"
COARSE, FINE = 4, 16  # bins of a number
DECIDED = 0.5  # a column that its context explains by so much is matched though one row alone has the value
FEWEST = 4  # other columns only among so many: a popular description must not fall on one row
TRIES = 4  # at each level for a row that the parent has not named yet


@dataclass(frozen=True)
class Coder:
    """A column as whole numbers from 0 (missing) on, -1 for what no row has. values: of a choice."""

    values: pa.Array | None
    edges: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray, weights: np.ndarray, bins: int) -> Coder:
        if pa.types.is_string(column.type) or pa.types.is_boolean(column.type):
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
    """The rows of a table that is referred to, sorted for one reference."""

    def __init__(
        self, keys: pa.ChunkedArray, handed: pa.Table, reference: Reference, popularity: str
    ) -> None:
        self.keys, self.handed, self.reference = keys.combine_chunks(), handed, reference
        if not len(keys):
            raise UsageError(
                "ROWS",
                where=f"references.{reference.column}",
                found=f"no row of {reference.table!r} was made that could be referred to",
                expected="at least one",
                fix="ask for more rows",
            )
        weights = handed[popularity].to_numpy().astype(float)
        self.weights = weights = weights if weights.sum() > 0 else np.ones(len(keys))
        level, cell = _level("", None, np.zeros(len(keys), np.int64), weights, 0)
        self.levels = [level]
        for name, score, bins in self._columns():
            column = handed[name]
            coder = Coder.of(column, weights, bins)
            few = 1 if score >= DECIDED and bins == COARSE else FEWEST
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
        return [*((n, s, COARSE) for n, s in scores), *fine]


class Chooser:
    """Choices from a shelf, one after the other, from a seed. own: (P,) the row of the shelf each parent is,
    if it may not be named.
    """

    def __init__(self, shelf: Shelf, seed: int, own: np.ndarray | None = None) -> None:
        self.shelf, self.rng = shelf, numpy_rng(seed, "choose")
        self.at = [self.rng.random(len(level.cells)) for level in shelf.levels]
        self.reach = [level.reach for level in shelf.levels]
        self.counts = np.zeros(len(shelf.keys))
        self.taken = np.zeros(0, np.int64) if own is None else self._pairs(np.arange(len(own)), own)

    def choose(self, drawn: pa.Table, parents: np.ndarray) -> pa.Array:
        """(N,) rows of the shelf that are like the descriptions in `drawn`; missing where these say so.
        parents: (N,) the parent of each, all different.
        """
        reference, count = self.shelf.reference, drawn.num_rows
        absent = np.zeros(count, bool)
        if reference.nullable:
            absent = drawn[reference.absent].to_numpy().astype(bool)
        deep, rows, wanted = np.full(count, len(self.shelf.levels)), np.full(count, -1), ~absent
        for once in range(TRIES * len(self.shelf.levels)):
            deep, cell = self._cells(drawn, wanted, deep)
            for depth in np.unique(deep[wanted]):
                # neighbours in a cell are not to be neighbours in the table
                mine = self.rng.permutation(np.flatnonzero((deep == depth) & wanted))
                rows[mine] = self._spread(int(depth), cell[mine])
            wanted &= np.isin(self._pairs(parents, rows), self.taken) if len(self.taken) else False
            if not wanted.any():
                break
            deep = np.maximum(0, deep - (once % TRIES == TRIES - 1))
        for row in np.flatnonzero(wanted):
            rows[row] = self._left(int(parents[row]))
        if reference.distinct:
            self._remember(self._pairs(parents, rows)[~absent])
        return pa.array(rows, mask=absent)

    def _remember(self, pairs: np.ndarray) -> None:
        """What parents named, they do not name again. That takes from the popular, so it is made up for: what
        a row lacks of its share, were there as many choices again, is its weight from here on.
        """
        self.taken = np.concatenate([self.taken, pairs])
        self.counts += np.bincount(pairs % len(self.counts), minlength=len(self.counts))
        share = self.shelf.weights / self.shelf.weights.sum() * (self.counts.sum() + len(pairs))
        weights = np.maximum(share - self.counts, share / 100)
        self.reach = [level.added(weights) for level in self.shelf.levels]

    def _pairs(self, parents: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return parents * len(self.shelf.keys) + rows

    def _left(self, parent: int) -> int:
        """Some row that a parent may still name."""
        count = len(self.shelf.keys)
        free = np.setdiff1d(np.arange(count), self.taken[self.taken // count == parent] % count)
        if not len(free):
            raise UsageError(
                "ROWS",
                where=f"references.{self.shelf.reference.column}",
                found=f"a parent whose rows name all {count} of {self.shelf.reference.table!r} already",
                expected="more rows there, as it may name each once",
                fix=f"ask for more rows of {self.shelf.reference.table!r}",
            )
        return int(self.rng.choice(free))

    def _cells(self, drawn: pa.Table, wanted: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) the deepest level, up to `most`, at which something is like a description, and the cell."""
        deep, cell = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
        here = np.flatnonzero(wanted)
        for depth, level in enumerate(self.shelf.levels[1:], 1):
            here = here[most[here] >= depth]
            if level.coder is None or not len(here):
                break
            column = drawn[f"{self.shelf.reference.column}.{level.column}"]
            code = level.coder.codes(column)[here]
            mixed = cell[here] * level.coder.size + code
            found = np.searchsorted(level.cells, mixed).clip(0, len(level.cells) - 1)
            good = (code >= 0) & (level.cells[found] == mixed) & level.open[found]
            here = here[good]
            deep[here], cell[here] = depth, found[good]
        return deep, cell

    def _spread(self, depth: int, cell: np.ndarray) -> np.ndarray:
        """(n,) a row of each cell, in proportion to the weights."""
        level, at = self.shelf.levels[depth], self.at[depth]
        order = cell.argsort(kind="stable")
        first = np.searchsorted(cell[order], cell[order])
        place = np.empty(len(cell))
        place[order] = np.arange(len(cell)) - first + 1
        share = (at[cell] + place * GOLDEN) % 1.0
        self.at[depth] = (at + np.bincount(cell, minlength=len(at)) * GOLDEN) % 1.0
        reach, ends = self.reach[depth]
        low, high = ends[cell], ends[cell + 1]
        aim = np.minimum(low + share * (high - low), np.nextafter(high, low))
        return level.order[np.searchsorted(reach, aim, side="right")]


@lru_cache(maxsize=8)
def open_shelf(uri: str, reference: Reference, table: str) -> Shelf:
    """The shelf of a committed dataset of described rows, once per worker process."""
    rows = Dataset(uri).table("generated")
    popularity = f"{reference.table}.{naming(table, reference.column)}"
    return Shelf(rows[KEY], rows.drop_columns([KEY]), reference, popularity)


def choosers_of(
    node: Node, described_rows: Mapping[str, str], seed: int, own: np.ndarray
) -> dict[str, Chooser]:
    """Column -> its chooser. described_rows: table -> the URI of its described rows. own: (P,) the parents'
    rows of their table.
    """
    return {
        r.column: Chooser(
            open_shelf(described_rows[r.table], r, node.name),
            derive(seed, "references", r.column),
            own if r.another else None,
        )
        for r in node.references
    }


def chosen(
    node: Node, drawn: pa.Table, choosers: Mapping[str, Chooser], parents: np.ndarray
) -> tuple[pa.Table, pa.Table]:
    """(the keys of chosen rows, by column of `node`; their flat columns) for descriptions."""
    keys, columns = dict[str, pa.Array](), dict[str, pa.ChunkedArray]()
    for reference in node.references:
        chooser = choosers[reference.column]
        rows = chooser.choose(drawn, parents)
        keys[reference.column] = chooser.shelf.keys.take(rows)
        found = described(reference, chooser.shelf.handed, rows)
        columns |= {name: found[name] for name in found.column_names}
    return pa.table(keys), pa.table(columns)
