"""The mel scale: how high people hear a tone to be (O'Shaughnessy 1987, p. 150)."""

from __future__ import annotations

import numpy as np


def mel_bank(rate: int, window: int, bands: int) -> np.ndarray:
    """(bands, window // 2 + 1) triangles, equally wide on the mel scale, over the frequencies of a window's
    Fourier transform; a band narrower than the frequencies' spacing takes the nearest frequency.
    """
    top = rate / 2
    frequencies = np.linspace(0.0, top, window // 2 + 1)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, np.log10(1 + top / 700.0), bands + 2)) - 1.0)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    bank = np.maximum(0.0, np.minimum(rising, falling))
    empty = np.flatnonzero(bank.sum(1) < 0.5)
    bank[empty, np.abs(frequencies - middle[empty]).argmin(1)] = 1.0
    return bank.astype(np.float32)
