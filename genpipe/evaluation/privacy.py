"""Distance to the closest record: do generated rows lie nearer to training rows than to unseen real ones?

For every generated row the nearest training row and the nearest holdout row are found exactly: in chunks,
against *every* row of both, never a sample of them. If the generator has learnt the population and no single
row, the nearest record of all is a training row with probability n_train / (n_train + n_holdout), so the
observed odds divided by n_train / n_holdout give a share that is 0.5 for such a generator and 1 for one that
copies, whatever the sizes. A tie counts as it would by chance. Rows that share one nearest record (far-off
noise does, so does a constant) are not independent draws: the standard error counts distinct records, not
rows.

A high share is alarming; a fair one proves nothing (arXiv 2505.01524): it is a signal, not a guarantee.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genpipe.evaluation.base import Points

CHUNK_CELLS = 8_000_000  # distances held at once
SAME = {
    4: 1e-6,
    8: 1e-12,
}  # by bytes of a float: relative squared distance that cancellation may leave of zero


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

    def __getitem__(self, rows: slice) -> Nearest:
        return Nearest(self.distance[rows], self.index[rows])

    @property
    def copies(self) -> float:
        """Share of rows that equal a reference row."""
        return float((self.distance == 0).mean())


def nearest(rows: Points, reference: Points) -> Nearest:
    """Exact, in chunks of rows against the whole reference."""
    centre = reference.numeric.mean(0)
    ref = np.ascontiguousarray(reference.numeric - centre)
    ref_norm = (ref.astype(np.float64) ** 2).sum(1)
    codes = [np.ascontiguousarray(c) for c in reference.codes.T]
    step, same = max(1, CHUNK_CELLS // len(reference)), SAME[ref.itemsize]
    best, index = np.empty(len(rows)), np.empty(len(rows), dtype=np.int64)
    for i in range(0, len(rows), step):
        part = rows.numeric[i : i + step] - centre
        norm = (part.astype(np.float64) ** 2).sum(1)
        squares = norm[:, None] + ref_norm[None, :] - 2.0 * (part @ ref.T)
        squares[squares < same * (norm[:, None] + ref_norm[None, :])] = 0.0
        for k, column in enumerate(codes):
            squares += rows.codes[i : i + step, k][:, None] != column[None, :]
        index[i : i + step] = squares.argmin(1)
        best[i : i + step] = squares.min(1)
    return Nearest(np.sqrt(np.clip(best, 0, None)), index)


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
    return len(set(_keys(rows))) / max(1, len(rows))


def _keys(points: Points) -> list[bytes]:
    numeric = np.ascontiguousarray(np.round(points.numeric.astype(np.float32), 6) + np.float32(0))
    codes = np.ascontiguousarray(points.codes)
    return [a.tobytes() + b.tobytes() for a, b in zip(numeric, codes, strict=True)]


def coverage(real: Points, other: Points, *, neighbours: int = 5) -> float:
    """Share of real rows that have another row within the distance of their k-th real neighbour."""
    k = min(neighbours, len(real) - 1)
    step = max(1, CHUNK_CELLS // len(real))
    radii = []
    for i in range(0, len(real), step):
        part = real[i : i + step]
        squares = _squares(part, real)
        radii.append(np.partition(squares, k, axis=1)[:, k])
    return float((nearest(real, other).distance ** 2 <= np.concatenate(radii) * (1 + 1e-6) + 1e-12).mean())


def _squares(a: Points, b: Points) -> np.ndarray:
    centre = b.numeric.mean(0)
    x, y = a.numeric - centre, b.numeric - centre
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None, :] - 2.0 * (x @ y.T)
    for k in range(a.codes.shape[1]):
        squares = squares + (a.codes[:, k][:, None] != b.codes[:, k][None, :])
    return np.clip(squares, 0, None)
