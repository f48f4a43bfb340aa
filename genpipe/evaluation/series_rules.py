"""What every real window keeps and anybody sees broken: channels that are always in order (the high of a day
is never below its low), and channels of few values that move from each to few others (an hour to the next).

N windows · T steps · C channels
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST = 64  # channels of which pairs are looked at; values of a channel that has few
TOGETHER = 0.5  # of the lesser spread of two channels, of which their difference has less
FEW_MOVES = 3  # values that may follow a value, on average
ROWS = 200  # windows from which nothing is broken by chance


@dataclass(frozen=True)
class Rules:
    """order: (below, above) channels. moves: channel -> its values, (K,), and which may follow, (K, K)."""

    order: tuple[tuple[int, int], ...]
    moves: dict[int, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, x: np.ndarray) -> Rules:
        """Those that all windows x (N, T, C) keep."""
        if len(x) < ROWS or x.shape[2] > MOST:
            return cls((), {})
        flat = x.reshape(-1, x.shape[2])
        spread, order = flat.std(0), []
        for a in range(x.shape[2]):
            beyond = flat - flat[:, a : a + 1]
            near = beyond.std(0) < TOGETHER * np.minimum(spread, spread[a])
            above = np.flatnonzero((beyond.min(0) >= 0) & near)
            order += [(a, int(b)) for b in above if b != a]
        moves = {c: found for c in range(x.shape[2]) if (found := _moves(x[..., c])) is not None}
        return cls(tuple(order), moves)

    def kept(self, x: np.ndarray) -> float | None:
        """The share of windows that keep a rule, averaged over rules; None without any."""
        kept = [float((x[..., b] >= x[..., a]).all(1).mean()) for a, b in self.order]
        for c, (values, may) in self.moves.items():
            at = np.searchsorted(values, x[..., c]).clip(0, len(values) - 1)
            known = (values[at] == x[..., c]).all(1)
            kept.append(float((known & may[at[:, :-1], at[:, 1:]].all(1)).mean()))
        return float(np.mean(kept)) if kept else None


def _moves(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Of one channel (N, T)."""
    if steps.shape[1] < 2 or len(np.unique(steps[0])) > MOST:
        return None
    values = np.unique(steps)
    size = len(values)
    if not 3 <= size <= MOST:
        return None
    at = np.searchsorted(values, steps)
    may = np.zeros((size, size), bool)
    may[at[:, :-1].ravel(), at[:, 1:].ravel()] = True
    return (values, may) if may.sum() <= FEW_MOVES * size else None
