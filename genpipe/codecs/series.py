"""Series: the channels of a fixed-length series as a sequence (T, C) of scores in [-1, 1].

Every channel has its own smooth normal score (scale.py) and keeps its decimals. A channel with missing
steps in the training split has one more channel beside it, above 0 where the value is missing, and its
gaps are filled with the last value before (or the first after) them. Channels that never change take no
place in x and are made again on decoding. Of channels that are always in order one is learnt as its distance
from the others (series_order.py). Those that go round as a clock does are set right when they are decoded
(series_clock.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.codecs.base import Arrays, Codec, CodecConfig, RowStats, Stats, check_version
from genpipe.codecs.channel import Channel, fit_channel, lists, matrix
from genpipe.codecs.columns import assemble, check_fillable
from genpipe.codecs.conditions import ConditionTable
from genpipe.codecs.holders import WHO, entities
from genpipe.codecs.series_clock import Clock, find_clocks, read_clocks, set_clocks
from genpipe.codecs.series_order import Tie, find_ties, least_steps, merged, read_ties, reduced, restored
from genpipe.codecs.series_season import Season, find_season, read_season
from genpipe.codecs.sketch import Sample, hash_rows
from genpipe.codecs.tabular.numeric import LARGEST
from genpipe.errors import DataError
from genpipe.fields import Series
from genpipe.schema import Schema
from genpipe.spec import TensorSpec

SAMPLE_VALUES = 2_000_000


@dataclass(frozen=True)
class SeriesStats(Stats):
    """low, high: extremes of each channel, None before any value is seen. gaps: is anything missing?
    least: of the differences of channels, see series_order.py.
    """

    rows: RowStats
    low: dict[str, float | None]
    high: dict[str, float | None]
    gaps: dict[str, bool]
    sample: Sample
    least: dict[tuple[str, str], float]

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
            merged(self.least, other.least),
        )

    def tied(self, ties: tuple[Tie, ...]) -> SeriesStats:
        """With the distances of tied channels in place of their values."""
        payload = reduced(ties, self.sample.payload)
        ends = {tie.name: float(payload[tie.name].max(initial=0.0)) for tie in ties if not tie.clamp}
        sample = replace(self.sample, payload=payload)
        low = {**self.low, **dict.fromkeys(ends, 0.0)}
        return replace(self, low=low, high={**self.high, **ends}, sample=sample)


class SeriesCodec(Codec):
    kind = "series"
    layouts = ("sequence",)

    def __init__(
        self,
        schema: Schema,
        channels: tuple[Channel, ...],
        conditions: ConditionTable,
        ties: tuple[Tie, ...] = (),
        clocks: tuple[Clock, ...] = (),
    ) -> None:
        check_fillable(schema, "series")
        self.season: Season | None = None
        self.schema, self.conditions, self.ties, self.clocks = schema, conditions, ties, clocks
        first = {clock.name for clock in clocks}  # so that others, drawn after them, take note of them
        self.channels = tuple(sorted(channels, key=lambda channel: channel.field.name not in first))
        self.length = channels[0].field.length if channels else 0
        self.width = sum(c.width for c in channels)
        if not self.width:
            found, expected = "no channel to learn: each has one value or none", "a series that changes"
            raise DataError("NOTHING", found=found, expected=expected)

    @classmethod
    def observe(cls, batch: pa.RecordBatch, schema: Schema, config: CodecConfig) -> SeriesStats:
        low: dict[str, float | None] = {}
        high: dict[str, float | None] = {}
        gaps, payload = {}, {}
        fields = _fields(schema)
        for field in fields:
            values = payload[field.name] = matrix(batch, field)
            seen = values[~np.isnan(values)]
            if np.abs(seen).max(initial=0.0) > LARGEST:
                found = f"the number {seen[np.abs(seen).argmax()]}"
                expected = f"at most {LARGEST:g}, or missing steps"
                raise DataError("NONFINITE", where=field.name, found=found, expected=expected)
            low[field.name] = seen.min().item() if len(seen) else None
            high[field.name] = seen.max().item() if len(seen) else None
            gaps[field.name] = len(seen) < values.size
        if (who := entities(batch, schema)) is not None:
            payload[WHO] = who
        size = max(64, SAMPLE_VALUES // max(1, sum(f.length for f in fields)))
        sample = Sample.of(hash_rows(batch.columns, batch.num_rows), payload, size=size)
        least = least_steps({name: values for name, values in payload.items() if name != WHO})
        return SeriesStats(RowStats.of(batch, schema, config), low, high, gaps, sample, least)

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
        clamp, payload = config.order == "clamp", stats.sample.payload
        clocks = find_clocks({f.name: payload[f.name] for f in fields}, config.rare_below)
        free = [name for name in stats.low if name not in {clock.name for clock in clocks}]
        ties = find_ties(free, stats.least, payload, clamp=clamp)
        stats = stats.tied(ties)
        places = [f.decimals for f in fields]
        finest = None if None in places else max(p for p in places if p is not None)
        digits = {t.name: finest for t in ties if not t.clamp}
        sample = stats.sample
        channels = tuple(
            fit_channel(
                f,
                digits.get(f.name, f.decimals),
                (stats.low[f.name], stats.high[f.name]),
                sample.payload[f.name],
                sample.weights,
                sample.payload.get(WHO),
                gaps=stats.gaps[f.name],
                k=config.rare_below,
            )
            for f in fields
        )
        made = cls(schema, channels, stats.rows.table(schema, config), ties, clocks)
        if config.season:
            who = sample.payload.get(WHO)
            made.season = find_season(made._scores(sample.payload), config.rare_below, who)
        return made

    def spec(self, layout: str) -> TensorSpec:
        self.check_layout(layout)
        sizes, periods = self.conditions.sizes, tuple[int, ...]()
        if self.season:
            sizes, periods = (*sizes, *self.season.sizes), self.season.periods
        shape = (self.length, self.width)
        return TensorSpec(layout="sequence", shape=shape, dtype="float32", conditions=sizes, periods=periods)

    def encode(self, batch: pa.RecordBatch, layout: str) -> Arrays:
        self.check_layout(layout)
        x = self._scores(self._reduced(batch))
        return {"x": x, "condition": self.placed(self.conditions.codes(batch), x)}

    def _scores(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        parts = [c.encode(values[c.field.name]) for c in self.channels if c.width]
        x: np.ndarray = np.concatenate(parts, axis=-1)
        return x

    def placed(self, classes: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(B, K) classes and, where there is a season, what it tells of x (B, T, C)."""
        classes = classes[:, : len(self.conditions.names)]
        if self.season is None:
            return classes
        return np.column_stack([classes, self.season.conditions(x)]).astype(classes.dtype)

    def draw_conditions(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        return self.begun(super().draw_conditions(rows, rng), rng)

    def begun(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(B, K) classes and, where there is a season, draws of what it tells."""
        if self.season is None:
            return classes
        return np.column_stack([classes, self.season.draw(len(classes), rng)]).astype(classes.dtype)

    def beginning(self, steps: Mapping[str, np.ndarray]) -> np.ndarray:
        """(T, C) scores of series that begin with these steps, channel -> (n,) float64; NaN beyond them, and
        where a channel that has no gaps misses a step.
        """
        known = min(map(len, steps.values()))
        whole = {n: np.pad(v, (0, self.length - known), mode="edge")[None] for n, v in steps.items()}
        values = reduced(self.ties, whole)
        x: np.ndarray = self._scores(values)[0]
        at = 0
        for channel in self.channels:
            if channel.width and not channel.gaps:
                x[np.isnan(values[channel.field.name][0]), at] = np.nan
            at += channel.width
        x[known:] = np.nan
        return x

    def with_beginning(self, batch: pa.RecordBatch, steps: Mapping[str, np.ndarray]) -> pa.RecordBatch:
        """Rows whose first steps are these exactly; a step that misses in a channel without gaps stays."""
        for name, values in steps.items():
            at = batch.schema.get_field_index(name)
            channel = next(c for c in self.channels if c.field.name == name)
            made = matrix(batch, channel.field)
            given = ~np.isnan(values) | channel.gaps
            made[:, : len(values)][:, given] = values[given]
            column = lists(pa.array(made.reshape(-1), from_pandas=True), *made.shape)
            batch = batch.set_column(at, batch.schema.field(at), column.cast(batch.schema.field(at).type))
        return batch

    def decode(self, arrays: Arrays, layout: str, rng: np.random.Generator) -> pa.RecordBatch:
        self.check_layout(layout)
        x = arrays["x"]
        made = self.conditions.columns(self.schema, arrays["condition"])
        start = 0
        for channel in self.channels:
            made[channel.field.name] = channel.decode(x[:, :, start : start + channel.width])
            start += channel.width
        return assemble(self.schema, self._restored(made), len(x), rng)

    def _reduced(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        return reduced(self.ties, {c.field.name: matrix(batch, c.field) for c in self.channels})

    def reduce(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Tied channels become what is learnt of them."""
        values = self._reduced(batch) if self.ties else {}
        for tie in self.ties:
            at = batch.schema.get_field_index(tie.name)
            batch = batch.set_column(at, tie.name, _column(values[tie.name]))
        return batch

    def _restored(self, made: dict[str, pa.Array]) -> dict[str, pa.Array]:
        steps = {c.field.name: c.field for c in self.channels}
        tied = {n for tie in self.ties for n in (tie.name, *tie.others)}
        values = {
            name: made[name].flatten().to_numpy(zero_copy_only=False).reshape(-1, self.length)
            for name in tied | {clock.name for clock in self.clocks}
        }
        values = restored(self.ties, set_clocks(self.clocks, values))
        for clock in self.clocks:
            made[clock.name] = _column(values[clock.name])
        for tie in self.ties:
            made[tie.name] = _column(tie.rounded(values[tie.name], steps[tie.name].decimals))
        return made

    def tolerance(self, layout: str) -> dict[str, float]:
        self.check_layout(layout)
        own = {c.field.name: c.tolerance() for c in self.channels}
        for tie in reversed(self.ties):
            own[tie.name] += max(own[name] for name in tie.others)
        # a course that few rows take is not kept, and set to another
        own |= {clock.name: float(np.ptp(clock.values)) for clock in self.clocks}
        return dict.fromkeys(self.schema.conditions, 0.0) | own

    def to_json(self) -> dict[str, Any]:
        channels = {c.field.name: c.to_json() for c in self.channels}
        told = {"channels": channels, "conditions": self.conditions.model_dump(mode="json")}
        ties = [{**asdict(t), "others": list(t.others)} for t in self.ties]
        clocks = [clock.to_json() for clock in self.clocks]
        return (
            self.header()
            | told
            | ({"ties": ties} if ties else {})
            | ({"clocks": clocks} if clocks else {})
            | ({"season": self.season.to_json()} if self.season else {})
        )

    @classmethod
    def from_json(cls, schema: Schema, data: dict[str, Any]) -> SeriesCodec:
        check_version(cls.kind, data)
        fields = _fields(schema)
        channels = tuple(Channel.from_json(f, data["channels"][f.name]) for f in fields)
        if len({f.length for f in fields}) > 1:
            raise ValueError(f"channels of lengths {sorted({f.length for f in fields})}")
        whole = {c.field.name for c in channels if c.axis and not c.gaps}
        ties, clocks = read_ties(data.get("ties", []), whole), read_clocks(data.get("clocks", []), whole)
        made = cls(schema, channels, ConditionTable.read(schema, data["conditions"]), ties, clocks)
        made.season = read_season(data.get("season"), made.width)
        return made


def _fields(schema: Schema) -> tuple[Series, ...]:
    return tuple(f for f in schema.fields if isinstance(f, Series))


def _column(values: np.ndarray) -> pa.Array:
    return lists(pa.array(values.reshape(-1)), *values.shape)
