"""Dates and times of a table, learnt as their week, their weekday and their time of day.

In one number for all of it a bin is days wide, and hours are drawn evenly: shops were open at night and on
Sundays. Taken apart, the shares of weekdays and hours are kept, and other columns may decide each of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.holders import WHO
from genpipe.codecs.sketch import Sample, to_numpy
from genpipe.codecs.tabular.lookups import Columns, from_plain
from genpipe.fields import AnyField, Integer

MOMENTS = frozenset({"date", "timestamp"})
MONDAY = 3  # days from a Monday to the first day of 1970, a Thursday
UNEVEN = 0.05  # share of days that lie on other weekdays than evenly spread ones would
CHANCE = 27.9  # of six degrees of freedom: one in ten thousand by chance
SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class Moment:
    """A date or timestamp. extremes: of the column in training, in units of storage; None where not known."""

    field: Any
    extremes: tuple[int, int] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        parts = ("week", "weekday") if self.field.kind == "date" else ("week", "weekday", "time of day")
        return tuple(f"{part} of {self.field.name}" for part in parts)

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.field.name,)

    @property
    def fields(self) -> tuple[AnyField, ...]:
        """Of a missing one all are missing."""
        return tuple(Integer(name=name, nullable=self.field.nullable) for name in self.names)

    @property
    def day(self) -> int:
        """Units of storage a day."""
        return 1 if self.field.kind == "date" else 86_400 * SECONDS[self.field.unit]

    def reduce(self, columns: Columns) -> Columns:
        values, valid = to_numpy(local(columns[self.field.name], self.field))
        days, clock = np.divmod(np.where(valid, values, 0), self.day)
        parts = zip(self.names, (*np.divmod(days + MONDAY, 7), clock), strict=False)
        return {name: pa.array(part, mask=~valid) for name, part in parts}

    def restore(self, columns: Columns) -> Columns:
        week, valid = to_numpy(columns[self.names[0]])
        weekday, *clock = (filled(*to_numpy(columns[name])) for name in self.names[1:])
        days = 7 * week + weekday - MONDAY
        if self.extremes is not None:  # the first and the last week were not whole ones
            first, last = self.ends
            days = np.where(days > last, days - 7, np.where(days < first, days + 7, days))
            days = np.clip(days, first, last)
        return {self.field.name: self.place(days * self.day + (clock[0] if clock else 0), valid)}

    def place(self, values: np.ndarray, valid: np.ndarray) -> pa.Array:
        """The column of values by the local clock, within the extremes."""
        made = from_plain(pa.array(values, mask=~valid), _unzoned(self.field))
        if getattr(self.field, "timezone", None):
            made = pc.assume_timezone(made, self.field.timezone, ambiguous="earliest", nonexistent="earliest")
        if self.extremes is not None:
            inside = np.clip(to_numpy(made)[0], *self.extremes)
            made = from_plain(pa.array(inside, mask=~valid), self.field)
        return made

    @property
    def ends(self) -> tuple[int, int]:
        """The first and the last day."""
        assert self.extremes is not None
        first, last = to_numpy(local(from_plain(list(self.extremes), self.field), self.field))[0] // self.day
        return int(first), int(last)

    def tells(self, sample: Sample) -> bool:
        """Whether weekdays or times of day of the data differ: of a date of birth they say nothing, and would
        tell whose it is. Every entity counts once.
        """
        weekday, valid = sample.payload[self.names[1]], sample.payload[f"{self.names[1]}?"]
        if len(self.names) > 2 and len(np.unique(sample.payload[self.names[2]][valid])) > 1:
            return True
        if not valid.any():
            return False
        weights = sample.weights[valid].astype(np.float64)
        if WHO in sample.payload:
            of, each = np.unique(sample.payload[WHO][valid], return_inverse=True, return_counts=True)[1:]
            weights = 1.0 / each[of]
        total = float(weights.sum())
        shares = np.bincount(weekday[valid].astype(np.int64), weights, 7) / total
        uneven = np.abs(shares - 1 / 7).sum() / 2
        return bool(uneven > UNEVEN and 7 * total * np.square(shares - 1 / 7).sum() > CHANCE)

    def allowed(self) -> list[str]:
        """What is made, for a person to read."""
        if self.extremes is None:
            return ["a date of the training data"]
        low, high = from_plain(list(self.extremes), self.field).cast(pa.string()).to_pylist()
        return [f"{low} to {high}, at hours and on weekdays of the training data"]

    def tolerance(self, learnt: dict[str, float]) -> float:
        """Of the column, from those of its parts."""
        units = (7 * self.day, self.day, 1)
        return sum(unit * learnt[name] for name, unit in zip(self.names, units, strict=False))


def taken_apart(
    fields: Iterable[Any], made: Collection[str | None], extremes: Mapping[str, Any]
) -> tuple[Moment, ...]:
    """Of those that are not made of others; one beside a column of such a name stays whole."""
    fields = tuple(fields)
    names = {f.name for f in fields}
    found = (Moment(f, extremes.get(f.name)) for f in fields if f.kind in MOMENTS and f.name not in made)
    return tuple(m for m in found if names.isdisjoint(m.names))


def local(column: pa.Array, field: Any) -> pa.Array:
    """By the clock on the wall, which shops open by."""
    return pc.local_timestamp(column) if getattr(field, "timezone", None) else column


def filled(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Codes may say that a part alone is missing: then it is another row's."""
    found = values[valid] if valid.any() else np.zeros(1, dtype=values.dtype)
    return np.where(valid, values, np.resize(found, len(values)))


def _unzoned(field: Any) -> Any:
    return field.model_copy(update={"timezone": None}) if field.kind == "timestamp" else field
