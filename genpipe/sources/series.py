"""Long time-series tables -> one row per entity, or per window of an entity: a list of numbers per channel.

Rows may come in any order; they are gathered by entity (on disk where memory does not do), sorted by time
and cut. No measured value lands in both splits: with many entities an entity goes to one split whole, with
few the series is first cut into blocks and a window never crosses a block.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from genpipe.errors import DataError, UsageError, closest
from genpipe.fields import AnyField, Category, Identifier, Integer, Number, Series
from genpipe.keys import column_keys, mix
from genpipe.schema import Schema
from genpipe.schema import Schema as RowSchema
from genpipe.sources.base import Observed, Reject, Rows, Source
from genpipe.sources.files import File
from genpipe.sources.tabular.convert import convert
from genpipe.sources.tabular.source import TableOptions, TableSource, TableStats, normalise
from genpipe.sources.windows import MANY, ORDER, gather, is_time, sort_values, windows


class SeriesOptions(TableOptions):
    """time: the column to sort by (default: the only date or time; none = file order). entity: the column
    that tells series apart. window: steps per record (default: a whole entity). stride: steps from one window
    to the next (default: window).
    """

    time: str | None = None
    entity: str | None = None
    window: int | None = Field(default=None, le=2**24)
    stride: int | None = Field(default=None, le=2**24)


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
    options: SeriesOptions

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
        name = self.options.entity
        if name is None or name not in stats.table.columns:
            return stats
        bad = {r.file for r in stats.rejects}
        for file in self.files:
            for piece in self.table.pieces(file) if file.uri not in bad else ():
                batch, place = piece()
                counted = pc.value_counts(normalise(batch.column(name), name, place).cast(pa.string()))
                stats.lengths.update({c["values"]: c["counts"] for c in counted.to_pylist()})
        return stats

    def schema(self, stats: SeriesStats, *, target: str | None, key: tuple[str, ...]) -> Schema:
        if key:
            raise UsageError(
                "KEY",
                where="key",
                found=", ".join(key),
                expected="no key for series",
                fix="name the column with entity=",
            )
        self._named(stats, target)
        rows = self.table.schema(stats.table, target=target, key=())
        time, entity = self._time(rows), self.options.entity
        if entity and stats.table.columns[entity].nulls:
            raise DataError(
                "ID",
                where=entity,
                found=f"{stats.table.columns[entity].nulls} rows without an entity",
                expected="one in every row",
            )
        length, total = self._length(stats), stats.table.rows
        fields: list[AnyField] = []
        if entity:
            fields.append(Identifier(name=entity, reason=f"tells {len(stats.lengths)} series apart"))
        for found in rows.of_kind("number", "integer"):
            if found.name in (time, entity, target):
                continue
            if found.nullable:
                raise DataError(
                    "MISSING",
                    where=found.name,
                    found=f"{stats.table.columns[found.name].nulls} of {total} values are missing",
                    expected="a value at every step",
                    fix="fill or remove these rows first",
                )
            decimals = (
                0 if isinstance(found, Integer) else found.decimals if isinstance(found, Number) else None
            )
            fields.append(
                Series(
                    name=found.name,
                    length=length,
                    decimals=decimals,
                    reason=f"{length} steps of {found.reason}",
                )
            )
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

    def _time(self, rows: Schema) -> str | None:
        candidates = [f.name for f in rows.of_kind("timestamp", "date") if f.name != self.options.entity]
        if self.options.time:
            found = rows.field(self.options.time) if self.options.time in rows.names else None
            if (
                found is None
                or found.kind not in ("timestamp", "date", "integer", "number", "identifier")
                or found.arrow() == pa.string()
            ):
                raise DataError(
                    "TIMECOL",
                    where=self.options.time,
                    found="texts that are no times",
                    expected="2024-01-31, 2024-01-31 12:00:00 or numbers",
                    fix=f"candidates: {', '.join(candidates) or 'none'}",
                )
            return self.options.time
        if len(candidates) > 1:
            raise DataError(
                "TIMECOL",
                found=f"{len(candidates)} columns of times: {', '.join(candidates)}",
                expected="one to sort by",
                fix=f"pass time={candidates[0]!r}",
            )
        return candidates[0] if candidates else None

    def _length(self, stats: SeriesStats) -> int:
        if self.options.window:
            longest = max(stats.lengths.values(), default=stats.table.rows)
            if longest < self.options.window:
                raise DataError(
                    "FEWROWS",
                    found=f"series of at most {longest} steps",
                    expected=f"window={self.options.window} or more",
                    fix="choose a smaller window=",
                )
            return self.options.window
        if not self.options.entity:
            raise UsageError(
                "WINDOW",
                found="one long series and no window",
                expected="how many steps make a record",
                fix="pass window=24, or entity= if a column tells series apart",
            )
        lengths = set(stats.lengths.values())
        if len(lengths) > 1:
            raise DataError(
                "LENGTH",
                where=self.options.entity,
                found=f"series of {min(lengths)} to {max(lengths)} steps",
                expected="one length",
                fix=f"pass window={min(lengths)} or less",
            )
        return lengths.pop()

    def notices(self, stats: SeriesStats) -> list[str]:
        wanted = self.options.window or 0
        short = sum(n < wanted for n in stats.lengths.values())
        return [
            *self.table.notices(stats.table),
            *([f"{short} series shorter than window={wanted} were left out"] if short else []),
        ]

    def read(
        self, unit: int, schema: Schema, *, skip: frozenset[str], rejects: list[Reject]
    ) -> Iterator[Rows]:
        channels = [f for f in schema.fields if isinstance(f, Series)]
        entity, target, time = self.options.entity, schema.target, self.options.time
        plain: list[AnyField] = [Number(name=f.name) for f in channels]
        plain += [Identifier(name=entity)] if entity else []
        plain += [Category(name=target)] if target else []
        rows = RowSchema(kind="tabular", fields=tuple(plain))
        size = sum(f.size for f in self.files if f.uri not in skip) * (
            8 if any(f.uri.endswith((".gz", ".zst", ".bz2", ".parquet")) for f in self.files) else 2
        )
        buckets = max(1, -(-size // (self.options.memory // 4))) if entity else 1
        with tempfile.TemporaryDirectory(prefix="genpipe-series-") as scratch:
            for table in gather(self._rows(rows, time, skip), buckets, entity, scratch, self.options.memory):
                yield from self._cut(table, schema, channels)

    def _rows(self, rows: Schema, time: str | None, skip: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """The wanted columns with a sort column `__row`: the time, or the position in the input."""
        position = 0
        for file in self.files:
            for piece in self.table.pieces(file) if file.uri not in skip else ():
                batch, place = piece()
                names = batch.schema.names
                if time is None:
                    time = next((n for i, n in enumerate(names) if is_time(batch.column(i))), "")
                columns = [normalise(batch.column(n), n, place) for n in rows.names]
                made = convert(pa.RecordBatch.from_arrays(columns, names=list(rows.names)), rows, place)
                order = (
                    sort_values(normalise(batch.column(time), time, place))
                    if time
                    else np.arange(position, position + batch.num_rows, dtype=np.float64)
                )
                position += batch.num_rows
                yield pa.RecordBatch.from_arrays([*made.columns, pa.array(order)], names=[*rows.names, ORDER])

    def _cut(self, table: pa.Table, schema: Schema, channels: list[Series]) -> Iterator[Rows]:
        if table.num_rows == 0:
            return
        entity, window = self.options.entity, channels[0].length
        stride = self.options.stride or window
        table = table.sort_by(
            [(n, "ascending") for n in ([entity] if entity else []) + [ORDER]]
        ).combine_chunks()
        names = column_keys(table.column(entity).chunk(0)) if entity else np.zeros(table.num_rows, np.uint64)
        order = table.column(ORDER).to_numpy()
        edges = np.flatnonzero(np.r_[True, names[1:] != names[:-1], True])
        twice = np.flatnonzero((names[1:] == names[:-1]) & (order[1:] == order[:-1]))
        if len(twice):
            who = f" of {table.column(entity)[int(twice[0])].as_py()!r}" if entity else ""
            raise DataError(
                "DUPKEY",
                where=self.options.time or "time",
                found=f"{len(twice)} times that occur twice{who}",
                expected="one row per time and entity",
                fix="remove duplicates, or name the entity= column",
            )
        by_entity = bool(schema.key)
        starts, keys = [], []
        for first, last in itertools.pairwise(edges.tolist()):
            block = last - first if by_entity else max(window, min(10 * window, (last - first) // MANY))
            for number, begin in enumerate(range(first, last, block)):
                found = np.arange(begin, min(begin + block, last) - window + 1, stride)
                starts.append(found)
                keys.append(
                    np.full(
                        len(found),
                        names[first]
                        if by_entity
                        else mix(names[first : first + 1] + np.uint64(number + 1))[0],
                        np.uint64,
                    )
                )
        yield from windows(table, schema, np.concatenate(starts), np.concatenate(keys), window)
