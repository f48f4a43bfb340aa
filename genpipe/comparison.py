"""What a row must be, as people write it: `age>=30`, `city=Ulm`. Of rows to read, and of rows to make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genpipe.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

# sign -> the function of Arrow's that it is
SIGNS: Mapping[str, str] = {
    "=": "equal",
    "!=": "not_equal",
    ">=": "greater_equal",
    ">": "greater",
    "<=": "less_equal",
    "<": "less",
}
ORDER = (">=", ">", "<=", "<")
ZONE = r":\d{2}(\.\d+)?\s*(Z|[+-]\d{2}(:?\d{2})?)$"
_WRITTEN = re.compile(r"\s*(.+?)\s*(>=|<=|!=|==|=|<|>)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Comparison:
    """column sign value, as it was written."""

    column: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str, *, where: str) -> Comparison:
        """`age>=30`; the first sign counts, so `income=>50K` is the text >50K."""
        found = _WRITTEN.fullmatch(text)
        if not found:
            raise UsageError(
                "USAGE",
                where=where,
                found=f"{text!r}: no sign between a column and a value",
                expected=f"COLUMN, one of {' '.join(SIGNS)}, VALUE",
                fix=f"quote it, as the shell takes < and > for itself: '{_first_word(text)}>=30'",
            )
        column, sign, value = found.groups()
        return cls(column, "=" if sign == "==" else sign, value)

    def __str__(self) -> str:
        return f"{self.column} {self.sign} {self.value}"


def _first_word(text: str) -> str:
    found = re.match(r"\s*(\w+)", text)
    return found[1] if found and not found[1].isdigit() else "age"


def in_words(kind: pa.DataType) -> str:
    """What a value of a column's type is, as people say it."""
    import pyarrow.types as types

    words = {
        "a whole number": types.is_integer,
        "a number": types.is_floating,
        "true or false": types.is_boolean,
        "a date, such as 2026-01-31": types.is_date,
        "a time, such as 2026-01-31 14:05": types.is_timestamp,
        "a text": types.is_string,
    }
    return next((word for word, is_one in words.items() if is_one(kind)), f"a value of type {kind}")


def moment(text: str, kind: pa.TimestampType) -> pa.Scalar:
    """A time of ISO 8601 as the column's type; one without a zone is by the clock of the column's.
    Raises ArrowInvalid for another text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    unit = "ns" if kind.unit == "ns" else "us"  # of 9999 there are no nanoseconds
    if kind.tz and not re.search(ZONE, text.strip()):
        value = pa.scalar(text).cast(pa.timestamp(unit))
        value = pc.assume_timezone(value, kind.tz, ambiguous="earliest", nonexistent="earliest")
    else:
        value = pa.scalar(text).cast(pa.timestamp(unit, kind.tz))
    return value.cast(kind, safe=False)


def holds(sign: str, column: pa.Array, value: pa.Scalar) -> pa.Array:
    """(B,) bool: where `column sign value`. A missing value compares with nothing."""
    import pyarrow.compute as pc

    return pc.fill_null(pc.call_function(SIGNS[sign], [column, value]), False)
