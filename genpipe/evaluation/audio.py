"""Audio: Fréchet distance, coverage and precision of log-mel spectrograms and labels.

The log-mel spectrogram is averaged over a few time segments, so that a shift of some milliseconds costs
nothing and duration and envelope still count; the rest is the feature space of images and series.

    N clips · S samples · M mel bands · G segments
"""

from __future__ import annotations

import io
import wave

import numpy as np
import pyarrow as pa

from genpipe.errors import DataError
from genpipe.evaluation.base import Judge, Points, Usefulness, View
from genpipe.evaluation.feature_space import FeatureSpace
from genpipe.evaluation.image import NO_LABEL
from genpipe.evaluation.learners import classify

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
        return View(decode(table.column(name), field.frames), self.codes(table), self.labels(table))

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


def decode(column: pa.ChunkedArray, frames: int) -> np.ndarray:
    """(N, frames) float32 mono in [-1, 1], cut or padded with silence."""
    out = np.zeros((len(column), frames), dtype=np.float32)
    for i, record in enumerate(column.to_pylist()):
        clip = samples((record or {}).get("bytes") or b"", i)
        out[i, : min(frames, len(clip))] = clip[:frames]
    return out


def samples(blob: bytes, row: int) -> np.ndarray:
    """Mono float32 of a PCM WAV file."""
    try:
        with wave.open(io.BytesIO(blob)) as file:
            width, channels = file.getsampwidth(), file.getnchannels()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise DataError(
            "WAV", where=f"row {row}", found=str(error) or "truncated file", expected="PCM WAV"
        ) from error
    if width == 1:
        clip = np.frombuffer(raw, dtype=np.uint8).astype(np.float32) / 128.0 - 1.0
    elif width == 2:
        clip = np.frombuffer(raw, dtype="<i2").astype(np.float32) / 32768.0
    elif width == 4:
        clip = np.frombuffer(raw, dtype="<i4").astype(np.float32) / 2147483648.0
    else:
        raise DataError("WAV", where=f"row {row}", found=f"{8 * width} bits a sample", expected="8, 16 or 32")
    return clip.reshape(-1, channels).mean(1)


def log_mel(x: np.ndarray, rate: int, chunk: int = 512) -> np.ndarray:
    """(N, steps, M) natural-log mel power."""
    from scipy.fft import rfft

    if x.shape[1] < WINDOW:
        x = np.pad(x, ((0, 0), (0, WINDOW - x.shape[1])))
    hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    bank = mel_bank(rate)
    out = []
    for i in range(0, len(x), chunk):
        frames = np.lib.stride_tricks.sliding_window_view(x[i : i + chunk], WINDOW, axis=1)[:, ::HOP]
        power = np.abs(rfft(frames * hann, axis=-1)) ** 2 / WINDOW
        out.append(np.log(power @ bank + FLOOR))
    return np.concatenate(out) if out else np.zeros((0, 1, BANDS), dtype=np.float32)


def mel_bank(rate: int) -> np.ndarray:
    """(WINDOW // 2 + 1, M) triangles, equally wide on the mel scale."""
    top = 2595.0 * np.log10(1.0 + rate / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0, top, BANDS + 2) / 2595.0) - 1.0)
    hertz = np.arange(WINDOW // 2 + 1) * rate / WINDOW
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    rise = (hertz[:, None] - low) / np.maximum(mid - low, 1e-9)
    fall = (high - hertz[:, None]) / np.maximum(high - mid, 1e-9)
    bank = np.clip(np.minimum(rise, fall), 0, None)
    return (bank / np.maximum(bank.sum(0), 1e-9)).astype(np.float32)
