"""Series: the channels of a fixed-length series as a sequence (T, C) of scores in [-1, 1].

Every channel has its own smooth normal score (scale.py) and keeps its decimals. A channel with missing
steps in the training split has one more channel beside it, above 0 where the value is missing, and its
gaps are filled with the last value before (or the first after) them. Channels that never change take no
place in x and are made again on decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.codecs.base import Arrays, Codec, CodecConfig, RowStats, Stats, check_version
from genpipe.codecs.columns import assemble, check_fillable
from genpipe.codecs.conditions import ConditionTable
from genpipe.codecs.fitting import fit_score, within
from genpipe.codecs.holders import WHO, Crowd, entities
from genpipe.codecs.scale import Axis, Score, make_axis
from genpipe.codecs.sketch import Sample, combine, hash_rows
from genpipe.codecs.stored import ChannelForm, read_axis, read_score
from genpipe.codecs.tabular.numeric import LARGEST
from genpipe.errors import DataError
from genpipe.fields import Number, Series
from genpipe.schema import Schema
from genpipe.spec import TensorSpec

SAMPLE_VALUES = 2_000_000


@dataclass(frozen=True)
class SeriesStats(Stats):
    """low, high: extremes of each channel, None before any value is seen. gaps: is anything missing?"""

    rows: RowStats
    low: dict[str, float | None]
    high: dict[str, float | None]
    gaps: dict[str, bool]
    sample: Sample

    def merge(self, other: SeriesStats) -> SeriesStats:
        def both(a: float | None, b: float | None, pick: Any) -> float | None:
            found: float | None = pick((v for v in (a, b) if v is not None), default=None)
            return found

        return SeriesStats(
            self.rows.merge(other.rows),
            {name: both(v, other.low[name], min) for name, v in self.low.items()},
            {name: both(v, other.high[name], max) for name, v in self.high.items()},
            {name: v or other.gaps[name] for name, v in self.gaps.items()},
            self.sample.merge(other.sample),
        )


@dataclass(frozen=True)
class Channel:
    """score None: the channel is always `axis.low`; axis None: it is always missing."""

    field: Series
    axis: Axis | None
    score: Score | None
    gaps: bool

    def encode(self, values: np.ndarray) -> np.ndarray:
        """(B, T) with NaN for missing -> (B, T, 1 or 2)."""
        assert self.axis is not None
        valid = ~np.isnan(values)
        parts = []
        if self.score is not None:
            points = self.axis.points(_filled(np.where(valid, values, 0.0), valid))
            parts.append(self.score.encode((points - self._origin).astype(np.float64)))
        if self.gaps:
            parts.append(np.where(valid, -1.0, 1.0))
        return np.stack(parts, axis=-1).astype(np.float32)

    def decode(self, x: np.ndarray) -> pa.Array:
        """(B, T, width) -> a list column of T values a row."""
        rows, steps, _ = x.shape
        if self.axis is None:
            flat = pa.nulls(rows * steps, pa.float64())
        else:
            missing = x[:, :, -1].reshape(-1) > 0 if self.gaps else None
            points = np.full(rows * steps, self.axis.low, dtype=np.int64 if self.axis.whole else np.float64)
            if self.score is not None:
                scores = self.score.decode(x[:, :, 0].reshape(-1).astype(np.float64))
                points = np.rint(scores).astype(np.int64) + self._origin if self.axis.whole else scores
            flat = self.axis.arrow(points, missing)
        return pa.ListArray.from_arrays(np.arange(0, rows * steps + 1, max(steps, 1), dtype=np.int32), flat)

    @property
    def _origin(self) -> float:
        return self.axis.low if self.axis is not None and self.axis.whole else 0.0

    @property
    def width(self) -> int:
        return 0 if self.axis is None else (self.score is not None) + self.gaps

    def tolerance(self) -> float:
        if self.axis is None or self.score is None:
            return 0.0
        error = self.score.error()
        if not self.axis.whole:
            return error
        return 0.0 if error < 0.49 else (error + 1) / 10.0 ** (self.axis.decimals or 0)

    def to_json(self) -> dict[str, Any]:
        score = self.score and {"knots": self.score.knots.tolist(), "scores": self.score.scores.tolist()}
        return {"axis": self.axis and self.axis.to_json(), "score": score, "gaps": self.gaps}

    @classmethod
    def from_json(cls, field: Series, data: dict[str, Any]) -> Channel:
        form = ChannelForm.model_validate(data)
        if form.axis is None:
            return cls(field, None, None, form.gaps)
        axis = read_axis(_number(field), form.axis)
        return cls(field, axis, read_score(form.score, form.axis), form.gaps)


class SeriesCodec(Codec):
    kind = "series"
    layouts = ("sequence",)

    def __init__(self, schema: Schema, channels: tuple[Channel, ...], conditions: ConditionTable) -> None:
        check_fillable(schema, "series")
        self.schema, self.channels, self.conditions = schema, channels, conditions
        self.length = channels[0].field.length if channels else 0
        self.width = sum(c.width for c in channels)
        if not self.width:
            raise DataError(
                "NOTHING",
                found="no channel to learn: each has one value or none",
                expected="a series that changes",
            )

    @classmethod
    def observe(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> SeriesStats:
        low: dict[str, float | None] = {}
        high: dict[str, float | None] = {}
        gaps, payload = {}, {}
        fields = _fields(schema)
        for field in fields:
            values = payload[field.name] = _matrix(batch, field)
            seen = values[~np.isnan(values)]
            if np.abs(seen).max(initial=0.0) > LARGEST:
                found = f"the number {seen[np.abs(seen).argmax()]}"
                raise DataError(
                    "NONFINITE",
                    where=field.name,
                    found=found,
                    expected=f"at most {LARGEST:g}, or missing steps",
                )
            low[field.name] = seen.min().item() if len(seen) else None
            high[field.name] = seen.max().item() if len(seen) else None
            gaps[field.name] = len(seen) < values.size
        if (who := entities(batch, schema)) is not None:
            payload[WHO] = who
        size = max(64, SAMPLE_VALUES // max(1, sum(f.length for f in fields)))
        sample = Sample.of(hash_rows(batch.columns, batch.num_rows), payload, size=size)
        return SeriesStats(RowStats.of(batch, schema, config), low, high, gaps, sample)

    @classmethod
    def build(cls, schema: Schema, stats: SeriesStats, config: CodecConfig) -> SeriesCodec:
        stats.rows.check(config)
        fields = _fields(schema)
        if len({f.length for f in fields}) > 1:
            raise DataError(
                "LENGTH",
                found=f"channels of lengths {sorted({f.length for f in fields})}",
                expected="one length",
            )
        channels = tuple(_channel(f, stats, config.rare_below) for f in fields)
        return cls(schema, channels, stats.rows.table(schema, config))

    def spec(self, layout: str) -> TensorSpec:
        self.check_layout(layout)
        shape = (self.length, self.width)
        return TensorSpec(layout="sequence", shape=shape, dtype="float32", conditions=self.conditions.sizes)

    def encode(self, batch: pa.RecordBatch, layout: str) -> Arrays:
        self.check_layout(layout)
        parts = [c.encode(_matrix(batch, c.field)) for c in self.channels if c.width]
        return {"x": np.concatenate(parts, axis=-1), "condition": self.conditions.codes(batch)}

    def decode(self, arrays: Arrays, layout: str, rng: np.random.Generator) -> pa.RecordBatch:
        self.check_layout(layout)
        x = arrays["x"]
        made = self.conditions.columns(self.schema, arrays["condition"])
        start = 0
        for channel in self.channels:
            made[channel.field.name] = channel.decode(x[:, :, start : start + channel.width])
            start += channel.width
        return assemble(self.schema, made, len(x), rng)

    def tolerance(self, layout: str) -> dict[str, float]:
        self.check_layout(layout)
        return dict.fromkeys(self.schema.conditions, 0.0) | {
            c.field.name: c.tolerance() for c in self.channels
        }

    def to_json(self) -> dict[str, Any]:
        channels = {c.field.name: c.to_json() for c in self.channels}
        return self.header() | {"channels": channels, "conditions": self.conditions.model_dump(mode="json")}

    @classmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> SeriesCodec:
        check_version(cls.kind, data)
        fields = _fields(schema)
        channels = tuple(Channel.from_json(f, data["channels"][f.name]) for f in fields)
        if len({f.length for f in fields}) > 1:
            raise ValueError(f"channels of lengths {sorted({f.length for f in fields})}")
        return cls(schema, channels, ConditionTable.read(schema, data["conditions"]))


def _fields(schema: Schema) -> tuple[Series, ...]:
    return tuple(f for f in schema.fields if isinstance(f, Series))


def _number(field: Series) -> Number:
    return Number(name=field.name, decimals=field.decimals)


def _matrix(batch: pa.RecordBatch, field: Series) -> np.ndarray:
    """(B, T) float64 of one channel, NaN where a step or the whole row is missing."""
    column = batch.column(field.name)
    lengths = column.value_lengths().fill_null(field.length).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != field.length)
    if len(wrong):
        got = f"{lengths[wrong[0]]} steps"
        raise DataError(
            "LENGTH",
            where=f"{field.name}:row {wrong[0]}",
            found=got,
            expected=f"{field.length} as the schema says",
        )
    out = np.full((batch.num_rows, field.length), np.nan)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    out[valid] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, field.length)
    return out


def channel_values(column: pa.Array, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values of all steps, of whom each is); who: (B,) of whom each row is."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values, whose = column.flatten().to_numpy(zero_copy_only=False), np.repeat(who, lengths)
    there = ~np.isnan(values)
    return values[there], whose[there]


def _filled(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Gaps take the last valid value of their row, leading gaps the first; rows without any keep 0."""
    if valid.all():
        return values
    steps = np.arange(values.shape[1])
    last = np.maximum.accumulate(np.where(valid, steps, -1), axis=1)
    source = np.where(last < 0, valid.argmax(1)[:, None], last)
    return np.take_along_axis(values, source, axis=1)


def _channel(field: Series, stats: SeriesStats, k: int) -> Channel:
    low, high, gaps = stats.low[field.name], stats.high[field.name], stats.gaps[field.name]
    if low is None or high is None:
        return Channel(field, None, None, True)
    axis = make_axis(_number(field), step=0, low=low, high=high)
    steps, crowd = stats.sample.payload[field.name], None
    valid = ~np.isnan(steps)
    values, weights = steps[valid], np.broadcast_to(stats.sample.weights[:, None], steps.shape)[valid]
    if k < 2:
        values, weights = np.concatenate([values, [low, high]]), np.concatenate([weights, [1, 1]])
    else:  # all steps of a series are one entity's
        who = stats.sample.payload.get(WHO, np.arange(len(steps)))
        crowd = Crowd(k, values, np.broadcast_to(who[:, None], steps.shape)[valid]).sorted()
        if not crowd.enough():
            return Channel(field, None, None, True)
        axis = within(axis, crowd)
        crowd = crowd.at(axis.points(crowd.points))
    points, counts = combine(axis.points(values), weights)
    return Channel(field, axis, fit_score(points, counts, axis, crowd), gaps)
