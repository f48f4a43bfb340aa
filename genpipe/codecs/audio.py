"""Audio: a waveform as the log-mel spectrogram one hears, and back by Griffin-Lim.

Windows of about 50 or 25 ms, four of which overlap everywhere, 80 triangular mel bands (O'Shaughnessy 1987,
p. 150), magnitudes on a logarithmic scale of 90 dB below the loudest that training could hold, scaled to
[-1, 1]: clips of one set differ in level by 30 dB and more, and what is quiet in a quiet clip is heard.
Layout `grid` is (1, bands, steps), `sequence` the same numbers as (steps, bands).

The resolution is chosen by real clips that go there and back (docs/lab-notes.md). The pitch of what comes
back hangs on windows that tell the harmonics of a low voice apart and on the number of bands, not on the
missing phase: with all frequencies in the place of bands, Griffin-Lim keeps it. Hits want windows half as
long. So the clips themselves decide, each for the window in which its energy is gathered in fewer places
(Jones & Parks 1990, "A high resolution data-adaptive time-frequency representation"). Of long clips steps
and windows are twice as long as often as it takes to have no more than `MOST_STEPS`.

Where clips differ in length, each is stretched to one number of steps, its pitch as it is, and its length
takes the place of the highest band. So a word begins and ends at the same place in every clip, a generator
learns what is said apart from how long it takes, and what it makes has a length of its own.

The phase is not kept: no small generator learns it, and without it the others are recognisable within a
minute on a CPU. Decoding spreads bands over frequencies (media/mel.py) and finds a phase (media/stft.py).

    B clips · N samples · T steps · F frequencies · M bands
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
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
from genpipe.media.mel import mel_bank, spread
from genpipe.media.stft import TINY, Stft
from genpipe.media.wav import read_clips, write_clip
from genpipe.schema import Schema
from genpipe.spec import TensorSpec

BANDS, HOP_SECONDS, OVERLAP, RANGE_DB = 80, 0.0135, 4, 90.0
TONES = 0.75  # of the clips are better told by long windows, or short ones are taken
MOST_STEPS = 256  # of the longest clip: a network's work, and the size of one of dense layers, grow with them
SILENT = -0.97  # what is below it is silence: networks that end in tanh never reach -1, and hiss in its place
MOST_SECONDS = 10  # of a clip, where the recipe does not say
MOST_CLIPS, MOST_VALUES = 64, 2**23  # of spectrograms at once: bounds their memory to some 500 MB


def learnt(field: Audio, config: CodecConfig) -> int:
    """Samples of a clip that are learnt."""
    return min(config.frames or MOST_SECONDS * field.rate, field.frames)


def usual_hop(rate: int) -> int:
    """Samples of a step of a short clip: a power of two."""
    return 1 << max(2, round(float(np.log2(HOP_SECONDS * rate))))


@dataclass(frozen=True)
class Resolution:
    """window, hop: samples. bands: of the mel scale."""

    window: int
    hop: int
    bands: int

    @classmethod
    def of(cls, rate: int, frames: int, *, hits: bool = False) -> Resolution:
        """Of clips of so many samples. hits: short sounds without a pitch, or with one that falls."""
        hop = usual_hop(rate) // (2 if hits else 1)
        while frames > MOST_STEPS * hop:
            hop *= 2
        return cls(OVERLAP * hop, hop, BANDS)

    @classmethod
    def earlier(cls, rate: int) -> Resolution:
        """Of codecs before the seventh version."""
        window = 1 << max(4, round(float(np.log2(0.032 * rate))))
        return cls(window, window // 2, 64)


def gathered(wave: np.ndarray, resolution: Resolution) -> float:
    """How few places of its spectrogram hold the energy of a clip (N,): the mean fourth power by the squared
    mean square. 0 of silence.
    """
    stft = Stft(resolution.window, resolution.hop)
    power = np.abs(stft.forward(wave[None], -(-len(wave) // resolution.hop))).astype(np.float64) ** 2
    return float((power**2).sum() / max(power.sum() ** 2, TINY))


def fitting(waves: np.ndarray) -> np.ndarray:
    """Clips (B, N), each that goes beyond full scale brought down to it: phases that were found, and not
    kept, add up to more than the clip had, and a file would cut that off, which clicks.
    """
    scaled: np.ndarray = waves / np.abs(waves).max(1, initial=1.0, keepdims=True)
    return scaled


@dataclass(frozen=True)
class AudioStats(Stats):
    """peak: the largest absolute sample, in [0, 1]. lengths: how many clips end in which of the shorter
    steps. tones: how many are better told by the longer ones.
    """

    rows: RowStats
    peak: float
    lengths: Counter[int]
    tones: int

    def merge(self, other: AudioStats) -> AudioStats:
        lengths, tones = self.lengths + other.lengths, self.tones + other.tones
        return AudioStats(self.rows.merge(other.rows), max(self.peak, other.peak), lengths, tones)


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
        resolution: Resolution | None = None,
    ) -> None:
        """frames: samples of a clip that are learnt; what the schema's clips have beyond is silence.
        range_db: from the loudest magnitude down to what counts as silence. pace: of clips that differ in
        length. resolution: that of such clips, if not told.
        """
        self.schema, self.peak, self.frames, self.conditions = schema, peak, frames, conditions
        self.range_db, self.pace = range_db, pace
        self.field: Audio = only_field(schema, "audio")
        self.resolution = resolution or Resolution.of(self.field.rate, frames)
        self.hop, self.bands = self.resolution.hop, self.resolution.bands
        self.stft = Stft(self.resolution.window, self.hop)
        self.span = whole(-(-frames // self.hop))  # steps of the longest clip
        self.steps = pace.steps if pace else self.span

    @classmethod
    def observe(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> AudioStats:
        field = only_field(schema, "audio")
        waves = read_clips(batch.column(field.name), field)
        frames = learnt(field, config)
        short, long = (Resolution.of(field.rate, frames, hits=hits) for hits in (True, False))
        ends = lengths_of(waves[:, :frames], short.hop)
        tones = sum(gathered(wave, long) > gathered(wave, short) for wave in waves[:, : field.rate])
        peak = float(np.abs(waves).max(initial=0.0))
        return AudioStats(RowStats.of(batch, schema, config), peak, Counter(ends.tolist()), tones)

    @classmethod
    def build(cls, schema: Schema, stats: AudioStats, config: CodecConfig) -> AudioCodec:
        if stats.peak == 0:
            raise DataError("NOTHING", found="nothing but silence", expected="clips one can hear")
        stats.rows.check(config)
        peak = stats.peak
        if config.rare_below:  # one clip's loudest sample, told to a sixteenth
            peak = math.ceil(16 * peak) / 16
        field: Audio = only_field(schema, "audio")
        frames, table = learnt(field, config), stats.rows.table(schema, config)
        hits = stats.tones < TONES * stats.lengths.total()
        resolution, short = (Resolution.of(field.rate, frames, hits=is_hit) for is_hit in (hits, True))
        lengths, times = Counter[int](), resolution.hop // short.hop
        for steps, clips in stats.lengths.items():
            lengths[-(-steps // times)] += clips
        codec = cls(schema, peak, frames, table, pace=Pace.of(lengths), resolution=resolution)
        codec.notice = codec._notice()
        return codec

    def _notice(self) -> str:
        """What of long clips is not learnt, or not as finely as of others."""
        rate, usual, told = self.field.rate, usual_hop(self.field.rate), list[str]()
        if self.frames < self.field.frames:
            seconds, all_of = self.frames / rate, self.field.frames / rate
            told.append(
                f"clips of {all_of:.2g} s are learnt up to {seconds:.2g} s, the rest is silence; "
                "codec.frames takes more"
            )
        if self.hop > usual:
            step, finer = 1000 * self.hop / rate, 1000 * usual / rate
            told.append(
                f"clips of up to {self.frames / rate:.2g} s are learnt in steps of {step:.0f} ms and not of "
                f"{finer:.0f}, so what is faster blurs; shorter ones (segment=2 at ingest) are learnt finely"
            )
        return "; ".join(told)

    def spec(self, layout: str) -> TensorSpec:
        self.check_layout(layout)
        shape = (1, self.bands, self.steps) if layout == "grid" else (self.steps, self.bands)
        return TensorSpec.model_validate(
            {"layout": layout, "shape": shape, "dtype": "float32", "conditions": self.conditions.sizes}
        )

    def encode(self, batch: pa.RecordBatch, layout: str) -> Arrays:
        self.check_layout(layout)
        waves = read_clips(batch.column(self.field.name), self.field)[:, : self.frames]
        magnitude = np.empty((len(waves), self.span, self.bands), np.float32)
        for some in self._chunks(len(waves)):
            magnitude[some] = np.abs(self.stft.forward(waves[some], self.span)) @ self._mel.T
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
        magnitude = np.where(x <= SILENT, np.float32(0.0), magnitude).astype(np.float32)
        blobs = []
        for some in self._chunks(len(x)):
            waves = self.stft.waves(spread(magnitude[some], self._mel), rng)[:, : self.frames]
            waves = fitting(waves)
            for wave, end in zip(waves, ends[some], strict=True):
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
        content["resolution"] = [self.resolution.window, self.hop, self.bands]
        if self.pace:
            content["pace"] = [self.pace.low, self.pace.high, self.pace.steps]
        return self.header() | content | {"conditions": self.conditions.model_dump(mode="json")}

    @classmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> AudioCodec:
        check_version(cls.kind, data)
        # of versions before the fourth; the sixth; the seventh
        earlier = {"range_db": 60.0, "pace": None, "resolution": None}
        form = AudioForm.model_validate({name: (earlier | data)[name] for name in AudioForm.model_fields})
        field: Audio = only_field(schema, "audio")
        if form.frames > field.frames:
            raise ValueError(f"{form.frames} frames of clips that have fewer")
        table = ConditionTable.read(schema, data["conditions"])
        pace = Pace(*form.pace) if form.pace else None
        resolution = Resolution(*form.resolution) if form.resolution else Resolution.earlier(field.rate)
        return cls(
            schema, form.peak, form.frames, table, range_db=form.range_db, pace=pace, resolution=resolution
        )

    @property
    def _loudest(self) -> np.float32:
        """The largest band magnitude: all of a pure tone, three frequencies after the window, in one band."""
        return np.float32(self.peak * self.resolution.window / 2)

    @cached_property
    def _mel(self) -> np.ndarray:
        """(M, F) triangles."""
        return mel_bank(self.field.rate, self.resolution.window, self.bands)

    def _chunks(self, rows: int) -> Iterator[slice]:
        """So few clips at once that their spectrograms fit."""
        size = max(1, min(MOST_CLIPS, MOST_VALUES // (self.span * self._mel.shape[1])))
        return (slice(start, start + size) for start in range(0, rows, size))
