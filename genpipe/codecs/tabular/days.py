"""Dates and times in an inequality that are compared by their days, on the clock of the time's zone.

In place of the later one are learnt how many days it lies beyond the earlier, and, where it is a time, its
time of day. So a parcel leaves on the day of its order or after it, and still at an hour at which parcels
leave. So it is with a date and a time, and with two times that lie days apart (`days: true`); of these the
later one never comes first on one day either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.sketch import to_numpy
from genpipe.codecs.tabular.formulas import Formula
from genpipe.codecs.tabular.lookups import Columns, from_plain
from genpipe.codecs.tabular.moments import Moment, filled, local
from genpipe.codecs.tabular.offsets import Offset
from genpipe.constraints import Inequality, Linear, Logarithm, Product, Ratio, Reckoned
from genpipe.fields import AnyField, Integer


@dataclass(frozen=True)
class DayOffset(Offset):
    """The later of a date and a time, as its days beyond the other."""

    @property
    def names(self) -> tuple[str, ...]:
        clock = (f"time of day of {self.field.name}",) if self.field.kind == "timestamp" else ()
        return (*super().names, *clock)

    @property
    def fields(self) -> tuple[AnyField, ...]:
        alone = self.field.model_copy(update={"name": self.names[1], "nullable": True})
        beyond, *clock = (Integer(name=n, nullable=True, minimum=0) for n in (self.names[0], *self.names[2:]))
        return (beyond, alone, *clock)

    def reduce(self, columns: Columns) -> Columns:
        column = columns[self.field.name]
        (days, clock, has), (base, _, there) = (
            self._days(columns, self.field),
            self._days(columns, self.sources[0]),
        )
        beyond = pa.array(np.maximum(days - base, 0), mask=~(has & there))
        alone = pc.if_else(pa.array(there), pa.scalar(None, column.type), column)
        parts = (beyond, alone, pa.array(clock, mask=~(has & there)))
        return dict(zip(self.names, parts, strict=False))

    def restore(self, columns: Columns) -> Columns:
        base, _, there = self._days(columns, self.sources[0])
        beyond, has = to_numpy(columns[self.names[0]])
        least = base + (self.strict and not self._alike)
        days = np.maximum(base + np.minimum(beyond, np.int64(2**31)), least)
        clock = filled(*to_numpy(columns[self.names[2]])) if len(self.names) > 2 else 0
        floor = least * self._moment.day
        if self._alike:
            floor = to_numpy(local(columns[self.sources[0].name], self.sources[0]))[0] + self.strict
        values = days * self._moment.day + clock
        if self.extremes is not None:
            low, high = to_numpy(local(from_plain(list(self.extremes), self.field), self.field))[0]
            last = high // self._moment.day
            values = np.where(days > last, last * self._moment.day + clock, values)
            values = np.clip(values, low, high)
        made = self._moment.place(np.maximum(values, floor), has & there)
        made = pc.if_else(pa.array(there), made, columns[self.names[1]])
        if made.null_count and not self.field.nullable:  # no training row was so; codes may be
            instead = np.where(there, least, 0) * self._moment.day
            made = pc.coalesce(made, self._moment.place(instead, there))
            if self.extremes is not None:
                made = made.fill_null(from_plain([self.extremes[0]], self.field)[0])
        return {self.field.name: made}

    def holds(self, columns: Columns) -> np.ndarray:
        if self._alike:
            return super().holds(columns)
        (days, _, has), (base, _, there) = (
            self._days(columns, self.field),
            self._days(columns, self.sources[0]),
        )
        found: np.ndarray = (days >= base + self.strict) | ~(has & there)
        return found

    def tolerance(self, learnt: dict[str, float]) -> float:
        beyond, alone, *clock = (learnt[name] for name in self.names)
        days = beyond + sum(learnt[s.name] / Moment(s).day for s in self.sources)
        return float(max(np.ceil(days) * self._moment.day + sum(clock), alone))

    @property
    def _alike(self) -> bool:
        """Two times of one clock."""
        return bool(self.field.kind == self.sources[0].kind)

    @property
    def _moment(self) -> Moment:
        return Moment(self.field)

    def _days(self, columns: Columns, field: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(days since 1970, units of storage since midnight, whether it is there)"""
        values, valid = to_numpy(local(columns[field.name], field))
        return *np.divmod(np.where(valid, values, 0), Moment(field).day), valid


def offset(
    label: str,
    constraint: Reckoned,
    field: Any,
    sources: tuple[AnyField, ...],
    extremes: tuple[Any, Any] | None = None,
) -> Offset:
    """The column that this constraint reckons."""
    if isinstance(constraint, Product | Ratio | Logarithm | Linear):
        return Formula(label, constraint, field, sources, extremes)
    kinds = {f.kind for f in (field, *sources)}
    by_day = kinds == {"date", "timestamp"} or (isinstance(constraint, Inequality) and constraint.days)
    return (DayOffset if by_day else Offset)(label, constraint, field, sources, extremes)
