"""Audio: a waveform as the log-mel spectrogram one hears, and back by Griffin-Lim.

Windows of about 32 ms that overlap by half, 64 triangular mel bands (O'Shaughnessy 1987, p. 150),
magnitudes on a logarithmic scale of 60 dB below the loudest that training could hold, scaled to [-1, 1].
Layout `grid` is (1, bands, steps), `sequence` the same numbers as (steps, bands).

The phase is not kept: no small generator learns it, and without it the others are recognisable within a
minute on a CPU. Decoding spreads bands over frequencies (non-negative least squares by multiplicative
updates, Lee & Seung 2001) and finds a phase by the fast Griffin-Lim algorithm (Griffin & Lim 1984;
Perraudin, Balazs & Søndergaard 2013).

    B clips · N samples · T steps · F frequencies · M bands
"""

from __future__ import annotations

import io
import math
import struct
import wave
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.codecs.base import Arrays, Codec, CodecConfig, RowStats, Stats, check_version
from genpipe.codecs.columns import assemble, only_field
from genpipe.codecs.conditions import ConditionTable
from genpipe.codecs.stored import AudioForm
from genpipe.errors import DataError
from genpipe.schema import BLOB, Audio, Schema
from genpipe.spec import TensorSpec

BANDS, WINDOW_SECONDS, RANGE_DB = 64, 0.032, 60.0
SPREAD_ROUNDS, PHASE_ROUNDS, MOMENTUM = 30, 32, 0.99
TINY = 1e-8
MOST_FREQUENCIES = 513  # of a rate of 48 kHz; beyond, decoding costs their number and not its square


@dataclass(frozen=True)
class AudioStats(Stats):
    """peak: the largest absolute sample, in [0, 1]."""

    rows: RowStats
    peak: float

    def merge(self, other: AudioStats) -> AudioStats:
        return AudioStats(self.rows.merge(other.rows), max(self.peak, other.peak))


class AudioCodec(Codec):
    kind = "audio"
    layouts = ("grid", "sequence")

    def __init__(self, schema: Schema, peak: float, frames: int, conditions: ConditionTable) -> None:
        """frames: samples of a clip that are learnt; what the schema's clips have beyond is silence."""
        self.schema, self.peak, self.frames, self.conditions = schema, peak, frames, conditions
        self.field: Audio = only_field(schema, "audio")
        self.window = 2 ** max(4, round(float(np.log2(WINDOW_SECONDS * self.field.rate))))
        self.hop = self.window // 2
        self.steps = -(-frames // (8 * self.hop)) * 8  # convolutions halve it three times

    @classmethod
    def observe(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> AudioStats:
        field = only_field(schema, "audio")
        waves = read_waves(batch.column(field.name), field)
        return AudioStats(RowStats.of(batch, schema, config), float(np.abs(waves).max(initial=0.0)))

    @classmethod
    def build(cls, schema: Schema, stats: AudioStats, config: CodecConfig) -> AudioCodec:
        if stats.peak == 0:
            raise DataError("NOTHING", found="nothing but silence", expected="clips one can hear")
        stats.rows.check(config)
        peak = stats.peak
        if config.rare_below:  # one clip's loudest sample, told to a sixteenth
            peak = math.ceil(16 * peak) / 16
        frames = min(config.frames, only_field(schema, "audio").frames)
        return cls(schema, peak, frames, stats.rows.table(schema, config))

    def spec(self, layout: str) -> TensorSpec:
        self.check_layout(layout)
        shape = (1, BANDS, self.steps) if layout == "grid" else (self.steps, BANDS)
        return TensorSpec.model_validate(
            {"layout": layout, "shape": shape, "dtype": "float32", "conditions": self.conditions.sizes}
        )

    def encode(self, batch: pa.RecordBatch, layout: str) -> Arrays:
        self.check_layout(layout)
        waves = read_waves(batch.column(self.field.name), self.field)[:, : self.frames]
        magnitude = np.abs(self._stft(waves)) @ self._mel.T  # (B, T, M)
        level = 20.0 * np.log10(np.maximum(magnitude / self._loudest, 10.0 ** (-RANGE_DB / 20)))
        x = np.clip(2.0 * level / RANGE_DB + 1.0, -1.0, 1.0).astype(np.float32)
        x = np.ascontiguousarray(x.transpose(0, 2, 1))[:, None] if layout == "grid" else x
        return {"x": x, "condition": self.conditions.codes(batch)}

    def decode(self, arrays: Arrays, layout: str, rng: np.random.Generator) -> pa.RecordBatch:
        self.check_layout(layout)
        x = np.clip(np.nan_to_num(arrays["x"], nan=-1.0), -1.0, 1.0).astype(np.float32)
        x = x[:, 0].transpose(0, 2, 1) if layout == "grid" else x
        magnitude = self._loudest * 10.0 ** ((x - 1.0) * RANGE_DB / 40)
        magnitude = np.where(x <= -1.0, np.float32(0.0), magnitude).astype(np.float32)
        blobs = []
        for start in range(0, len(x), 64):  # bounds the memory of the spectrograms
            waves = self._waves(self._spread(magnitude[start : start + 64]), rng)
            blobs += [{"bytes": write_wave(w, self.field), "path": None} for w in waves]
        made = self.conditions.columns(self.schema, arrays["condition"])
        return assemble(self.schema, made | {self.field.name: pa.array(blobs, BLOB)}, len(x), rng)

    def tolerance(self, layout: str) -> dict[str, float]:
        """Per clip, root mean square of encode(decode(x)) - x, 1 being 30 dB; the waveform is not kept."""
        self.check_layout(layout)
        return dict.fromkeys(self.schema.conditions, 0.0) | {self.field.name: 0.2}

    def to_json(self) -> dict[str, Any]:
        content = {"peak": self.peak, "frames": self.frames}
        return self.header() | content | {"conditions": self.conditions.model_dump(mode="json")}

    @classmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> AudioCodec:
        check_version(cls.kind, data)
        form = AudioForm.model_validate({name: data[name] for name in AudioForm.model_fields})
        if form.frames > only_field(schema, "audio").frames:
            raise ValueError(f"{form.frames} frames of clips that have fewer")
        return cls(schema, form.peak, form.frames, ConditionTable.read(schema, data["conditions"]))

    @cached_property
    def _hann(self) -> np.ndarray:
        return np.hanning(self.window + 1)[:-1].astype(np.float32)

    @property
    def _loudest(self) -> np.float32:
        """The largest band magnitude: all of a pure tone, three frequencies after the window, in one band."""
        return np.float32(self.peak * self.window / 2)

    @cached_property
    def _mel(self) -> np.ndarray:
        """(M, F) triangles; a band narrower than the frequencies' spacing takes the nearest frequency."""
        top = self.field.rate / 2
        frequencies = np.linspace(0.0, top, self.window // 2 + 1)
        edges = 700.0 * (10.0 ** (np.linspace(0.0, np.log10(1 + top / 700.0), BANDS + 2)) - 1.0)
        low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
        bank = np.maximum(0.0, np.minimum(rising, falling))
        empty = np.flatnonzero(bank.sum(1) < 0.5)
        bank[empty, np.abs(frequencies - middle[empty]).argmin(1)] = 1.0
        return bank.astype(np.float32)

    def _stft(self, waves: np.ndarray) -> np.ndarray:
        """(B, N) -> (B, T, F) complex, the middle of window t at (t + 1/2) hops."""
        before = (self.window - self.hop) // 2
        length = self.steps * self.hop + self.window - self.hop
        padded = np.zeros((len(waves), length), dtype=np.float32)
        padded[:, before : before + waves.shape[1]] = waves
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=1)[:, :: self.hop]
        return np.fft.rfft(frames * self._hann, axis=-1)

    def _istft(self, spectrum: np.ndarray) -> np.ndarray:
        """(B, T, F) -> (B, T * hop), the least-squares inverse of `_stft`."""
        frames = np.fft.irfft(spectrum, self.window, axis=-1) * self._hann
        rows, steps, _ = frames.shape
        out = np.zeros((rows, steps + 1, self.hop), dtype=np.float32)
        norm = np.zeros((steps + 1, self.hop), dtype=np.float32)
        for k in range(2):
            part = slice(k * self.hop, (k + 1) * self.hop)
            out[:, k : k + steps] += frames[:, :, part]
            norm[k : k + steps] += self._hann[part] ** 2
        before = (self.window - self.hop) // 2
        whole = (out / np.maximum(norm, 1e-2)).reshape(rows, -1)
        return whole[:, before : before + steps * self.hop]

    def _spread(self, bands: np.ndarray) -> np.ndarray:
        """(B, T, M) -> (B, T, F) >= 0 whose bands are as near as can be."""
        bank = self._mel
        target, many = bands @ bank, bank.shape[1] > MOST_FREQUENCIES
        gram = None if many else bank.T @ bank  # of very many it would be far larger than the bank
        out = target / np.maximum(bank.sum(0) * bank.sum(1).mean(), TINY)
        for _ in range(SPREAD_ROUNDS):
            back = (out @ bank.T) @ bank if gram is None else out @ gram
            out *= target / np.maximum(back, TINY)
        return out

    def _waves(self, magnitude: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(B, T, F) magnitudes -> (B, T * hop) waveforms."""
        phase = np.exp(2j * np.pi * rng.random(magnitude.shape, dtype=np.float32)).astype(np.complex64)
        before = np.zeros_like(phase)
        for _ in range(PHASE_ROUNDS):
            now = self._stft(self._istft(magnitude * phase))
            ahead = now + np.float32(MOMENTUM) * (now - before)
            phase, before = ahead / np.maximum(np.abs(ahead), np.float32(TINY)), now
        return self._istft(magnitude * phase)[:, : self.frames]


def read_waves(column: pa.Array, field: Audio) -> np.ndarray:
    """(B, field.frames) float32 in [-1, 1]; longer clips are cut, shorter ones end in silence."""
    out = np.zeros((len(column), field.frames), dtype=np.float32)
    for i, data in enumerate(column.field("bytes").to_pylist()):
        where = f"{field.name}:row {i}"
        try:
            with wave.open(io.BytesIO(data or b"")) as file:
                got = file.getframerate(), file.getnchannels(), file.getsampwidth()
                samples = np.frombuffer(file.readframes(field.frames), dtype="<i2")
        except (wave.Error, EOFError, ValueError, RuntimeError, struct.error) as error:
            raise DataError(
                "AUDIO", where=where, found=f"unreadable WAV ({error})", expected="WAV bytes"
            ) from None
        if got != (field.rate, 1, 2):
            found = f"{got[0]} Hz, {got[1]} channels, {8 * got[2]} bits"
            raise DataError(
                "AUDIO", where=where, found=found, expected=f"{field.rate} Hz, 1 channel, 16 bits"
            )
        out[i, : len(samples)] = samples.astype(np.float32) / 32768.0
    return out


def write_wave(samples: np.ndarray, field: Audio) -> bytes:
    """(N,) floats -> 16-bit WAV bytes of exactly `field.frames` samples."""
    whole = np.zeros(field.frames, dtype="<i2")
    whole[: len(samples)] = np.clip(np.rint(samples * 32768.0), -32768, 32767)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(field.rate)
        file.writeframes(whole.tobytes())
    return buffer.getvalue()
