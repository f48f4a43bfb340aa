"""When the steps of a series were: the column of times, the usual step, and which differences are gaps."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa

from genpipe.constraints import TIMES
from genpipe.errors import DataError
from genpipe.fields import AnyField, Category, Identifier
from genpipe.keys import column_keys
from genpipe.schema import Schema
from genpipe.sources.columns import Column, Place
from genpipe.sources.sample import Sample
from genpipe.sources.tabular.convert import convert_column
from genpipe.sources.tabular.normalise import normalise

STEP = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h|d|w)?\s*")
SECONDS = {"ms": 1e-3, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
SAMPLE = 2**21  # rows of which the differences are taken; beyond it, of some entities
FEWEST_STEPS = 100
# of the rows have times of their own: counts are as exact, and a clock that is turned back repeats an hour
ALL_DIFFER = 0.97
MOST_OF = 0.8  # of the moments have a row, in each of several series
DAY = 86_400.0
# seconds between rows, give or take a hundredth, that are a clock's or a calendar's, or those of working days
STEPS = [
    *((0.99 * s, 1.01 * s) for s in (1, 10, 60, 300, 600, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)),
    *((0.99 * DAY * d, 1.01 * DAY * d) for d in (1, 7, 30.44, 91.3, 365.25)),
    (1.38 * DAY, 1.48 * DAY),
]
RARE = 0.01  # the largest differences that together are so rare are gaps


def parse_step(step: str | float) -> float:
    """Seconds, or a number in the unit of the times; ValueError for anything else."""
    found = STEP.fullmatch(str(step))
    if found is None or float(found[1]) == 0:
        raise ValueError("a step such as 15min, 1h, 1d, or a number where times are numbers")
    return float(found[1]) * SECONDS[found[2] or "s"]


@dataclass(frozen=True)
class Timing:
    """fields: of the table's columns as they are read. column: of the times; None = the order of the input.

    step, usual: the median difference and the longest that is no gap, in `of`'s units; None = unknown.
    uneven: the share of differences that are another by half a step and more.
    """

    fields: dict[str, AnyField]
    column: str | None
    step: float | None = None
    usual: float | None = None
    uneven: float = 0.0

    @property
    def temporal(self) -> bool:
        return self.column is not None and self.fields[self.column].kind in ("timestamp", "date")

    def of(self, batch: pa.RecordBatch, place: Place, position: int) -> np.ndarray:
        """(B,) float64 to sort by: microseconds, numbers, or places in the input; NaN where it is missing."""
        if self.column is None:
            return np.arange(position, position + batch.num_rows, dtype=np.float64)
        field = self.fields[self.column].model_copy(update={"nullable": True})
        values = convert_column(normalise(batch.column(self.column), self.column, place), field, place)
        if pa.types.is_temporal(values.type):
            zone = getattr(values.type, "tz", None)
            values = values.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
        return values.cast(pa.float64()).to_numpy(zero_copy_only=False)

    def gap(self, step: str | float | None) -> float:
        """The difference beyond which there is a gap; step: as a person gave it."""
        if self.column is None:
            return np.inf
        if step is None:
            return 1.5 * self.usual if self.usual is not None else np.inf
        return 1.5 * parse_step(step) * (1e6 if self.temporal else 1.0)

    def shown(self, difference: float) -> str:
        if not self.temporal:
            return f"{difference:g}"
        return str(timedelta(microseconds=round(difference, -6 if difference > 1e7 else 0)))

    def notices(self, step: str | float | None) -> list[str]:
        if self.column is None:
            return ["no column of times is known: rows are steps in the order of the input; time= names one"]
        said = [
            f"column {self.column!r} orders the steps; times are not learnt, and generated series have none"
        ]
        if self.uneven and self.step and self.usual and step is None:
            said.append(
                f"irregular steps: {100 * self.uneven:.2g} % are not of {self.shown(self.step)}; up to "
                f"{self.shown(1.5 * self.usual)} they count as any other, beyond it as gaps; step= says how "
                "long a step is"
            )
        return said


def time_column(rows: Schema, asked: str | None, entity: str | None) -> str | None:
    """The column to sort by: the one that is asked for, or the only one of dates or times."""
    candidates = [f.name for f in rows.of_kind("timestamp", "date") if f.name != entity]
    if asked:
        found = rows.field(asked) if asked in rows.names else None
        if isinstance(found, Category) or found is None or found.arrow() == pa.string():
            raise DataError(
                "TIMECOL",
                where=asked,
                found="texts that are no times",
                expected="2024-01-31, 2024-01-31 12:00:00 or numbers",
                fix=f"candidates: {', '.join(candidates) or 'none'}",
            )
        return asked
    if len(candidates) > 1:
        raise DataError(
            "TIMECOL",
            found=f"{len(candidates)} columns of times: {', '.join(candidates)}",
            expected="one to sort by",
            fix=f"pass time={candidates[0]!r}",
        )
    return candidates[0] if candidates else None


class Differences:
    """Times by entity, as many as tell what is usual; of whole entities, which their hash chooses."""

    def __init__(self) -> None:
        self.keys, self.times, self.rows, self.mask = list[np.ndarray](), list[np.ndarray](), 0, 0

    def add(self, entities: pa.Array | None, times: np.ndarray) -> None:
        keys = column_keys(entities) if entities is not None else np.zeros(len(times), np.uint64)
        some = (keys & np.uint64(self.mask)) == 0
        self.keys.append(keys[some])
        self.times.append(times[some])
        self.rows += int(some.sum())
        while self.rows > SAMPLE and entities is not None and self.mask < 2**32:
            self.mask = 2 * self.mask + 1
            keys, times = np.concatenate(self.keys), np.concatenate(self.times)
            some = (keys & np.uint64(self.mask)) == 0
            self.keys, self.times, self.rows = [keys[some]], [times[some]], int(some.sum())

    def usual(self, timing: Timing) -> Timing:
        """With step, usual and uneven, where there is any difference."""
        keys = np.concatenate(self.keys) if self.keys else np.zeros(0, np.uint64)
        times = np.concatenate(self.times) if self.times else np.zeros(0)
        order = np.lexsort((times, keys))
        found = np.diff(times[order])[keys[order][1:] == keys[order][:-1]]
        found = np.sort(found[found > 0])  # and no NaN, of times that are missing
        if not len(found):
            return timing
        step = float(np.median(found))
        usual = float(found[max(0, len(found) - 1 - max(1, int(RARE * len(found))))])
        uneven = float(np.mean(np.abs(found - step) > step / 2))
        return replace(timing, step=step, usual=max(step, usual), uneven=uneven)


def plain_field(found: AnyField) -> AnyField:
    """As a channel is read: as it was inferred, with what is missing."""
    return found if isinstance(found, Identifier) else found.model_copy(update={"nullable": True})


def looks_like_series(
    columns: Mapping[str, Column], fields: Mapping[str, AnyField], sample: Sample
) -> list[str]:
    """A hint where a table has a row for each step of time, or one for each of something's steps: learning
    rows one by one tears them apart. sample: of its rows, texts read."""
    measured = any(f.kind in ("number", "integer") for f in fields.values())
    times = [f.name for f in fields.values() if f.kind in TIMES and f.name in sample.columns]
    for name in times if measured else ():
        rows, seconds = columns[name].rows, sample.columns[name] / 1e6
        moments = columns[name].distinct or _moments(seconds, rows)
        if moments < FEWEST_STEPS or np.isnan(seconds).any():
            continue
        of = _series(rows, moments, fields.values(), columns)
        steps = rows if of == "" else moments  # a count of many is known to some per cent
        step = float(seconds.max() - seconds.min()) / (steps - 1)
        if of is not None and any(low <= step <= high for low, high in STEPS):
            entity, each = (f" --entity {shlex.quote(of)}", f", of each {of!r}") if of else ("", "")
            window = max(2, min(24, steps // 25))
            options = f"--kind series{entity} -o time={shlex.quote(name)} -o window={window}"
            told = f"rows are {steps:,} steps of time by column {name!r}{each}"
            return [f"{told}, and are learnt one by one: if their order matters, ingest them with {options}"]
    return []


def _moments(seconds: np.ndarray, rows: int) -> int:
    """How many times are in as many rows: of typed columns a sample alone tells; 0 = it does not."""
    seen = len(np.unique(seconds))
    if len(seconds) == rows:
        return seen
    return rows if seen >= ALL_DIFFER * len(seconds) else 0


def _series(rows: int, moments: int, fields: Iterable[AnyField], columns: Mapping[str, Column]) -> str | None:
    """The column that tells series apart, if they have a row for most moments each; "" where all rows are one
    series; None where rows are neither."""
    if moments >= ALL_DIFFER * rows:
        return ""
    for f in fields:
        count = columns[f.name].distinct if f.kind == "category" else 0
        if 1 < count <= rows // FEWEST_STEPS and MOST_OF <= rows / (moments * count) <= 1.01:
            return f.name
    return None
