"""How long clips are, and clips stretched to one length: time in steps of a spectrogram.

B clips · T steps · M bands
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from genpipe.codecs.base import LEAST


def whole(steps: int) -> int:
    """The next multiple of eight, as convolutions halve it three times."""
    return -(-steps // 8) * 8


def lengths_of(waves: np.ndarray, hop: int) -> np.ndarray:
    """(B,) steps up to the last sample that is not zero, at least one, of waves (B, N)."""
    heard = waves != 0
    last = np.where(heard.any(1), waves.shape[1] - heard[:, ::-1].argmax(1), 1)
    return -(-last // hop)


@dataclass(frozen=True)
class Pace:
    """low, high: steps that 5 and 95 of 100 clips do not exceed; `LEAST` or more are as short, or as long.
    steps: that all are stretched to.
    """

    low: int
    high: int
    steps: int

    @classmethod
    def of(cls, lengths: Counter[int]) -> Pace | None:
        """None where clips are of one length, or too few. Three of four clips lose no step."""
        ordered = np.sort(np.fromiter(lengths.keys(), np.int64))
        seen = np.cumsum([lengths[length] for length in ordered.tolist()])
        clips = seen[-1]
        if clips < 2 * LEAST:
            return None
        nth = np.array([0.05, 0.75, 0.95]) * clips
        nth = nth.clip(LEAST, clips - LEAST + 1)  # those beyond are fewer than may leave a trace
        low, most, high = ordered[np.searchsorted(seen, nth)].tolist()
        return cls(low, high, whole(most)) if low < high else None

    @property
    def _middle(self) -> float:
        return 0.5 * (math.log(self.low) + math.log(self.high))

    @property
    def _range(self) -> float:
        return math.log(self.high / self.low)

    def told(self, lengths: np.ndarray) -> np.ndarray:
        """(B,) steps as numbers in [-1, 1]; low is -1/2 and high 1/2 on a logarithmic scale."""
        at: np.ndarray = (np.log(lengths) - self._middle) / self._range
        return at.clip(-1.0, 1.0).astype(np.float32)

    def lengths(self, told: np.ndarray) -> np.ndarray:
        """(B,) whole steps again."""
        steps: np.ndarray = np.rint(np.exp(self._middle + self._range * told.astype(np.float64)))
        return steps.astype(np.int64)


def stretched(x: np.ndarray, before: np.ndarray, after: np.ndarray, steps: int) -> np.ndarray:
    """The first `before` (B,) steps of clips x (B, T, M) as `after` (B,) steps, linearly between two; beyond
    them -1, silence. (B, steps, M)
    """
    out, k = np.full((len(x), steps, x.shape[2]), -1.0, np.float32), np.arange(steps)
    for made, clip, old, new in zip(out, x, before.tolist(), after.tolist(), strict=True):
        at = ((k[:new] + 0.5) * (old / new) - 0.5).clip(0, old - 1)
        first = at.astype(np.int64)
        part = (at - first).astype(np.float32)[:, None]
        made[:new] = (1 - part) * clip[first] + part * clip[np.minimum(first + 1, old - 1)]
    return out
