"""Columns of a table that are reckoned from others: the high side of an inequality, the total of a sum.

In place of such a column two are learnt: how far it lies beyond its base (the low side, or the sum of the
parts; for sums always 0), and the column itself in the rows whose base is missing. Both are constant, and
so cost nothing, in data that does not need them. Whatever is decoded, the column made from them holds the
constraint after rounding to its decimals and within the limits of the schema. Whole numbers and times are
reckoned in int64, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.sketch import to_numpy
from genpipe.codecs.tabular.lookups import Columns, from_plain
from genpipe.constraints import Inequality, Reckoned
from genpipe.fields import AnyField, Integer, Number
from genpipe.limits import greatest


@dataclass(frozen=True)
class Offset:
    """A number or time that is `base`, the low side or the sum of the parts, plus an offset.

    field, sources: with the limits that constraints add. extremes: of the column in training.
    """

    label: str
    constraint: Reckoned
    field: Any
    sources: tuple[AnyField, ...]
    extremes: tuple[Any, Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """(the offset, the column where the base is missing)."""
        of = ", ".join(s.name for s in self.sources)
        return f"{self.field.name} beyond {of}", f"{self.field.name} without {of}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.field.name, *(s.name for s in self.sources))

    @property
    def strict(self) -> bool:
        return isinstance(self.constraint, Inequality) and self.constraint.strict

    @property
    def bounded(self) -> bool:
        """Whether the column may lie beyond its base; a total never does."""
        return isinstance(self.constraint, Inequality)

    @cached_property
    def real(self) -> bool:
        """Whether to reckon in floats; whole numbers and times are exact in int64."""
        return any(f.kind == "number" for f in (self.field, *self.sources))

    @property
    def fields(self) -> tuple[AnyField, ...]:
        offset, alone = self.names
        places = (
            [0 if f.kind == "integer" else f.decimals for f in (self.field, *self.sources)]
            if self.real
            else []
        )
        decimals = None if None in places else max(places, default=0)
        made = (
            Number(name=offset, nullable=True, decimals=decimals, minimum=0.0)
            if self.real
            else Integer(name=offset, nullable=True, minimum=0)
        )
        return made, self.field.model_copy(update={"name": alone, "nullable": True})

    def _values(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        values, valid = to_numpy(column)
        return values.astype(np.float64) if self.real else values, valid

    def _base(self, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
        """(base, whether all of it is there)."""
        first, *rest = (self._values(columns[s.name]) for s in self.sources)
        total, valid = first
        for values, there in rest:
            total, valid = total + values, valid & there
        return total, valid

    def _settled(self, values: np.ndarray) -> np.ndarray:
        """Real values rounded to the decimals of the column."""
        if not self.real or (self.field.kind == "number" and self.field.decimals is None):
            return values
        unit = 10.0 ** getattr(self.field, "decimals", 0)
        return np.rint(values * unit) / unit

    def reduce(self, columns: Columns) -> Columns:
        column = columns[self.field.name]
        (values, has), (base, there) = self._values(column), self._base(columns)
        offset = np.zeros_like(base)
        if self.bounded:
            ahead = has & there & (values > base)
            far = values - base  # of int64s it may wrap around
            offset = np.where(ahead, far if self.real else np.where(far < 0, np.iinfo(np.int64).max, far), 0)
        if (decimals := getattr(self.fields[0], "decimals", None)) is not None:
            offset = np.rint(offset * 10.0**decimals) / 10.0**decimals
        alone = pc.if_else(pa.array(there), pa.scalar(None, column.type), column)
        return dict(zip(self.names, (pa.array(offset, mask=~(has & there)), alone), strict=True))

    def restore(self, columns: Columns) -> Columns:
        base, there = self._base(columns)
        offset, has = self._values(columns[self.names[0]])
        values = self._settled(base + offset)
        if self.bounded:
            least = self._least(base)
            values = np.where(values < least, least, values)  # also where int64 wrapped around
            if self.extremes is not None:
                low, high = (np.array(e, dtype=values.dtype) for e in self.extremes)
                values = np.clip(values, low, np.maximum(high, least))
        values = self._limited(values)
        made = pc.if_else(pa.array(there), self._arrow(values, has), columns[self.names[1]])
        if made.null_count and not self.field.nullable:  # no training row was so; codes may be
            instead = values if self.extremes is None else np.where(there, values, self.extremes[0])
            made = pc.coalesce(made, self._arrow(instead, np.ones_like(there)))
        return {self.field.name: made}

    def _least(self, base: np.ndarray) -> np.ndarray:
        """The smallest legal values not below (strict: above) the base."""
        if not self.real:
            return base + self.strict
        least = self._settled(base)
        unit = 10.0 ** -(getattr(self.field, "decimals", 0) or 0)
        more = np.maximum(self._settled(least + unit), np.nextafter(base, np.inf))
        if self.field.kind == "number" and self.field.decimals is None:
            more = np.nextafter(base, np.inf)
        return np.where(least <= base if self.strict else least < base, more, least)

    def _limited(self, values: np.ndarray) -> np.ndarray:
        """Within the schema's limits: the base was kept below the upper one, see constraints.limits."""
        minimum, most = getattr(self.field, "minimum", None), greatest(self.field)
        if minimum is not None:
            bottom = self._settled(np.array(minimum, dtype=values.dtype))
            unit = 10.0 ** -(getattr(self.field, "decimals", 0) or 0)
            values = np.maximum(values, bottom if bottom >= minimum else self._settled(bottom + unit))
        return values if most is None else np.minimum(values, np.array(most, dtype=values.dtype))

    def _arrow(self, values: np.ndarray, has: np.ndarray) -> pa.Array:
        if self.real and self.field.kind == "integer":
            values = np.clip(values, -(2.0**62), 2.0**62).astype(np.int64)
        return from_plain(pa.array(values, mask=~has), self.field)

    def tolerance(self, learnt: dict[str, float]) -> float:
        """Of the column, from those of its parts and its base."""
        beyond, alone = (learnt[name] for name in self.names)
        return max(beyond + sum(learnt[s.name] for s in self.sources), alone)

    def holds(self, columns: Columns) -> np.ndarray:
        (values, has), (base, there) = self._values(columns[self.field.name]), self._base(columns)
        if self.bounded:
            fine = values > base if self.strict else values >= base
        elif self.real and getattr(self.field, "decimals", 0) is None:
            fine = np.isclose(values, base, rtol=1e-9, atol=1e-9)
        else:
            fine = self._settled(values) == self._settled(base)
        found: np.ndarray = fine | ~(has & there)
        return found
