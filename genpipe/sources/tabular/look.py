"""One batch of a column: its statistics (columns.py), whether it names people (pii.py), how it is written."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from genpipe.schema import Schema
from genpipe.sources.columns import Column, Place, observe
from genpipe.sources.tabular import pii
from genpipe.sources.tabular.convert import without_words
from genpipe.written import PAIRS, dates, find, numbers

UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
WHOLE, PLAIN = "0.0|.", "|plain"  # among the forms: of whole numbers such as 3.0, and of numbers without one
DAYS, SECONDS = (1900_01_01, 2100_12_31), (1900_01_01_00_00_00, 2100_12_31_23_59_59)


def look(name: str, values: pa.Array, place: Place) -> tuple[Column, pa.Array]:
    """Statistics of a batch of a column, and its values in the type that was found."""
    column, typed = observe(name, values, place)
    if column.types["text"]:
        column, typed = _as_written(column, typed, values, place)
    else:
        column, typed = _spelled(column, typed, values, place)
    if set(column.types) != {"number"}:  # nobody is named by a fraction
        column.looked = pii.look(values)
    return column, typed


def _as_written(column: Column, typed: pa.Array, values: pa.Array, place: Place) -> tuple[Column, pa.Array]:
    """How texts are written. Words such as n/a are missing values where the others are no texts."""
    plain = without_words(values)
    if plain is not values and plain.null_count < len(plain):
        found, again = observe(column.name, plain, place)
        if not found.types["text"]:
            return _spelled(found, again, plain, place)
        found.written = find(plain)
        if max(found.written.values(), default=0) * 2 > found.valid:
            return found, values
    column.written = find(values)
    return column, typed


def _spelled(column: Column, typed: pa.Array, values: pa.Array, place: Place) -> tuple[Column, pa.Array]:
    """How plain numbers and booleans show: days such as 20230709, whole numbers as 3.0, `True`."""
    text = pa.types.is_string(values.type)
    if column.types["integer"]:
        low, high = column.low or 0, column.high or 0
        if any(first <= low and high <= last for first, last in (DAYS, SECONDS)):
            column.written = dates.find(values if text else values.cast(pa.string()))
    elif column.types["number"] and text and not column.digits.most:
        if pc.all(pc.match_substring_regex(values, r"^[+-]?\d+\.0$")).as_py():
            column, typed = observe(column.name, typed.cast(pa.int64()), place)
            column.written[WHOLE] += column.valid
    elif column.types["boolean"] and text:
        pairs = {f"{yes}/{no}" for yes, no in map(_cased, pc.unique(values).drop_null().to_pylist())}
        if len(pairs) == 1:
            column.written[pairs.pop()] += column.valid
    if text and (column.types["integer"] or column.types["number"]):
        column.written[PLAIN] += column.valid
    return column, typed


def _cased(word: str) -> tuple[str, str]:
    case = str.upper if word.isupper() else str.lower if word.islower() else str.capitalize
    return case(PAIRS[0][0]), case(PAIRS[0][1])


def reads_otherwise(form: str | None) -> bool:
    """Whether what looks like a plain number is another one in this form: 1.234 with marks of thousands."""
    return form is not None and numbers.takes(form) and form != "0.0" and "/" not in form


def exact(found: pa.Schema, schema: Schema) -> bool:
    """Whether every column was found in its final type, or in one that widens to it without loss."""
    types = dict(zip(found.names, found.types, strict=True))
    for wanted in schema.fields:
        have, want = types.get(wanted.name, pa.null()), wanted.arrow()
        whole = pa.types.is_integer(have) and pa.types.is_floating(want)
        again = reads_otherwise(getattr(wanted, "format", None))
        if not ((have == want and not again) or (whole and not again) or pa.types.is_null(have)):
            return False
    return True


def unit_of(kind: pa.DataType) -> str:
    """What the whole numbers of a column of this type count; empty for plain numbers."""
    if pa.types.is_time(kind):
        return f"time of day, in {UNITS[kind.unit]} since midnight"
    return f"duration, in {UNITS[kind.unit]}" if pa.types.is_duration(kind) else ""
