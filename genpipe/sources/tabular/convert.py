"""Text or typed Arrow columns -> exactly the schema's types; a value that breaks it is named with its row."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.errors import DataError
from genpipe.fields import AnyField, Boolean, Category, Date, Integer, Number, Timestamp
from genpipe.schema import Schema
from genpipe.sources.columns import ZONE, Place, leading_zero
from genpipe.sources.decimals import repaired
from genpipe.sources.limits import shown
from genpipe.written import MISSING, find, read_words, reader_of, settle


@cache
def _missing() -> pa.Array:
    """Made when first asked for: to make an array of a list, pyarrow imports pandas."""
    return pa.array(MISSING)


def convert(batch: pa.RecordBatch, schema: Schema, place: Place) -> pa.RecordBatch:
    """A batch with at least the schema's columns -> a batch of the schema."""
    arrays = [convert_column(batch.column(f.name), f, place) for f in schema.fields]
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())


def convert_column(values: pa.Array, field: AnyField, place: Place) -> pa.Array:
    wanted = field.arrow()
    if pa.types.is_string(values.type) and not pa.types.is_string(wanted):
        values = without_words(values)
    if not field.nullable and values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise _broken(
            place.at(row, field.name),
            "a missing value",
            field,
            "fill it, or set `nullable: true` in the schema file",
        )
    form = getattr(field, "format", None)
    dates = isinstance(field, Date | Timestamp) and pa.types.is_integer(values.type)  # 20230709
    if form and (pa.types.is_string(values.type) or dates):
        values = _read(values, field, form, place)
    try:
        out = values if values.type == wanted else _guessed(values, field, form)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row, value = _first_bad(values, wanted)
        raise _broken(
            place.at(row, field.name),
            shown(value),
            field,
            "correct the value, or the column's kind in the schema file",
        ) from None
    if pa.types.is_string(values.type) and pa.types.is_integer(wanted) and leading_zero(values):
        raise _broken(
            place.at(0, field.name),
            "numbers with leading zeros",
            field,
            "make the column a category or identifier",
        )
    _check(out, field, place)
    return without_dust(out, field)


def without_dust(values: pa.Array, field: AnyField) -> pa.Array:
    """47.72090000000001 is 47.7209 where a number has four decimals; what has more of them keeps them."""
    if not isinstance(field, Number) or field.decimals is None or not len(values):
        return values
    flat, missing = values.to_numpy(zero_copy_only=False), None
    if values.null_count:
        missing = values.is_null().to_numpy(zero_copy_only=False)
    return pa.array(repaired(flat, field.decimals), values.type, mask=missing)


def without_words(values: pa.Array) -> pa.Array:
    """Texts with missing values where a word says so."""
    words = pc.is_in(values, _missing())
    return pc.if_else(words, None, values) if pc.any(words).as_py() else values


def _read(values: pa.Array, field: AnyField, form: str, place: Place) -> pa.Array:
    """Values of texts in a form of their own."""
    texts = values.cast(pa.string())
    if isinstance(field, Boolean):
        found = read_words(texts, form)
    else:
        reader = reader_of(form)
        found = reader.read(texts, form) if reader else texts
    if found.null_count > values.null_count:
        lost = pc.and_(found.is_null(), values.is_valid())
        row = int(np.flatnonzero(lost.to_numpy(zero_copy_only=False))[0])
        raise _broken(
            place.at(row, field.name),
            shown(values[row].as_py()),
            field,
            f"write it as {form}, or correct the column's format in the schema file",
        )
    return found


def _guessed(values: pa.Array, field: AnyField, form: str | None) -> pa.Array:
    """The values cast; texts that do not cast read as people write them, where there is one way alone to."""
    wanted = field.arrow()
    try:
        return _cast(values, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if form or not pa.types.is_string(values.type) or not isinstance(field, Boolean | Number | Integer):
            raise
    if isinstance(field, Boolean):
        found = read_words(values, None)
    else:
        fit = [f for f, times in settle(find(values)) if times == len(values) - values.null_count]
        reader = reader_of(fit[0]) if len(fit) == 1 else None
        found = reader.read(values, fit[0]) if reader else values
    if found.null_count > values.null_count:
        raise pa.ArrowInvalid("neither of the two words")
    return _cast(found, wanted)


def _cast(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_string(wanted) and pa.types.is_floating(values.type):
        whole = values.cast(pa.int64(), safe=False)
        if pc.all(pc.equal(whole.cast(values.type), values)).as_py() is not False:
            values = whole  # a label stored as 1.0 is the class "1"
    if pa.types.is_timestamp(wanted) and wanted.tz:
        return _local(values, wanted)
    if pa.types.is_floating(wanted) and pa.types.is_integer(values.type):
        return values.cast(wanted, safe=True)
    if pa.types.is_string(values.type) and pa.types.is_integer(wanted):
        try:
            return values.cast(wanted)
        except pa.ArrowInvalid:  # 3.0 is a whole number
            return values.cast(pa.float64()).cast(wanted)
    return values.cast(wanted)


def _local(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Points in time; without a zone of their own they are local to the schema's, the hour that comes twice
    in autumn being the first of the two. ArrowInvalid for the hour that spring leaves out.
    """
    naive = pa.timestamp(wanted.unit)
    if pa.types.is_string(values.type):
        zoned = pc.fill_null(pc.match_substring_regex(values, ZONE), False)
        if pc.any(zoned).as_py():
            return values.cast(wanted)  # mixed ones are refused
        values = values.cast(naive)
    elif not pa.types.is_timestamp(values.type) or values.type.tz:
        return values.cast(wanted)
    return pc.assume_timezone(values.cast(naive), wanted.tz, ambiguous="earliest", nonexistent="raise")


def _first_bad(values: pa.Array, wanted: pa.DataType) -> tuple[int, Any]:
    """Bisect for the first value that does not convert."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _cast(values.slice(low, middle - low), wanted)
            low = middle
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
    bad = values.slice(low, 1)  # Python has no dates before year 1: those are shown as Arrow writes them
    return low, (bad.cast(pa.string()) if pa.types.is_temporal(bad.type) else bad)[0].as_py()


def _check(values: pa.Array, field: AnyField, place: Place) -> None:
    bad: Any = None
    if isinstance(field, Number):
        bad = pc.invert(pc.is_finite(values))
    if isinstance(field, Number | Integer):
        low, high = field.minimum, field.maximum
        if low is not None:
            bad = pc.less(values, low) if bad is None else pc.or_(bad, pc.less(values, low))
        if high is not None:
            bad = pc.greater(values, high) if bad is None else pc.or_(bad, pc.greater(values, high))
    if isinstance(field, Category) and field.values is not None:
        known = pc.is_in(values, pa.array(field.values, pa.string()))
        bad = pc.and_(pc.invert(known), values.is_valid())
    if bad is None or not pc.any(bad).as_py():
        return
    row = int(np.flatnonzero(bad.fill_null(False).to_numpy(zero_copy_only=False))[0])
    raise _broken(
        place.at(row, field.name), shown(values[row].as_py()), field, "correct the value, or the schema file"
    )


def _broken(where: str, found: str, field: AnyField, fix: str) -> DataError:
    form = getattr(field, "format", None)
    expected = field.kind + (f" written as {form}" if form else "")
    if isinstance(field, Number | Integer):
        expected += "".join(
            f" {word} {v}" for word, v in (("from", field.minimum), ("to", field.maximum)) if v is not None
        )
    if isinstance(field, Timestamp):
        expected = f"{field.arrow()}" + (" (the years 1678 to 2261)" if field.unit == "ns" else "")
    if isinstance(field, Category) and field.values is not None:
        expected += f" (one of {', '.join(field.values[:10])})"
    return DataError("SCHEMA", where=where, found=found, expected=expected, fix=fix)
