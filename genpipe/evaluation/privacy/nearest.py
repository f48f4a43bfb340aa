"""Distance to the closest record: do generated rows lie nearer to training rows than to unseen real ones?

For a generated row the nearest training row and the nearest held-out row are found exactly, in pieces; of
large datasets near_copies.py looks for near ones, and rows equal to a training row are looked for among all.
If the generator has learnt the population and no single row, the nearest record of all
is a training row with probability n_train / (n_train + n_holdout), so the observed odds divided by n_train /
n_holdout give a share that is 0.5 for such a generator and 1 for one that copies, whatever the sizes. A tie
counts as it would by chance. Rows that share one nearest record (far-off noise does, so does a constant) are
not independent draws: the standard error counts distinct records, not rows.

A high share is alarming; a fair one proves nothing (arXiv 2505.01524): it is a signal, not a guarantee.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from genpipe.evaluation.base import Points

CHUNK_CELLS, BROAD = 2**20, 4096  # distances held at once, at most; references in a block of the nearest
BITS = 20  # of a key, by which most training rows are passed over
ODD = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9  # of splitmix64 (Steele et al. 2014)


@dataclass(frozen=True)
class Share:
    """value: balanced share nearer to train, 0.5 = chance, 1 = copies; error: its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Nearest:
    """(N,) distance of every row to its closest reference row, and which one that is."""

    distance: np.ndarray
    index: np.ndarray

    def __getitem__(self, rows: np.ndarray | slice) -> Nearest:
        return Nearest(self.distance[rows], self.index[rows])


def nearest(rows: Points, reference: Points) -> Nearest:
    """Exact, block by block; of references that are as near, the first."""
    least, index = np.full(len(rows), np.inf), np.zeros(len(rows), dtype=np.int64)
    for part, columns, squares in _squares(rows, reference, BROAD):
        at = squares.argmin(1)
        found = squares[np.arange(len(at)), at]
        nearer = found < least[part]
        least[part] = np.where(nearer, found, least[part])
        index[part] = np.where(nearer, at + columns.start, index[part])
    return Nearest(np.sqrt(apart(rows, reference[index])), index)


def _squares(rows: Points, reference: Points, broad: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Some rows, `broad` of the reference, and their squared distances (rows, reference), less a number of
    each row. Blocks fit the cache of a core: memory is what larger ones wait for. The array is written again.
    """
    centre = reference.numeric.mean(0)
    ref = reference.numeric - centre
    norm = (ref.astype(np.float64) ** 2).sum(1).astype(ref.dtype)
    wide = np.concatenate([-2.0 * ref, norm[:, None]], 1, dtype=ref.dtype).T.copy()
    codes = _small(rows.codes, reference.codes)
    broad = max(1, min(broad, len(reference)))
    tall = max(1, min(CHUNK_CELLS // broad, len(rows)))
    squares, unlike = np.empty((tall, broad), wide.dtype), np.empty((tall, broad), bool)
    differ = np.empty((tall, broad), np.uint8 if len(codes) < 256 else np.uint16)
    for i in range(0, len(rows), tall):
        part = slice(i, min(i + tall, len(rows)))
        own = rows.numeric[part] - centre
        own = np.concatenate([own, np.ones((len(own), 1), own.dtype)], 1)
        for j in range(0, len(reference), broad):
            columns = slice(j, min(j + broad, len(reference)))
            block = (slice(0, part.stop - i), slice(0, columns.stop - j))
            found, other = squares[block], differ[block]
            found[:] = own @ wide[:, columns]
            if codes:
                other[:] = 0
                for mine, theirs in codes:
                    np.not_equal(mine[part][:, None], theirs[None, columns], out=unlike[block])
                    other += unlike[block]
                found += other
            yield part, columns, found


def _small(rows: np.ndarray, reference: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Columns of codes in the fewest bytes, which are compared fastest; without those that never differ."""
    found = []
    for mine, theirs in zip(rows.T, reference.T, strict=True):
        values, index = np.unique(np.concatenate([mine, theirs]), return_inverse=True)
        if len(values) > 1:
            index = index.astype(np.min_scalar_type(len(values)))
            found.append((index[: len(mine)], np.ascontiguousarray(index[len(mine) :])))
    return found


class Closest:
    """The nearest training row of each of `rows`, these seen piece by piece."""

    def __init__(self, rows: Points) -> None:
        self.rows, self.seen = rows, 0
        self.found = Nearest(np.full(len(rows), np.inf), np.zeros(len(rows), np.int64))

    def see(self, train: Points) -> None:
        new = nearest(self.rows, train)
        nearer = new.distance < self.found.distance
        self.found = Nearest(
            np.where(nearer, new.distance, self.found.distance),
            np.where(nearer, new.index + self.seen, self.found.index),
        )
        self.seen += len(train)


class Equals:
    """Which rows are equal to a training row, these seen piece by piece. rows: sets of rows by name."""

    def __init__(self, **rows: Points) -> None:
        self.keys = {name: _keys(points) for name, points in rows.items()}
        self.found = {name: np.zeros(len(keys), bool) for name, keys in self.keys.items()}
        self.perhaps = np.zeros(2**BITS, bool)
        for keys in self.keys.values():
            self.perhaps[keys >> np.uint64(64 - BITS)] = True

    def see(self, train: Points) -> None:
        keys = _keys(train)
        seen = keys[self.perhaps[keys >> np.uint64(64 - BITS)]]  # most are equal to none
        for name, mine in self.keys.items():
            self.found[name] |= np.isin(mine, seen)

    def share(self, name: str) -> float:
        return float(self.found[name].mean())


class Hidden:
    """What privacy asks of generated and of unseen real rows, the training rows seen piece by piece.

    real: training rows. nearest: seek the nearest training row of each; of very many they are not sought.
    """

    def __init__(self, synthetic: Points, real: Points, unseen: Points, *, nearest: bool = True) -> None:
        self.synthetic, self.real, self.unseen, self.seen = synthetic, real, unseen, 0
        self.closest = {"value": Closest(synthetic), "ceiling": Closest(unseen)} if nearest else {}
        self.equal = Equals(value=synthetic, ceiling=unseen)

    def see(self, train: Points) -> None:
        self.seen += len(train)
        self.equal.see(train)
        for closest in self.closest.values():
            closest.see(train)


def share_nearer_train(to_train: Nearest, to_holdout: Nearest, train_rows: int, holdout_rows: int) -> Share:
    """The balanced share of rows nearer to train, from their distances to both."""
    chance = train_rows / (train_rows + holdout_rows)
    d_train, d_holdout = to_train.distance, to_holdout.distance
    nearer = float(np.mean((d_train < d_holdout) + chance * (d_train == d_holdout)))
    record = np.where(d_train <= d_holdout, to_train.index, train_rows + to_holdout.index)
    weight = np.unique(record, return_counts=True)[1] / len(record)
    draws = 1.0 / float(weight @ weight)
    # one draw's worth of chance keeps the odds finite when every row is nearer to train
    p = (nearer * draws + chance) / (draws + 1)
    odds = p / max(1e-12, 1.0 - p) * (holdout_rows / train_rows)
    share = odds / (1.0 + odds)
    return Share(share, share * (1.0 - share) / float(np.sqrt(max(p * (1.0 - p), 1e-12) * draws)))


def distinct(rows: Points) -> float:
    """Share of rows that differ from all before them."""
    return len(np.unique(_keys(rows))) / max(1, len(rows))


def _keys(points: Points) -> np.ndarray:
    """(N,) uint64 hashes, equal for rows that are equal to six decimals."""
    numeric = np.round(points.numeric.astype(np.float32), 6) + np.float32(0)
    words = np.concatenate([numeric.view(np.uint32), points.codes.astype(np.int64).view(np.uint32)], 1)
    keys = np.zeros(len(points), dtype=np.uint64)
    for k, column in enumerate(words.T):
        mixed = (column + np.uint64((k + 1) * ODD[1] % 2**64)) * np.uint64(ODD[0])
        keys = (keys ^ mixed ^ (mixed >> np.uint64(29))) * np.uint64(ODD[1])
    return keys ^ (keys >> np.uint64(32))


def reach(real: Points, *, neighbours: int = 5) -> np.ndarray:
    """(N,) squared distance of each row to its k-th neighbour."""
    k, found = min(neighbours, len(real) - 1), np.empty(len(real))
    for part, _, squares in _squares(real, real, len(real)):
        found[part] = apart(real[part], real[np.argpartition(squares, k, axis=1)[:, k]])
    return found


def coverage(real: Points, other: Points, within: np.ndarray) -> float:
    """Share of real rows that have another row within the distance of their k-th real neighbour (`reach`)."""
    return float((nearest(real, other).distance ** 2 <= within * (1 + 1e-6) + 1e-12).mean())


def apart(a: Points, b: Points) -> np.ndarray:
    """(N,) squared distances of pairs, without cancellation."""
    return ((a.numeric - b.numeric).astype(np.float64) ** 2).sum(1) + (a.codes != b.codes).sum(1)
