"""Audio: Fréchet distance, coverage and precision of log-mel spectrograms and labels.

The log-mel spectrogram is averaged over a few time segments, so that a shift of some milliseconds costs
nothing and duration and envelope still count; the rest is the feature space of images and series.

    N clips · S samples · M mel bands · G segments
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.evaluation.base import Judge, Points, Usefulness, View
from genpipe.evaluation.feature_space import FeatureSpace
from genpipe.evaluation.image import NO_LABEL
from genpipe.evaluation.learners import classify
from genpipe.media.mel import mel_bank
from genpipe.media.wav import read_clips

WINDOW, HOP, BANDS, SEGMENTS = 256, 128, 24, 12
FLOOR = 1e-4  # power below which everything is silence: -40 dB of full scale


class AudioJudge(Judge):
    """View.x: (N, S) float32 in [-1, 1]."""

    kind = "audio"

    def view(self, table: pa.Table) -> View:
        name = self.main("audio")[0]
        field = self.schema.field(name)
        assert field.kind == "audio"
        self.rate = field.rate
        return View(read_clips(table.column(name), field), self.codes(table), self.labels(table))

    def describe(self, view: View) -> np.ndarray:
        """(N, M * G)"""
        mel = log_mel(view.x, self.rate)
        cut = np.array_split(np.arange(mel.shape[1]), min(SEGMENTS, mel.shape[1]))
        return np.concatenate([mel[:, c].mean(1) for c in cut], 1).astype(np.float64)

    def fit(self) -> None:
        self.space = FeatureSpace(self.describe(self.real), self.real.labels)

    def parts(self, view: View) -> dict[str, float]:
        return self.space.parts(self.describe(view), view.labels)

    def points(self, view: View) -> Points:
        z = (self.describe(view) - self.space.mean) / self.space.scale
        return Points(z / np.sqrt(z.shape[1]), view.codes)

    def scramble(self, view: View, rng: np.random.Generator) -> View:
        """White noise with each clip's loudness."""
        level = np.sqrt((view.x**2).mean(1, keepdims=True))
        noise = rng.normal(size=view.x.shape).astype(np.float32) * level
        return View(np.clip(noise, -1, 1), view.codes, view.labels)

    def usefulness(self, fit_on: View, test: View) -> Usefulness:
        if fit_on.labels is None or test.labels is None:
            return Usefulness("accuracy", None, 0.0, NO_LABEL)
        return classify(self.describe(fit_on), fit_on.labels, self.describe(test), test.labels, trees=False)


def log_mel(x: np.ndarray, rate: int, chunk: int = 512) -> np.ndarray:
    """(N, steps, M) natural-log mel power."""
    from scipy.fft import rfft

    if x.shape[1] < WINDOW:
        x = np.pad(x, ((0, 0), (0, WINDOW - x.shape[1])))
    hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    bank = mel_bank(rate, WINDOW, BANDS).T
    bank = bank / bank.sum(0)  # the mean power in a band, however wide it is
    out = []
    for i in range(0, len(x), chunk):
        frames = np.lib.stride_tricks.sliding_window_view(x[i : i + chunk], WINDOW, axis=1)[:, ::HOP]
        power = np.abs(rfft(frames * hann, axis=-1)) ** 2 / WINDOW
        out.append(np.log(power @ bank + FLOOR))
    return np.concatenate(out) if out else np.zeros((0, 1, BANDS), dtype=np.float32)
