"""Long time-series tables -> one row per entity, or per window of an entity: a list of numbers per channel.

Rows may come in any order; they are gathered by entity (on disk where memory does not do), sorted by time
and cut. No measured value lands in both splits: with many entities an entity goes to one split whole, with
few the series is first cut into blocks and a window never crosses a block, nor a gap in time.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from genpipe.errors import DataError, UsageError, closest, few
from genpipe.fields import AnyField, Boolean, Category, Identifier, Number, Series
from genpipe.keys import column_keys
from genpipe.schema import Schema
from genpipe.sources.base import Observed, Reject, Rows, Source, unset
from genpipe.sources.files import File
from genpipe.sources.tabular.convert import convert_column
from genpipe.sources.tabular.normalise import normalise
from genpipe.sources.tabular.source import TableOptions, TableSource
from genpipe.sources.tabular.stats import TableStats
from genpipe.sources.timing import Differences, Timing, parse_step, plain_field, time_column
from genpipe.sources.windows import MANY, ORDER, deal, gather, length_of, uncovered, windows


class SeriesOptions(TableOptions):
    """time: the column to sort by (default: the only date or time; none = file order). entity: the column
    that tells series apart. window: steps per record (default: a whole entity). stride: steps from one window
    to the next (default: window). step: how long one step is (15min, 1h, 1d): what is longer by half is a
    gap, which no window crosses; by default differences that are much longer than all but one in a hundred.
    """

    time: str | None = None
    step: float | str | None = Field(default=None, exclude_if=unset)
    entity: str | None = None
    window: int | None = Field(default=None, le=2**24)
    stride: int | None = Field(default=None, le=2**24)

    @field_validator("entity", mode="before")
    @classmethod
    def _one(cls, entity: Any) -> Any:
        """As tables have it, it may be a list."""
        if isinstance(entity, list | tuple) and len(entity) != 1:
            raise ValueError("the name of one column; join several into one before")
        return entity[0] if isinstance(entity, list | tuple) else entity

    @field_validator("step")
    @classmethod
    def _readable(cls, step: float | str | None) -> float | str | None:
        if step is not None:
            parse_step(step)
        return step


CHANNELS = ("number", "integer", "boolean")
GAPS = "gaps in time, which no window crosses: {n}"
INSIDE = "gaps in time inside of whole series, whose steps count as equal: {n}"
TIMELESS = "rows without a time, which are left out: {n}"
UNCOVERED = "rows in no window, at the end of a series, of a block of it or before a gap: {n}"


@dataclass
class SeriesStats(Observed):
    """What the long table holds, and the rows per entity."""

    table: TableStats = field(default_factory=TableStats)
    lengths: Counter[str] = field(default_factory=Counter)

    def merge(self, other: SeriesStats) -> SeriesStats:
        return SeriesStats(
            self.rejects + other.rejects, self.table.merge(other.table), self.lengths + other.lengths
        )


class SeriesSource(Source):
    kind = "series"
    more = "a smaller window=, or a stride= below it, makes more records; "
    options: SeriesOptions
    timing: Timing | None = None

    def __init__(self, files: tuple[File, ...], options: SeriesOptions) -> None:
        super().__init__(files, options)
        self.table = TableSource(files, options, keeps=False)
        for name in ("window", "stride"):
            value = getattr(options, name)
            if value is not None and value < (2 if name == "window" else 1):
                raise UsageError(
                    "WINDOW",
                    where=name,
                    found=str(value),
                    expected="at least 2 steps" if name == "window" else "at least 1 step",
                )

    @cached_property
    def units(self) -> tuple[tuple[File, ...], ...]:
        return (self.files,)  # an entity may be spread over all files

    def observe(self, unit: int) -> SeriesStats:
        stats = SeriesStats()
        for index in range(len(self.table.units)):
            stats.table = stats.table.merge(self.table.observe(index))
        stats.rejects = stats.table.rejects
        return stats

    def _look(self, stats: SeriesStats, target: str | None) -> Timing:
        """A second pass, with the types known: how long each series is, and the differences of times."""
        self._named(stats, target)
        rows, bad = self.table.schema(stats.table, target=target, key=()), {r.file for r in stats.rejects}
        name = self.options.entity
        timing = Timing({f.name: f for f in rows.fields}, time_column(rows, self.options.time, name))
        differences, position = Differences(), 0
        for file in self.files:
            for piece in self.table.pieces(file) if file.uri not in bad else ():
                batch, place = piece()
                entities = normalise(batch.column(name), name, place).cast(pa.string()) if name else None
                if entities is not None:
                    counted = pc.value_counts(entities).to_pylist()
                    stats.lengths.update({c["values"]: c["counts"] for c in counted})
                if timing.column is not None:
                    differences.add(entities, timing.of(batch, place, position))
                position += batch.num_rows
        self.timing = differences.usual(timing)
        return self.timing

    def schema(self, stats: SeriesStats, *, target: str | None, key: tuple[str, ...]) -> Schema:
        if key:
            raise UsageError(
                "KEY",
                where="key",
                found=", ".join(key),
                expected="no key for series",
                fix="name the column with entity=",
            )
        timing, entity = self._look(stats, target), self.options.entity
        if entity and stats.table.columns[entity].nulls:
            raise DataError(
                "ID",
                where=entity,
                found=f"{stats.table.columns[entity].nulls} rows without an entity",
                expected="one in every row",
            )
        length = length_of(stats.lengths, stats.table.rows, self.options.window, entity)
        fields: list[AnyField] = []
        if entity:
            fields.append(Identifier(name=entity, reason=f"tells {len(stats.lengths)} series apart"))
        for found in timing.fields.values():
            if found.kind not in CHANNELS or found.name in (timing.column, entity, target):
                continue
            decimals = found.decimals if isinstance(found, Number) else 0
            what = "0 for false and 1 for true" if isinstance(found, Boolean) else found.reason
            reason = f"{length} steps of {what}"
            fields.append(Series(name=found.name, length=length, decimals=decimals, reason=reason))
        if not any(isinstance(f, Series) for f in fields):
            raise DataError(
                "CHANNELS", found="no column of numbers", expected="at least one besides time and entity"
            )
        if target:
            fields.append(Category(name=target, reason="the target, one value per series"))
        by_entity = entity is not None and len(stats.lengths) >= MANY
        return Schema(
            kind="series", fields=tuple(fields), target=target, key=(entity,) if by_entity and entity else ()
        )

    def _named(self, stats: SeriesStats, target: str | None) -> None:
        columns = stats.table.columns
        for role, name in (("time", self.options.time), ("entity", self.options.entity), ("target", target)):
            if name is not None and name not in columns:
                raise UsageError(
                    "COLUMN",
                    where=role,
                    found=f"{name!r} is not a column",
                    expected="one of " + ", ".join(columns),
                    fix=closest(name, columns),
                )

    def notices(self, stats: SeriesStats) -> list[str]:
        wanted = self.options.window or 0
        short = sum(n < wanted for n in stats.lengths.values())
        flags = [f.name for f in self.timing.fields.values() if f.kind == "boolean"] if self.timing else []
        gaps = {
            name: column.nulls
            for name, column in stats.table.columns.items()
            if self.timing and column.nulls and column.valid and self.timing.fields[name].kind in CHANNELS
        }
        return [
            *stats.table.losses(),
            *([f"{short} series shorter than window={wanted} were left out"] if short else []),
            *(f"channel {name!r}: {n} steps are missing, which is learnt, too" for name, n in gaps.items()),
            *([f"columns of true and false are channels of 1 and 0: {few(flags)}"] if flags else []),
        ]

    def unused(self, schema: Schema, *, inferred: bool) -> list[str]:
        timing = self._known(schema.target)
        left = [n for n in self.table.names() if n not in (*schema.names, timing.column)]
        left = [f"{n} ({timing.fields[n].kind})" if n in timing.fields else n for n in left]
        fix = "target=COLUMN takes one that has one value per series; classes as numbers would be channels"
        said = [f"columns that are no channels and are left out: {few(left)}; {fix}"] if left else []
        return [*timing.notices(self.options.step), *said]

    def _known(self, target: str | None) -> Timing:
        """How columns are read; of a schema that was given, after a look at the table."""
        return self.timing or self._look(self.observe(0), target)

    def read(
        self, unit: int, schema: Schema, *, skip: frozenset[str], rejects: list[Reject]
    ) -> Iterator[Rows]:
        channels = [f for f in schema.fields if isinstance(f, Series)]
        entity, target, timing = self.options.entity, schema.target, self._known(schema.target)
        plain: list[AnyField] = [
            plain_field(timing.fields.get(f.name, Number(name=f.name))) for f in channels
        ]
        plain += [Identifier(name=entity)] if entity else []
        plain += [Category(name=target)] if target else []
        size = sum(f.size for f in self.files if f.uri not in skip) * (
            8 if any(f.uri.endswith((".gz", ".zst", ".bz2", ".parquet")) for f in self.files) else 2
        )
        buckets = max(1, -(-size // (self.options.memory // 4))) if entity else 1
        lost = Counter[str]()
        with tempfile.TemporaryDirectory(prefix="genpipe-series-") as scratch:
            rows = self._rows(plain, timing, skip, lost)
            for table in gather(rows, buckets, entity, scratch, self.options.memory):
                yield from self._cut(table, schema, channels, timing.gap(self.options.step), lost)
                lost.clear()

    def _rows(
        self, plain: list[AnyField], timing: Timing, skip: frozenset[str], lost: Counter[str]
    ) -> Iterator[pa.RecordBatch]:
        """The wanted columns with a sort column `__row`: the time, or the position in the input."""
        position, names = 0, [f.name for f in plain]
        for file in self.files:
            for piece in self.table.pieces(file) if file.uri not in skip else ():
                batch, place = piece()
                made = []
                for wanted in plain:
                    column = normalise(batch.column(wanted.name), wanted.name, place)
                    column = convert_column(column, wanted, place)
                    made.append(column.cast(pa.float64()) if wanted.kind in CHANNELS else column)
                order = timing.of(batch, place, position)
                position += batch.num_rows
                rows = pa.RecordBatch.from_arrays([*made, pa.array(order)], names=[*names, ORDER])
                if timeless := int(np.isnan(order).sum()):
                    rows = rows.filter(pa.array(~np.isnan(order)))
                    lost[TIMELESS] += timeless
                yield rows

    def _cut(
        self, table: pa.Table, schema: Schema, channels: list[Series], gap: float, lost: Counter[str]
    ) -> Iterator[Rows]:
        if table.num_rows == 0:
            return
        entity, window = self.options.entity, channels[0].length
        by = [(n, "ascending") for n in ([entity] if entity else []) + [ORDER]]
        table = table.sort_by(by).combine_chunks()
        names = column_keys(table.column(entity).chunk(0)) if entity else np.zeros(table.num_rows, np.uint64)
        order = table.column(ORDER).to_numpy()
        same, differences = names[1:] == names[:-1], np.diff(order)
        if (same & (differences == 0)).any():
            raise self._twice(table, np.flatnonzero(same & (differences == 0)))
        far = same & (differences > gap)
        lost[GAPS if self.options.window else INSIDE] += int(far.sum())
        breaks = np.flatnonzero(np.r_[False, far]) if self.options.window else np.zeros(0, np.int64)
        begins, keys = deal(names, breaks, window, self.options.stride or window, whole=bool(schema.key))
        lost[UNCOVERED] += uncovered(begins, window, table.num_rows)
        told = dict(+lost)
        for rows in windows(table, schema, begins, keys, window):
            yield rows._replace(lost=told)
            told = {}

    def _twice(self, table: pa.Table, twice: np.ndarray) -> DataError:
        entity = self.options.entity
        who = f" of {table.column(entity)[int(twice[0])].as_py()!r}" if entity else ""
        return DataError(
            "DUPKEY",
            where=self.options.time or "time",
            found=f"{len(twice)} times that occur twice{who}",
            expected="one row per time and entity",
            fix="remove duplicates, name the entity= column, or write times with their offset from UTC where "
            "the clock is put back",
        )
