"""Distance to the closest record: do generated rows lie nearer to training rows than to unseen real ones?

For a generated row the nearest of *all* training rows and the nearest held-out row are found exactly, in
pieces; of large datasets for some generated rows (`AMONG_MANY`), while rows equal to a training row are
looked for among all. If the generator has learnt the population and no single row, the nearest record of all
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
from genpipe.seeds import drawn, numpy_rng

CHUNK_CELLS = 8_000_000  # distances held at once
AMONG_MANY = 2_000  # rows whose nearest training row is sought, where these come in pieces
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

    def __getitem__(self, rows: np.ndarray) -> Nearest:
        return Nearest(self.distance[rows], self.index[rows])


def nearest(rows: Points, reference: Points) -> Nearest:
    """Exact, in chunks of rows against the whole reference."""
    index = np.empty(len(rows), dtype=np.int64)
    for part, squares in _squares(rows, reference):
        index[part] = squares.argmin(1)
    return Nearest(np.sqrt(_apart(rows, reference[index])), index)


def _squares(rows: Points, reference: Points) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows, and their squared distances to all of the reference (some, N), less a number of each row."""
    centre = reference.numeric.mean(0)
    ref = reference.numeric - centre
    norm = (ref.astype(np.float64) ** 2).sum(1).astype(ref.dtype)
    wide = np.concatenate([-2.0 * ref, norm[:, None]], 1, dtype=ref.dtype).T
    codes = _small(rows.codes, reference.codes)
    step = max(1, CHUNK_CELLS // max(1, len(reference)))
    for i in range(0, len(rows), step):
        part = slice(i, i + step)
        own = rows.numeric[part] - centre
        squares = np.concatenate([own, np.ones((len(own), 1), own.dtype)], 1) @ wide
        if codes:
            differ = np.zeros(squares.shape, np.uint8 if len(codes) < 256 else np.uint16)
            for mine, theirs in codes:
                differ += mine[part][:, None] != theirs[None, :]
            squares += differ
        yield part, squares


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

    def see(self, train: Points) -> None:
        seen = np.unique(_keys(train))
        for name, keys in self.keys.items():
            self.found[name] |= np.isin(keys, seen)

    def share(self, name: str) -> float:
        return float(self.found[name].mean())


class Hidden:
    """What privacy asks of generated and of unseen real rows, the training rows seen piece by piece.

    real: training rows. few: seek the nearest training row of some rows only.
    """

    def __init__(self, synthetic: Points, real: Points, unseen: Points, *, few: bool, seed: int) -> None:
        rng, most = (
            numpy_rng(seed, "evaluation", "privacy"),
            AMONG_MANY if few else len(unseen) + len(synthetic),
        )
        self.unseen, self.real = unseen, real[drawn(rng, len(real), most)]
        self.synthetic = synthetic[drawn(rng, len(synthetic), most)]
        self.places = drawn(rng, len(unseen), most)  # of the unseen rows asked about
        self.closest = {"value": Closest(self.synthetic), "ceiling": Closest(unseen[self.places])}
        self.equal = Equals(value=synthetic, ceiling=unseen)

    def see(self, train: Points) -> None:
        self.equal.see(train)
        for closest in self.closest.values():
            closest.see(train)

    @property
    def seen(self) -> int:
        return self.closest["value"].seen


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


def coverage(real: Points, other: Points, *, neighbours: int = 5) -> float:
    """Share of real rows that have another row within the distance of their k-th real neighbour."""
    k, reach = min(neighbours, len(real) - 1), np.empty(len(real))
    for part, squares in _squares(real, real):
        reach[part] = _apart(real[part], real[np.argpartition(squares, k, axis=1)[:, k]])
    return float((nearest(real, other).distance ** 2 <= reach * (1 + 1e-6) + 1e-12).mean())


def _apart(a: Points, b: Points) -> np.ndarray:
    """(N,) squared distances of pairs, without cancellation."""
    return ((a.numeric - b.numeric).astype(np.float64) ** 2).sum(1) + (a.codes != b.codes).sum(1)
