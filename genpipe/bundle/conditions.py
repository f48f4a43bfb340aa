"""What a user asks of the rows: columns the network is told, and columns that rows are tested for.

The target column enters the network, so asking for its values costs nothing. Any other column is matched
by drawing and keeping what fits, with a bound on how much may be thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import Codec
from genpipe.errors import UsageError, unknown
from genpipe.seeds import numpy_rng

TESTABLE = ("number", "integer", "boolean", "category", "timestamp", "date")


@dataclass(frozen=True)
class Wanted:
    """told: condition field -> class. tested: column -> value every row must have."""

    told: dict[str, Any]
    tested: dict[str, pa.Scalar]

    def codes(self, codec: Codec, rows: int, rng: np.random.Generator) -> np.ndarray:
        """(rows, K) classes for the network."""
        return (
            codec.encode_conditions(self.told, rows, rng) if self.told else codec.draw_conditions(rows, rng)
        )

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that have every tested value."""
        mask = pa.array(np.ones(batch.num_rows, dtype=bool))
        for name, value in self.tested.items():
            column = batch.column(name)
            same = pc.equal(column, value) if value.is_valid else pc.is_null(column)
            mask = pc.and_(mask, pc.fill_null(same, False))
        return batch.filter(mask)

    def __str__(self) -> str:
        return " and ".join(f"{name} = {value.as_py()!r}" for name, value in self.tested.items())


def parse_conditions(codec: Codec, conditions: Mapping[str, Any] | None) -> Wanted:
    """Check every name and value now; a wrong one is a UsageError before anything is drawn."""
    schema, told, tested = codec.schema, {}, {}
    for name, value in (conditions or {}).items():
        where = f"conditions: {name}"
        if name not in schema.names:
            raise unknown("column", name, schema.names, where="conditions")
        field = schema.field(name)
        if name in schema.conditions:
            told[name] = value
        elif field.kind in TESTABLE:
            tested[name] = _scalar(value, field.arrow(), where=where)
        else:
            raise UsageError(
                "CONDITION",
                where=where,
                found=f"a column of {field.kind}",
                expected="a choice, number or date",
            )
    if told:
        codec.encode_conditions(told, 1, numpy_rng(0, "check"))
    return Wanted(told, tested)


def _scalar(value: Any, kind: pa.DataType, *, where: str) -> pa.Scalar:
    """The value as the column's type; text is parsed, so that the command line may give it."""
    try:
        if (value is not None and not isinstance(value, int | float)) or isinstance(value, bool):
            value = str(value)
        return pa.scalar(value).cast(kind) if value is not None else pa.scalar(None, kind)
    except (pa.ArrowException, ValueError, TypeError):
        raise UsageError(
            "CONDITION", where=where, found=repr(value), expected=f"a value of type {kind}"
        ) from None
