"""Columns of a table that are a formula of others: products, rates (a part of a whole, times a factor),
logarithms, and one number in another unit.

Learnt are those others; the column is reckoned from them and written with as many significant digits as in
the data, a product or another unit with its decimals. Where the formula says nothing (a whole of 0), it is
learnt by itself.
"""

from __future__ import annotations

import numpy as np

from genpipe.codecs.tabular.lookups import Columns
from genpipe.codecs.tabular.offsets import Offset
from genpipe.constraints import Linear, Logarithm, Product, Ratio
from genpipe.written.significant import SLACK, significant


class Formula(Offset):
    """An Offset from the formula's value, always 0."""

    constraint: Product | Ratio | Logarithm | Linear

    @property
    def digits(self) -> int:
        return 15 if isinstance(self.constraint, Product | Linear) else self.constraint.digits

    @property
    def real(self) -> bool:  # type: ignore[override]
        return True

    def _base(self, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
        (first, there), *rest = (self._values(columns[s.name]) for s in self.sources)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if isinstance(self.constraint, Product):
                value = self.constraint.factor * first
                for other, has in rest:
                    value, there = value * other, there & has
            elif isinstance(self.constraint, Ratio):
                ((whole, has),) = rest
                value, there = self.constraint.factor * first / whole, there & has
            elif isinstance(self.constraint, Linear):
                value = self.constraint.factor * first + self.constraint.offset
            else:
                value = self.constraint.factor * np.log(first)
        there = there & np.isfinite(value)
        return significant(np.where(there, value, 0.0), self.digits), there

    def holds(self, columns: Columns) -> np.ndarray:
        (values, has), (base, there) = self._values(columns[self.field.name]), self._base(columns)
        base = self._limited(base)
        decimals = getattr(self.field, "decimals", None)
        unit = 0.0 if decimals is None else 10.0**-decimals
        off = np.abs(values - base) <= SLACK * 10.0 ** (1 - self.digits) * np.abs(base) + unit
        found: np.ndarray = off | ~(has & there)
        return found

    def tolerance(self, learnt: dict[str, float]) -> float:
        """Exact where its parts are."""
        exact = not any(learnt[name] for name in (*self.names, *(s.name for s in self.sources)))
        return 10.0 ** (2 - self.digits) if exact else float("inf")
