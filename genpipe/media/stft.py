"""Sound as overlapping windows of frequencies, and back where the phase is not known.

The phase is found by the fast Griffin-Lim algorithm (Griffin & Lim 1984; Perraudin, Balazs & Søndergaard
2013, "A fast Griffin-Lim algorithm", algorithm 2).

    B clips · N samples · T steps · F = window / 2 + 1 frequencies
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

PHASE_ROUNDS, MOMENTUM = 64, 0.99  # of windows that do not overlap; the more do, the fewer it takes
TINY = 1e-8


@dataclass(frozen=True)
class Stft:
    """window, hop: samples; a window is a whole number of hops, at least two."""

    window: int
    hop: int

    @property
    def before(self) -> int:
        """Samples of silence ahead of a clip: the middle of window t is at (t + 1/2) hops."""
        return (self.window - self.hop) // 2

    @cached_property
    def hann(self) -> np.ndarray:
        return np.hanning(self.window + 1)[:-1].astype(np.float32)

    def forward(self, waves: np.ndarray, steps: int) -> np.ndarray:
        """(B, N) -> (B, T, F) complex."""
        padded = np.zeros((len(waves), steps * self.hop + self.window - self.hop), dtype=np.float32)
        padded[:, self.before : self.before + waves.shape[1]] = waves
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=1)[:, :: self.hop]
        return np.fft.rfft(frames * self.hann, axis=-1)

    def inverse(self, spectrum: np.ndarray) -> np.ndarray:
        """(B, T, F) -> (B, T * hop), the least-squares inverse of `forward`."""
        frames = np.fft.irfft(spectrum, self.window, axis=-1) * self.hann
        rows, steps, _ = frames.shape
        parts = self.window // self.hop
        out = np.zeros((rows, steps + parts - 1, self.hop), dtype=np.float32)
        norm = np.zeros((steps + parts - 1, self.hop), dtype=np.float32)
        for k in range(parts):
            part = slice(k * self.hop, (k + 1) * self.hop)
            out[:, k : k + steps] += frames[:, :, part]
            norm[k : k + steps] += self.hann[part] ** 2
        waves = (out / np.maximum(norm, 1e-2)).reshape(rows, -1)
        return waves[:, self.before : self.before + steps * self.hop]

    def waves(self, magnitude: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(B, T, F) magnitudes -> (B, T * hop) waveforms that have them as nearly as can be."""
        phase = np.exp(2j * np.pi * rng.random(magnitude.shape, dtype=np.float32)).astype(np.complex64)
        before, steps = np.zeros_like(phase), magnitude.shape[1]
        for _ in range(PHASE_ROUNDS * self.hop // self.window):
            now = self.forward(self.inverse(magnitude * phase), steps)
            ahead = now + np.float32(MOMENTUM) * (now - before)
            phase, before = ahead / np.maximum(np.abs(ahead), np.float32(TINY)), now
        return self.inverse(magnitude * phase)
