"""The mel scale: how high people hear a tone to be (O'Shaughnessy 1987, p. 150)."""

from __future__ import annotations

import numpy as np

SPREAD_ROUNDS, TINY = 30, 1e-8
MOST_FREQUENCIES = 513  # beyond, spreading costs their number and not its square


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


def spread(bands: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """(..., M) of a bank (M, F) -> (..., F) >= 0 whose bands are as near as can be: non-negative least
    squares by multiplicative updates (Lee & Seung 2001, "Algorithms for non-negative matrix factorization").
    """
    target, many = bands @ bank, bank.shape[1] > MOST_FREQUENCIES
    gram = None if many else bank.T @ bank  # of very many it would be far larger than the bank
    out: np.ndarray = target / np.maximum(bank.sum(0) * bank.sum(1).mean(), TINY)
    for _ in range(SPREAD_ROUNDS):
        back = (out @ bank.T) @ bank if gram is None else out @ gram
        out *= target / np.maximum(back, TINY)
    return out
