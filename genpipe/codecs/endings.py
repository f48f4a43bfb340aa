"""What values a bin of numbers holds: those that people write again and again, and how the others end.

A quantile bin says how large a number is and not how it is written: prices end in 000 or 95, times stop
before 60, most latitudes have four decimals. So values that enough rows of a bin share are drawn as often as
these have them, and of the others so many are multiples of 10, 50, 100 .. as in the data.

Where how a value is written follows from the rest of its row (all shares of one year have two decimals),
it is a token of its own beside the bin: which step of a ladder (1, 10, 100 ..) is the last to divide it
(writing.py).

    N bins · G steps of the ladder, 1 where there is none · C values that are kept · L grains
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from genpipe.codecs.holders import coarse

GRAINS = np.array([1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 5000, 10_000, 100_000, 1_000_000])
MOST = 10_000  # values of a column that are kept
LEAST = 5  # rows of a value that is kept
FOLDED = 0.1  # of so few rows of a bin are the other values not drawn: there they would be mostly wrong
TOGETHER = 500  # rows from which it is told what they are multiples of
CHANCE = 1.2  # over the root of the rows: smaller shares may come by chance
FEW = 1e-9


@dataclass(frozen=True)
class Endings:
    """points: (C,) values kept, ascending. bins: (C,) of each. often: (C,) its share of the bin's rows.
    grains: (N, L) the shares of a bin's other rows that are drawn from the multiples of each of GRAINS; L = 0
    where values are real numbers. ladder: each step divides the next. With one, what is said here of a bin is
    said of the rows of a bin and a step: number bin * G + step of N * G, and L = 0.
    """

    points: np.ndarray
    bins: np.ndarray
    often: np.ndarray
    grains: np.ndarray
    ladder: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        shares = [[round(s, 6) for s in row] for row in self.grains.tolist()] if self.grains.size else []
        often = [round(s, 9) for s in self.often.tolist()]
        steps = {"ladder": list(self.ladder)} if self.ladder else {}
        return {"points": self.points.tolist(), "often": often, "grains": shares, **steps}

    @cached_property
    def kept(self) -> np.ndarray:
        """(N,) the share of a bin's rows whose values are kept."""
        return np.minimum(np.bincount(self.bins, self.often, minlength=len(self.grains)), 1.0)

    @cached_property
    def _upto(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(C,) the values by bins, (C + 1,) sums of `often` before each, (N,) those before a bin's first."""
        order = np.argsort(self.bins, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(self.often[order])])
        return order, sums, sums[np.searchsorted(self.bins[order], np.arange(len(self.grains)))]

    def draw(
        self, which: np.ndarray, points: np.ndarray, ends: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """points (B,), drawn evenly from the bins `which` (B,), as values are written there.

        ends: (B, 2) the first and the last point of each row's bin.
        """
        if self.grains.shape[1]:
            upto = np.cumsum(self.grains, axis=1)
            nth = (upto[which] <= rng.random(len(which))[:, None]).sum(1)
            grain = GRAINS[np.minimum(nth, len(GRAINS) - 1)]
            nearest = (points + grain // 2) // grain * grain
            points = np.where((nearest >= ends[:, 0]) & (nearest <= ends[:, 1]), nearest, points)
        if self.ladder:
            points = on_step(points, which % len(self.ladder), self.ladder, ends, rng)
        if not len(self.points):
            return points
        order, sums, first = self._upto
        uniform = rng.random(len(which))
        at = np.searchsorted(sums, first[which] + uniform, side="right") - 1
        at = order[np.clip(at, 0, len(self.points) - 1)]
        taken = (uniform < self.kept[which]) & (self.bins[at] == which)
        return np.where(taken, self.points[at], points)

    def log_density(self, which: np.ndarray, points: np.ndarray, log_even: np.ndarray) -> np.ndarray:
        """Of points in the bins `which`, whose density by even draws is given (B,)."""
        even = np.exp(log_even)
        if self.grains.shape[1]:
            divides = points[:, None] % GRAINS == 0
            even = even * (self.grains[which] * GRAINS * divides).sum(1)
        if self.ladder:
            upto = 1.0 / np.array([*self.ladder, np.inf])
            even = even / (upto[:-1] - upto[1:])[which % len(self.ladder)]
        density = even * (1.0 - self.kept[which])
        if len(self.points):
            near = np.minimum(np.searchsorted(self.points, points), len(self.points) - 1)
            density = density + np.where(self.points[near] == points, self.often[near], 0.0)
        found: np.ndarray = np.log(np.maximum(density, FEW * np.exp(log_even)))
        return found


def fit_endings(
    points: np.ndarray,
    counts: np.ndarray,
    which: np.ndarray,
    held: np.ndarray,
    bins: int,
    *,
    k: int,
    whole: bool,
    ladder: tuple[int, ...] = (),
) -> Endings:
    """Of distinct points in bins, ascending, with their counts.

    held: whether enough entities have each. k: shares are made of counts rounded to it. whole: on a lattice.
    """
    if ladder:
        which, bins = which * len(ladder) + steps(points, ladder), bins * len(ladder)
    kept = held & (counts >= max(LEAST, k))
    if kept.sum() > MOST:
        kept &= counts >= np.sort(counts[kept])[-MOST]
    rows = coarse(np.bincount(which, counts, minlength=bins), k)
    often = coarse(counts[kept], k) / np.maximum(rows[which[kept]], 1)
    over = np.bincount(which[kept], often, minlength=bins)
    often = often / np.where(over >= 1.0 - FOLDED, over, 1.0)[which[kept]]
    if not whole or ladder:
        return Endings(points[kept], which[kept], often, np.zeros((bins, 0)), ladder)
    largest = np.zeros((bins, len(GRAINS)))
    np.add.at(largest, (which[~kept], _largest(points[~kept])), counts[~kept])
    return Endings(points[kept], which[kept], often, _grains(largest, k))


def steps(points: np.ndarray, ladder: tuple[int, ...]) -> np.ndarray:
    """(P,) the last step of the ladder that divides each point."""
    found = np.zeros(len(points), dtype=np.int64)
    for nth, step in enumerate(ladder):
        found[points % step == 0] = nth
    return found


def on_step(
    points: np.ndarray, nth: np.ndarray, ladder: tuple[int, ...], ends: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The points (B,) moved to near ones that the step `nth` (B,) is the last to divide, where `ends` (B, 2)
    have room for one.
    """
    step = np.array(ladder)[nth]
    times = np.array([b // a for a, b in pairwise(ladder)] + [0])[nth]  # of the step in the next; 0: the last
    near = (points + step // 2) // step * step
    aside = rng.integers(1, np.maximum(times, 2)) * step
    next_too = (times > 0) & (near // step % np.maximum(times, 1) == 0)
    for there in (near + np.where(next_too, aside, 0), near - np.where(next_too, aside, step), near + step):
        fits = (there >= ends[:, 0]) & (there <= ends[:, 1]) & (steps(there, ladder) == nth)
        points = np.where(fits & (steps(points, ladder) != nth), there, points)
    return points


def _largest(points: np.ndarray) -> np.ndarray:
    """(P,) which of GRAINS is the largest that divides each point."""
    found = np.zeros(len(points), dtype=np.int64)
    for nth, grain in enumerate(GRAINS.tolist()):
        found[points % grain == 0] = nth
    return found


@cache
def _by_chance() -> np.ndarray:
    """(L, L) of the multiples of each of GRAINS, the share whose largest divisor among them is each."""
    period = int(np.lcm.reduce(GRAINS))
    largest = _largest(np.arange(1, period + 1))
    rows = [largest[g - 1 :: g] for g in GRAINS.tolist()]
    return np.stack([np.bincount(row, minlength=len(GRAINS)) / len(row) for row in rows])


def _grains(largest: np.ndarray, k: int) -> np.ndarray:
    """(N, L) shares, of (N, L) numbers of rows by their largest divisor.

    Every tenth number is a multiple of ten by chance, so the shares are those of a mixture that has these
    divisors: the least squares of shares that are not negative. Bins that lie together are taken together
    until there are rows enough to tell.
    """
    from scipy.optimize import nnls

    group = np.cumsum(largest.sum(1)) // TOGETHER
    group = np.minimum(group, largest.sum() // TOGETHER - 1).clip(0)
    out = np.zeros_like(largest)
    for nth in np.unique(group):
        rows = largest[group == nth].sum(0)
        rows = np.rint(rows / k) * k if k > 1 else rows
        shares = nnls(_by_chance().T, rows / max(rows.sum(), 1))[0]
        shares = np.where(shares < CHANCE * shares.sum() / max(rows.sum(), 1) ** 0.5, 0.0, shares)
        shares[0] += shares.sum() == 0
        out[group == nth] = shares / shares.sum()
    return out
