"""When the steps of a series were: the column of times, the usual step, and which differences are gaps."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa

from genpipe.errors import DataError
from genpipe.fields import AnyField, Category, Identifier
from genpipe.keys import column_keys
from genpipe.schema import Schema
from genpipe.sources.columns import Place
from genpipe.sources.tabular.convert import convert_column
from genpipe.sources.tabular.normalise import normalise

STEP = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h|d|w)?\s*")
SECONDS = {"ms": 1e-3, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
SAMPLE = 2**21  # rows of which the differences are taken; beyond it, of some entities
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
