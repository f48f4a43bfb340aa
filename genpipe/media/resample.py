"""Sound at another sampling rate: a polyphase low-pass filter, a block at a time."""

from __future__ import annotations

import math

import numpy as np

TAPS = 10  # of the filter on each side, in samples of the lower rate: as scipy's resample_poly has them
BLOCK = 2**18


def resample(samples: np.ndarray, old: int, new: int) -> np.ndarray:
    """(T,) int16 at `old` Hz -> (ceil(T * new / old),) int16 at `new` Hz."""
    if old == new or not len(samples):
        return samples
    from scipy.signal import resample_poly

    up, down = new // math.gcd(old, new), old // math.gcd(old, new)
    margin = down * (
        math.ceil((TAPS * max(up, down) / up + 1) / down)
    )  # whole periods: blocks fit seamlessly
    block, made = down * max(1, BLOCK // down), []
    for start in range(0, len(samples), block):
        first = max(0, start - margin)
        some = resample_poly(samples[first : start + block + margin].astype(np.float64), up, down)
        skip, wanted = (start - first) * up // down, -(-min(block, len(samples) - start) * up // down)
        made.append(np.clip(np.rint(some[skip : skip + wanted]), -32768, 32767).astype(np.int16))
    return np.concatenate(made)
