"""Values that rows shall have, and the share of the rows that each is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.codecs.conditions import spread_draws
from genpipe.comparison import in_words, moment
from genpipe.errors import UsageError


@dataclass(frozen=True)
class Mix:
    """Values of a column's type, and the share of rows each is for."""

    values: pa.Array
    shares: tuple[float, ...]

    def draw(self, rows: int, rng: np.random.Generator) -> pa.Array:
        return self.values.take(pa.array(spread_draws(np.asarray(self.shares), rows, rng)))


def mix_of(value: Any, kind: pa.DataType, *, where: str) -> Mix:
    """A value, or a mapping of values to shares, as the column's type."""
    if not isinstance(value, Mapping):
        return Mix(pa.array([scalar_of(value, kind, where=where).as_py()], kind), (1.0,))
    shares = tuple(value.values())
    numbers = all(isinstance(s, int | float) and not isinstance(s, bool) and 0 <= s < 1e18 for s in shares)
    if not numbers or not sum(shares) > 0:
        raise UsageError(
            "CONDITION", where=where, found=repr(dict(value)), expected="values and their shares, 0 or more"
        )
    return Mix(pa.array([scalar_of(v, kind, where=where).as_py() for v in value], kind), shares)


def scalar_of(value: Any, kind: pa.DataType, *, where: str) -> pa.Scalar:
    """The value as the column's type; text is parsed, so that the command line may give it."""
    try:
        if (value is not None and not isinstance(value, int | float)) or isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and pa.types.is_timestamp(kind):
            return moment(value, kind)
        if isinstance(value, int) and pa.types.is_floating(kind):
            value = float(value)
        return pa.scalar(value).cast(kind) if value is not None else pa.scalar(None, kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        raise UsageError("CONDITION", where=where, found=repr(value), expected=in_words(kind)) from None
