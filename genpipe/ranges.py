"""The values one parameter may take in a search: some choices, or the numbers between two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from genpipe.errors import UsageError


@dataclass(frozen=True)
class Range:
    """Either `choices`, or numbers from low to high: whole ones if `whole`, evenly by ratio if `log`."""

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @classmethod
    def read(cls, value: Any, where: str) -> Range:
        """From a declaration or a user's `vary`: a list of values, or a mapping with low and high."""

        def refuse(found: str, expected: str) -> UsageError:
            return UsageError("SPACE", where=where, found=found, expected=expected)

        if isinstance(value, Mapping) and set(value) == {"choices"}:
            value = value["choices"]
        if isinstance(value, list | tuple):
            if not 1 <= len(value) <= 100:  # each is tried in every recipe
                raise refuse(f"{len(value) or 'an empty list'}", "at least one value, at most 100")
            if any(v in value[:i] for i, v in enumerate(value)):
                raise refuse(f"a value twice in {list(value)}", "different values")
            return cls(choices=tuple(value))
        if not isinstance(value, Mapping) or not {"low", "high"} <= set(value) <= {"low", "high", "log"}:
            raise refuse(repr(value), "a list of values, or {low, high} with an optional log: true")
        low, high, log = value["low"], value["high"], value.get("log", False)
        for bound in (low, high):
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
                raise refuse(repr(bound), "a finite number")
        if low > high:
            raise refuse(f"low {low} > high {high}", "low <= high")
        if log and low <= 0:
            raise refuse(f"low {low} with log", "a number above 0")
        return cls(low=low, high=high, log=bool(log), whole=isinstance(low, int) and isinstance(high, int))

    def __contains__(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    def draw(self, rng: np.random.Generator) -> Any:
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        u, width = rng.random(), self.high - self.low
        value = self.low * (self.high / self.low) ** u if self.log else self.low + u * (width + self.whole)
        return min(int(value), int(self.high)) if self.whole else float(f"{value:.4g}")

    def turn(self, number: int, first: Any) -> Any:
        """The choices in turn, `first` first."""
        at = self.choices.index(first) if first in self.choices else 0
        return self.choices[(at + number) % len(self.choices)]

    def __str__(self) -> str:
        if self.choices:
            return " | ".join(map(str, self.choices))
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"
