"""Audio: a waveform as the log-mel spectrogram one hears, and back by Griffin-Lim.

Windows of about 32 ms that overlap by half, 64 triangular mel bands (O'Shaughnessy 1987, p. 150),
magnitudes on a logarithmic scale of 90 dB below the loudest that training could hold, scaled to [-1, 1]:
clips of one set differ in level by 30 dB and more, and what is quiet in a quiet clip is heard.
Layout `grid` is (1, bands, steps), `sequence` the same numbers as (steps, bands).

Where clips differ in length, each is stretched to one number of steps, its pitch as it is, and its length
takes the place of the highest band. So a word begins and ends at the same place in every clip, a generator
learns what is said apart from how long it takes, and what it makes has a length of its own.

The phase is not kept: no small generator learns it, and without it the others are recognisable within a
minute on a CPU. Decoding spreads bands over frequencies (non-negative least squares by multiplicative
updates, Lee & Seung 2001) and finds a phase by the fast Griffin-Lim algorithm (Griffin & Lim 1984;
Perraudin, Balazs & Søndergaard 2013).

    B clips · N samples · T steps · F frequencies · M bands
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.codecs.base import Arrays, Codec, CodecConfig, RowStats, Stats, check_version
from genpipe.codecs.columns import assemble, only_field
from genpipe.codecs.conditions import ConditionTable
from genpipe.codecs.pace import Pace, lengths_of, stretched, whole
from genpipe.codecs.stored import AudioForm
from genpipe.errors import DataError
from genpipe.fields import BLOB, Audio
from genpipe.media.mel import mel_bank
from genpipe.media.wav import read_clips, write_clip
from genpipe.schema import Schema
from genpipe.spec import TensorSpec

BANDS, WINDOW_SECONDS, RANGE_DB = 64, 0.032, 90.0
MOST_SECONDS = 10  # of a clip, where the recipe does not say
SPREAD_ROUNDS, PHASE_ROUNDS, MOMENTUM = 30, 32, 0.99
TINY = 1e-8
MOST_FREQUENCIES = 513  # of a rate of 48 kHz; beyond, decoding costs their number and not its square


def window_of(field: Audio) -> int:
    """Samples of a window: a power of two."""
    return 1 << max(4, round(float(np.log2(WINDOW_SECONDS * field.rate))))


def learnt(field: Audio, config: CodecConfig) -> int:
    """Samples of a clip that are learnt."""
    return min(config.frames or MOST_SECONDS * field.rate, field.frames)


@dataclass(frozen=True)
class AudioStats(Stats):
    """peak: the largest absolute sample, in [0, 1]. lengths: how many clips end in which step."""

    rows: RowStats
    peak: float
    lengths: Counter[int]

    def merge(self, other: AudioStats) -> AudioStats:
        lengths = self.lengths + other.lengths
        return AudioStats(self.rows.merge(other.rows), max(self.peak, other.peak), lengths)


class AudioCodec(Codec):
    kind = "audio"
    layouts = ("grid", "sequence")

    def __init__(
        self,
        schema: Schema,
        peak: float,
        frames: int,
        conditions: ConditionTable,
        *,
        range_db: float = RANGE_DB,
        pace: Pace | None = None,
    ) -> None:
        """frames: samples of a clip that are learnt; what the schema's clips have beyond is silence.
        range_db: from the loudest magnitude down to what counts as silence. pace: of clips that differ in
        length.
        """
        self.schema, self.peak, self.frames, self.conditions = schema, peak, frames, conditions
        self.range_db, self.pace = range_db, pace
        self.field: Audio = only_field(schema, "audio")
        self.window = window_of(self.field)
        self.hop = self.window // 2
        self.span = whole(-(-frames // self.hop))  # steps of the longest clip
        self.steps = pace.steps if pace else self.span

    @classmethod
    def observe(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> AudioStats:
        field = only_field(schema, "audio")
        waves = read_clips(batch.column(field.name), field)
        ends = lengths_of(waves[:, : learnt(field, config)], window_of(field) // 2)
        peak = float(np.abs(waves).max(initial=0.0))
        return AudioStats(RowStats.of(batch, schema, config), peak, Counter(ends.tolist()))

    @classmethod
    def build(cls, schema: Schema, stats: AudioStats, config: CodecConfig) -> AudioCodec:
        if stats.peak == 0:
            raise DataError("NOTHING", found="nothing but silence", expected="clips one can hear")
        stats.rows.check(config)
        peak = stats.peak
        if config.rare_below:  # one clip's loudest sample, told to a sixteenth
            peak = math.ceil(16 * peak) / 16
        field: Audio = only_field(schema, "audio")
        frames, pace = learnt(field, config), Pace.of(stats.lengths)
        codec = cls(schema, peak, frames, stats.rows.table(schema, config), pace=pace)
        if frames < field.frames:
            seconds, all_of = frames / field.rate, field.frames / field.rate
            codec.notice = (
                f"clips of {all_of:.2g} s are learnt up to {seconds:.2g} s, the rest is silence; "
                "codec.frames takes more"
            )
        return codec

    def spec(self, layout: str) -> TensorSpec:
        self.check_layout(layout)
        shape = (1, BANDS, self.steps) if layout == "grid" else (self.steps, BANDS)
        return TensorSpec.model_validate(
            {"layout": layout, "shape": shape, "dtype": "float32", "conditions": self.conditions.sizes}
        )

    def encode(self, batch: pa.RecordBatch, layout: str) -> Arrays:
        self.check_layout(layout)
        waves = read_clips(batch.column(self.field.name), self.field)[:, : self.frames]
        magnitude = np.abs(self._stft(waves)) @ self._mel.T  # (B, T, M)
        level = 20.0 * np.log10(np.maximum(magnitude / self._loudest, 10.0 ** (-self.range_db / 20)))
        x = np.clip(2.0 * level / self.range_db + 1.0, -1.0, 1.0).astype(np.float32)
        if self.pace:
            ends = lengths_of(waves, self.hop)
            x = stretched(x, ends, np.full(len(x), self.steps), self.steps)
            x[:, :, -1] = self.pace.told(ends)[:, None]
        x = np.ascontiguousarray(x.transpose(0, 2, 1))[:, None] if layout == "grid" else x
        return {"x": x, "condition": self.conditions.codes(batch)}

    def decode(self, arrays: Arrays, layout: str, rng: np.random.Generator) -> pa.RecordBatch:
        self.check_layout(layout)
        x = np.clip(np.nan_to_num(arrays["x"], nan=-1.0), -1.0, 1.0).astype(np.float32)
        x = x[:, 0].transpose(0, 2, 1) if layout == "grid" else x
        ends = np.full(len(x), self.span)
        if self.pace:
            ends = self.pace.lengths(x[:, :, -1].mean(1)).clip(1, self.span)
            x = np.concatenate([x[:, :, :-1], x[:, :, -2:-1]], 2)
            x = stretched(x, np.full(len(x), self.steps), ends, self.span)
        magnitude = self._loudest * 10.0 ** ((x - 1.0) * self.range_db / 40)
        magnitude = np.where(x <= -1.0, np.float32(0.0), magnitude).astype(np.float32)
        blobs = []
        for start in range(0, len(x), 64):  # bounds the memory of the spectrograms
            waves = self._waves(self._spread(magnitude[start : start + 64]), rng)
            for wave, end in zip(waves, ends[start : start + 64], strict=True):
                length = min(end * self.hop, self.field.frames) if self.pace else self.field.frames
                blobs.append({"bytes": write_clip(wave[:length], self.field, length), "path": None})
        made = self.conditions.columns(self.schema, arrays["condition"])
        return assemble(self.schema, made | {self.field.name: pa.array(blobs, BLOB)}, len(x), rng)

    def tolerance(self, layout: str) -> dict[str, float]:
        """Per clip, root mean square of encode(decode(x)) - x, 1 being 45 dB; the waveform is not kept."""
        self.check_layout(layout)
        return dict.fromkeys(self.schema.conditions, 0.0) | {self.field.name: 0.2}

    def to_json(self) -> dict[str, Any]:
        content: dict[str, Any] = {"peak": self.peak, "frames": self.frames, "range_db": self.range_db}
        if self.pace:
            content["pace"] = [self.pace.low, self.pace.high, self.pace.steps]
        return self.header() | content | {"conditions": self.conditions.model_dump(mode="json")}

    @classmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> AudioCodec:
        check_version(cls.kind, data)
        earlier = {"range_db": 60.0, "pace": None}  # of versions before the fourth; and the sixth
        form = AudioForm.model_validate({name: (earlier | data)[name] for name in AudioForm.model_fields})
        if form.frames > only_field(schema, "audio").frames:
            raise ValueError(f"{form.frames} frames of clips that have fewer")
        table = ConditionTable.read(schema, data["conditions"])
        pace = Pace(*form.pace) if form.pace else None
        return cls(schema, form.peak, form.frames, table, range_db=form.range_db, pace=pace)

    @cached_property
    def _hann(self) -> np.ndarray:
        return np.hanning(self.window + 1)[:-1].astype(np.float32)

    @property
    def _loudest(self) -> np.float32:
        """The largest band magnitude: all of a pure tone, three frequencies after the window, in one band."""
        return np.float32(self.peak * self.window / 2)

    @cached_property
    def _mel(self) -> np.ndarray:
        """(M, F) triangles."""
        return mel_bank(self.field.rate, self.window, BANDS)

    def _stft(self, waves: np.ndarray) -> np.ndarray:
        """(B, N) -> (B, T, F) complex, the middle of window t at (t + 1/2) hops."""
        before = (self.window - self.hop) // 2
        length = self.span * self.hop + self.window - self.hop
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
        waves = (out / np.maximum(norm, 1e-2)).reshape(rows, -1)
        return waves[:, before : before + steps * self.hop]

    def _spread(self, bands: np.ndarray) -> np.ndarray:
        """(B, T, M) -> (B, T, F) >= 0 whose bands are as near as can be."""
        bank = self._mel
        target, many = bands @ bank, bank.shape[1] > MOST_FREQUENCIES
        gram = None if many else bank.T @ bank  # of very many it would be far larger than the bank
        out: np.ndarray = target / np.maximum(bank.sum(0) * bank.sum(1).mean(), TINY)
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
