"""Columns as files hold them -> one Arrow type per meaning."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from genpipe.errors import DataError
from genpipe.sources.columns import Place


def normalise(values: pa.Array, name: str, place: Place) -> pa.Array:
    """One Arrow type per meaning: int64, float64 (NaN is missing), string, bool, date32, timestamp.

    Times of day and durations become whole numbers of their unit. What 64 bits do not hold exactly
    (unsigned or decimal numbers of many digits) becomes text, as it does in a CSV.
    """
    kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_dictionary(kind):
        return normalise(values.dictionary_decode(), name, place)
    if pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_timestamp(kind):
        return values
    if pa.types.is_time32(kind):
        return values.cast(pa.int32()).cast(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_time64(kind) or pa.types.is_duration(kind):
        return _whole(values)
    if pa.types.is_decimal(kind):  # by way of text: 0.07 is the float nearest to it, not seven times 0.01
        return _whole(values) if kind.scale <= 0 else values.cast(pa.string()).cast(pa.float64())
    if pa.types.is_floating(kind):
        # by way of text, too: .1 of 32 bits is no tenth of 64
        values = values.cast(pa.string()) if pa.types.is_float32(kind) else values
        values = values.cast(pa.float64())
        return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    if pa.types.is_date(kind):
        return values.cast(pa.date32())
    if pa.types.is_large_string(kind) or str(kind) == "string_view":
        return values.cast(pa.string())
    raise DataError(
        "DTYPE",
        where=place.at(0, name),
        found=f"a column of type {str(kind)[:200]}",
        expected="numbers, text, booleans, dates or times",
        fix=f"write it as text (for bytes: hexadecimal), or leave it out: drop={name}",
    )


def _whole(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        return values.cast(pa.string())
