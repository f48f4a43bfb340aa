"""Which generated row is referred to: one that is like a description, in proportion to its popularity.

A row that refers to another table draws a description of what it wants first (flat.py). Of the rows that are
there those are kept that agree with it in its first column (`Reference.likeness`), of these those that agree
in the second, .., for as long as some are left: choices by value, numbers by bins, first coarse, then fine.
Among the rest each is chosen as often as its column `named by ..` says rows of the data are, evenly: the
choices of a cell follow each other by the golden ratio, so no row is far from its share (Kronecker sequence).
What a parent may not name, twice or as itself, is chosen again, in the end among rows less alike. Where rows
of the own family are named, that they are of it comes before all else.

Memory is the learnt columns and the key of the table referred to, and some 40 bytes a row and level.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from genpipe.draws import GOLDEN
from genpipe.errors import UsageError
from genpipe.related.flatten import described
from genpipe.related.nodes import Node
from genpipe.related.shelf import Shelf, open_shelf
from genpipe.seeds import derive, numpy_rng

TRIES = 4  # at each level for a row that the parent has not named yet


class Chooser:
    """Choices from a shelf, one after the other, from a seed. own: (P,) the row of the shelf each parent is,
    if it may not be named.
    """

    def __init__(self, shelf: Shelf, seed: int, own: np.ndarray | None = None) -> None:
        self.shelf, self.rng = shelf, numpy_rng(seed, "choose")
        self.at = [self.rng.random(len(level.cells)) for level in shelf.levels]
        self.reach = [level.reach for level in shelf.levels]
        self.counts = np.zeros(shelf.size)
        self.taken = np.zeros(0, np.int64)
        if own is not None:
            self.forbid(own)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns in which the key stands."""
        return self.shelf.reference.names

    def forbid(self, own: np.ndarray) -> None:
        """(P,) the row of the shelf that each parent may not name, in place of what these have named."""
        self.taken = self._pairs(np.arange(len(own)), own)

    def choose(self, drawn: pa.Table, parents: np.ndarray, before: np.ndarray | None = None) -> pa.Array:
        """(N,) rows of the shelf that are like the descriptions in `drawn`; missing where these say so, or
        where none of the family is there, or before. parents: (N,) the parent of each, all different.
        before: (N,) only rows before this one.
        """
        reference, count = self.shelf.reference, drawn.num_rows
        least = 1 if self.shelf.kin and reference.nullable else 0
        absent = np.zeros(count, bool)
        if reference.nullable:
            absent = drawn[reference.absent].to_numpy().astype(bool)
        deep, rows, wanted = np.full(count, len(self.shelf.levels)), np.full(count, -1), ~absent
        for once in range(TRIES * len(self.shelf.levels)):
            deep, cell = self._cells(drawn, wanted, deep, before)
            absent |= wanted & (deep < least)
            wanted &= ~absent
            for depth in np.unique(deep[wanted]):
                # neighbours in a cell are not to be neighbours in the table
                mine = self.rng.permutation(np.flatnonzero((deep == depth) & wanted))
                stop = None if before is None else before[mine]
                rows[mine] = self._spread(int(depth), cell[mine], stop)
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
        return parents * self.shelf.size + rows

    def _left(self, parent: int) -> int:
        """Some row that a parent may still name."""
        count = self.shelf.size
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

    def _cells(
        self, drawn: pa.Table, wanted: np.ndarray, most: np.ndarray, before: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N,) the deepest level, up to `most`, at which something is like a description, -1 where nothing is
        there at all, and the cell.
        """
        deep, cell = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
        if before is not None:
            deep[~self._any(0, cell, before)] = -1
        here = np.flatnonzero(wanted & (deep >= 0))
        for depth, level in enumerate(self.shelf.levels[1:], 1):
            here = here[most[here] >= depth]
            if level.coder is None or not len(here):
                break
            column = drawn[f"{self.shelf.reference.column}.{level.column}"]
            code = level.coder.codes(column)[here]
            mixed = cell[here] * level.coder.size + code
            found = np.searchsorted(level.cells, mixed).clip(0, len(level.cells) - 1)
            good = (code >= 0) & (level.cells[found] == mixed) & level.open[found]
            if before is not None:
                good &= self._any(depth, found, before[here])
            here = here[good]
            deep[here], cell[here] = depth, found[good]
        return deep, cell

    def _window(
        self, depth: int, cell: np.ndarray, before: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n,) and (n,) between which weights added up the rows of each cell lie, or those before a row."""
        (reach, ends), level, size = self.reach[depth], self.shelf.levels[depth], self.shelf.size
        low, high = ends[cell], ends[cell + 1]
        if before is None:
            return low, high
        begin = level.begin
        at = np.repeat(np.arange(len(begin)), level.last + 1 - begin) * size + level.order
        stop = np.searchsorted(at, cell * size + before)
        return low, np.where(stop > begin[cell], reach[np.maximum(stop, 1) - 1], low)

    def _any(self, depth: int, cell: np.ndarray, before: np.ndarray) -> np.ndarray:
        low, high = self._window(depth, cell, before)
        return high > low

    def _spread(self, depth: int, cell: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """(n,) a row of each cell, in proportion to the weights."""
        level, at = self.shelf.levels[depth], self.at[depth]
        order = cell.argsort(kind="stable")
        first = np.searchsorted(cell[order], cell[order])
        place = np.empty(len(cell))
        place[order] = np.arange(len(cell)) - first + 1
        share = (at[cell] + place * GOLDEN) % 1.0
        self.at[depth] = (at + np.bincount(cell, minlength=len(at)) * GOLDEN) % 1.0
        reach, (low, high) = self.reach[depth][0], self._window(depth, cell, before)
        aim = np.minimum(low + share * (high - low), np.nextafter(high, low))
        return level.order[np.searchsorted(reach, aim, side="right")]


def choosers_of(
    node: Node, described_rows: Mapping[str, str], seed: int, own: np.ndarray
) -> dict[str, Chooser]:
    """Reference -> its chooser. described_rows: table -> the URI of its described rows. own: (P,) the
    parents' rows of their table.
    """
    return {
        r.column: Chooser(
            open_shelf(described_rows[r.table], r, node.name),
            derive(seed, "references", r.column),
            own if r.another else None,
        )
        for r in node.matched
    }


def chosen(
    node: Node, drawn: pa.Table, choosers: Mapping[str, Chooser], parents: np.ndarray
) -> tuple[pa.Table, pa.Table]:
    """(the keys of chosen rows, by column of `node`; their flat columns) for descriptions."""
    keys, columns = dict[str, pa.ChunkedArray](), dict[str, pa.ChunkedArray]()
    for reference in node.matched:
        chooser = choosers[reference.column]
        rows = chooser.choose(drawn, parents)
        keys |= dict(zip(chooser.names, chooser.shelf.keys.take(rows).itercolumns(), strict=True))
        found = described(reference, chooser.shelf.handed, rows)
        columns |= {name: found[name] for name in found.column_names}
    return pa.table(keys), pa.table(columns)
