"""Of very many training rows: what lies near generated rows? Is one a training row that was moved a little?

The nearest of so many rows is not sought. Rows that were moved a little mostly stay in one cell of a coarse,
shifted grid over some of the columns ("locality-sensitive hashing": Gionis et al., "Similarity search in high
dimensions via hashing", 1999, section 3). So all training rows are looked up in `GRIDS` such grids, and the
distance to those in the same cell alone is computed; half of the held-out rows are looked up in the same way,
and are what training rows are compared with. The other half is asked about beside the generated rows.

near copies: a row counts as near where its distance to a training row is as small a part of that to the
nearest held-out one as it is for `RARE` of unseen rows. So a table that is dense, or repeats itself, excuses
its rows. Rows near one training row count once.
"""

from __future__ import annotations

import numpy as np

from genpipe.evaluation.base import Points
from genpipe.evaluation.privacy.findings import FEWEST, Excess, Finding, told
from genpipe.evaluation.privacy.nearest import Nearest, Share, apart, nearest, share_nearer_train
from genpipe.keys import ODD, mix
from genpipe.seeds import drawn, numpy_rng

ASKED = 5_000  # rows of either side
GRIDS, CELLS, FINEST = 3, 4, 1024  # intervals of a column, at first and at most
CANDIDATES, CROWD = 20, 1_000  # training rows in the cell of a row: of all, on the mean, and of one, at most
RARE, CLOSE = 0.01, 0.5  # share of unseen rows that count as near; part of the distance, at most
LIMIT, EXCUSED = 0.02, 1.0  # share of rows that may be near beyond chance, and times chance on top
BITS = 20  # of a key, by which most training rows are passed over


class Grid:
    """Cells over some of the columns; as many as leave few training rows in one, if there are so many."""

    def __init__(self, reference: Points, rows: int, rng: np.random.Generator) -> None:
        """reference: rows by which columns are chosen. rows: of training."""
        low, high = (np.asarray(np.quantile(reference.numeric, q, axis=0)) for q in (0.005, 0.995))
        self.low, self.reach = low, np.asarray(np.maximum(high - low, 1e-12))
        width = reference.numeric.shape[1] + reference.codes.shape[1]
        varied = [k for k in range(width) if len(np.unique(_column(reference, k))) > 1]
        order = [int(k) for k in rng.permutation(varied)]
        self.shift, self.cells, self.columns = rng.random((reference.numeric.shape[1],)), CELLS, list[int]()
        for column in order:
            self.columns.append(column)
            if self.mates(reference, rows) <= CANDIDATES:
                break
        while self.mates(reference, rows) > CANDIDATES and self.cells < FINEST:
            self.cells *= 2

    def mates(self, reference: Points, rows: int) -> float:
        """How many of so many rows share the cell of one, on the mean."""
        counts = np.unique(self.keys(reference), return_counts=True)[1].astype(float)
        return float((counts * (counts - 1)).sum() / max(1, len(reference) * (len(reference) - 1)) * rows)

    def keys(self, points: Points) -> np.ndarray:
        """(N,) uint64, one a cell."""
        keys = np.zeros(len(points), np.uint64)
        for k in self.columns:
            keys *= ODD
            column = _column(points, k)
            if k < len(self.low):
                place = (column - self.low[k]) * (self.cells / self.reach[k]) + self.shift[k]
                column = np.floor(place).astype(np.int64)
            keys += column.astype(np.int64, copy=False).view(np.uint64)
            keys ^= keys >> np.uint64(29)
        return mix(keys)


class Asked:
    """Rows whose nearest others are sought in their cells, these seen piece by piece; infinitely far, and of
    index -1, where there are none.
    """

    def __init__(self, points: Points, reference: Points, grids: list[Grid], rows: int) -> None:
        """reference: rows by which crowded cells are told. rows: of training."""
        self.points, self.seen = points, {"train": 0, "unseen": 0}
        self.found = {
            side: Nearest(np.full(len(points), np.inf), np.full(len(points), -1)) for side in self.seen
        }
        self.grids, self.places = grids, list[tuple[np.ndarray, np.ndarray, np.ndarray]]()
        for grid in grids:
            keys, crowd = grid.keys(points), np.sort(grid.keys(reference))
            there = np.searchsorted(crowd, keys, "right") - np.searchsorted(crowd, keys, "left")
            alone = np.flatnonzero((there - 1) * (rows / max(1, len(crowd))) <= CROWD)
            order = alone[np.argsort(keys[alone], kind="stable")]
            perhaps = np.zeros(2**BITS, bool)
            perhaps[keys[order] >> np.uint64(64 - BITS)] = True
            self.places.append((keys[order], order, perhaps))

    def see(self, side: str, others: Points) -> None:
        columns = Points(np.asfortranarray(others.numeric), np.asfortranarray(others.codes))
        for grid, (mine, order, perhaps) in zip(self.grids, self.places, strict=True):
            theirs = grid.keys(columns)
            near = np.flatnonzero(perhaps[theirs >> np.uint64(64 - BITS)])
            first, last = (np.searchsorted(mine, theirs[near], end) for end in ("left", "right"))
            times = last - first
            which = np.repeat(near, times)
            offset = np.arange(len(which)) - np.repeat(np.cumsum(times) - times, times)
            self._closer(side, order[np.repeat(first, times) + offset], others, which)
        self.seen[side] += len(others)

    def _closer(self, side: str, rows: np.ndarray, others: Points, which: np.ndarray) -> None:
        distance = np.sqrt(apart(self.points[rows], others[which]))
        best = np.lexsort((which, distance, rows))
        best = best[np.r_[True, rows[best][1:] != rows[best][:-1]]] if len(best) else best
        rows, distance, which = rows[best], distance[best], which[best]
        found = self.found[side]
        nearer = distance < found.distance[rows]
        found.distance[rows[nearer]] = distance[nearer]
        found.index[rows[nearer]] = which[nearer] + self.seen[side]


class NearCopies:
    """Give it all training rows, and ask. halves: (N,) 0 or 1, which half of the unseen rows each is in."""

    def __init__(self, made: Points, unseen: Points, halves: np.ndarray, rows: int, seed: int) -> None:
        """rows: of training."""
        rng = numpy_rng(seed, "evaluation", "near copies")
        others, self.reference = (unseen[halves == half] for half in (0, 1))
        made, others = (points[drawn(rng, len(points), ASKED)] for points in (made, others))
        numeric = np.concatenate([made.numeric, others.numeric])
        codes = np.concatenate([made.codes, others.codes])
        self.sides = {"value": slice(0, len(made)), "ceiling": slice(len(made), len(made) + len(others))}
        self.asked = Asked(
            Points(numeric, codes), unseen, [Grid(unseen, rows, rng) for _ in range(GRIDS)], rows
        )
        self.asked.see("unseen", self.reference)

    def see(self, train: Points) -> None:
        self.asked.see("train", train)

    def distances(self, end: str) -> np.ndarray:
        """Of generated ("value") or unseen rows ("ceiling"), to the training rows where there is one near."""
        found = self.asked.found["train"].distance[self.sides[end]]
        return found[np.isfinite(found)]

    def share(self, end: str) -> Share:
        """Nearer to train than to the half of the unseen rows; a row that has neither by it tells nothing."""
        train, unseen = (self.asked.found[side][self.sides[end]] for side in ("train", "unseen"))
        near = np.isfinite(np.minimum(train.distance, unseen.distance))
        if not near.any():
            return Share(0.5, 0.5)
        return share_nearer_train(train[near], unseen[near], self.asked.seen["train"], len(self.reference))

    @property
    def told(self) -> str:
        """Of how many rows."""
        made, others = (len(range(*s.indices(len(self.asked.points)))) for s in self.sides.values())
        return (
            f"{made:,} generated and {others:,} unseen rows, among all {self.asked.seen['train']:,} training"
            f" rows and {len(self.reference):,} other unseen ones"
        )

    def finding(self) -> Finding:
        fewest = min(len(self.asked.points[s]) for s in self.sides.values())
        return told(
            "near_copies", "Near copies",
            f"share of generated rows that lie as close to a training row as {RARE:.0%} of unseen ones do,"
            f" each training row counted once; of {self.told}",
            [self._excess()] if min(fewest, len(self.reference)) >= FEWEST else [], LIMIT, excused=EXCUSED,
            reason="too few rows", leak="It gives out training rows that were changed a little",
        )  # fmt: skip

    def _excess(self) -> Excess:
        found, far = self.asked.found["train"], nearest(self.asked.points, self.reference).distance
        part = np.where(far > 0, found.distance / np.where(far > 0, far, 1.0), 1.0)
        close = min(CLOSE, float(np.quantile(part[self.sides["ceiling"]], RARE, method="lower")))
        shares, variance = list[float](), 0.0
        for side in self.sides.values():
            rows, hits = len(part[side]), len(np.unique(found.index[side][part[side] <= close]))
            shares.append(hits / rows)
            share = (hits + 1) / (rows + 2)  # as Agresti & Caffo, see inference.py
            variance += share * (1 - share) / (rows + 2)
        return Excess("", shares[0], shares[1], float(np.sqrt(variance)))


def _column(points: Points, k: int) -> np.ndarray:
    wide = points.numeric.shape[1]
    return points.numeric[:, k] if k < wide else points.codes[:, k - wide]
