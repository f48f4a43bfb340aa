"""The vocabulary of data: kinds of fields, and the Arrow type of each.

| field | Arrow | learnt as |
|---|---|---|
| number | float64 | a real number; `decimals` = digits after the point, None = all of them |
| integer | int64 | a whole number |
| boolean | bool | a choice of two |
| category | string | one of few values; `values` pins the list |
| timestamp, date | timestamp[unit, timezone], date32 | a point in time |
| identifier | string or int64 | not learnt: unique placeholders, or strings of a `pattern`, for the output |
| text | string | a document (data kind `text`); beside other kinds made up like an identifier |
| image | struct<bytes, path> (PNG) | pixels (height, width, channels) |
| series | list<float64> | one channel of a fixed-length series; one row an entity or window |
| audio | struct<bytes, path> (WAV) | a waveform of `frames` samples at `rate` Hz |
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from genpipe.pattern import language
from genpipe.written import check

PII = Literal["email", "url", "ipv4", "ipv6", "ssn", "iban", "card", "phone", "name", "address", "none"]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Decimals = Annotated[int, Field(ge=-100, le=100)]  # more are more than a float has
Side = Annotated[int, Field(ge=1, le=2**16)]
BLOB = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class BaseField(BaseModel, ABC):
    """pii: the personal data a column of text holds, made up for the output; none = it holds none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    nullable: bool = False
    reason: str = ""
    pii: PII | None = None

    @model_validator(mode="after")
    def _check_pii(self) -> BaseField:
        if self.pii not in (None, "none") and not (isinstance(self, Made) and self.arrow() == pa.string()):
            fix = "make it a text, or write pii: none to have it taken as any other column"
            raise ValueError(f"pii: {self.pii} is for columns of made-up text; {fix}")
        return self

    @abstractmethod
    def arrow(self) -> pa.DataType:
        """The type of the field's column."""


class Written(BaseField, ABC):
    """format: how texts of the column are written (genpipe/written/): read so, and delivered so in files of
    text.
    """

    # without one a schema, and every fingerprint of it, is as it was before there were any
    format: str | None = Field(default=None, exclude_if=lambda form: form is None)


class Number(Written):
    """format: `$#,##0.00`, `0,00 €`, `0.0%`, `0.## kg`."""

    kind: Literal["number"] = "number"
    decimals: Decimals | None = None
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check_format(self) -> Number:
        check(self.format, "numbers")
        return self

    def arrow(self) -> pa.DataType:
        return pa.float64()


class Integer(Written):
    """format: as of a Number, `0.0` among them, or of times of day and durations, `%H:%M:%S`, in seconds."""

    kind: Literal["integer"] = "integer"
    minimum: Int64 | None = None
    maximum: Int64 | None = None

    @model_validator(mode="after")
    def _check_format(self) -> Integer:
        check(self.format, "numbers", "clocks")
        return self

    def arrow(self) -> pa.DataType:
        return pa.int64()


class Boolean(Written):
    """format: its two words, `yes/no`."""

    kind: Literal["boolean"] = "boolean"

    @model_validator(mode="after")
    def _check_format(self) -> Boolean:
        if self.format is not None and not re.fullmatch(r"([^/]{1,40})/(?!\1$)[^/]{1,40}", self.format):
            raise ValueError(
                f"format {self.format[:60]!r}; expected the words for true and false, such as yes/no"
            )
        return self

    def arrow(self) -> pa.DataType:
        return pa.bool_()


class Category(BaseField):
    kind: Literal["category"] = "category"
    values: tuple[str, ...] | None = None

    def arrow(self) -> pa.DataType:
        return pa.string()


class Timestamp(BaseField):
    """unit: of what is stored. timezone: its name, such as Europe/Paris; None = local time.

    format: how texts are written, as strptime says it, where they are not ISO 8601: `%m/%d/%Y %H:%M`.
    """

    kind: Literal["timestamp"] = "timestamp"
    unit: Literal["s", "ms", "us", "ns"] = "us"
    timezone: str | None = None
    format: str | None = None

    def arrow(self) -> pa.DataType:
        return pa.timestamp(self.unit, self.timezone)


class Date(BaseField):
    """format: as of a Timestamp: `%d.%m.%Y`."""

    kind: Literal["date"] = "date"
    format: str | None = None

    def arrow(self) -> pa.DataType:
        return pa.date32()


class Made(BaseField, ABC):
    """Never learnt: the output gets made-up values, which no two rows of a seed share.

    pattern: a regular expression whose strings they are (see pattern.py); None = placeholders, or what
    `pii` says, which repeats where rows are more than there are addresses set apart for such use.
    """

    pattern: str | None = None

    @model_validator(mode="after")
    def _check_pattern(self) -> Made:
        if self.pattern is not None:
            language(self.pattern)
        return self


class Identifier(Made):
    """minimum: where the made-up numbers begin, one a row; None = 63 random bits."""

    kind: Literal["identifier"] = "identifier"
    storage: Literal["string", "integer"] = "string"
    minimum: Int64 | None = None

    @model_validator(mode="after")
    def _check_storage(self) -> Identifier:
        if self.storage == "integer" and self.pattern is not None:
            raise ValueError("pattern is for identifiers of storage: string; whole numbers take minimum")
        if self.storage == "string" and self.minimum is not None:
            raise ValueError("minimum is for identifiers of storage: integer; texts take pattern")
        return self

    def arrow(self) -> pa.DataType:
        return pa.string() if self.storage == "string" else pa.int64()


class Text(Made):
    """runs: they are cut from longer texts, so where one ends says nothing."""

    kind: Literal["text"] = "text"
    runs: bool = Field(default=False, exclude_if=lambda runs: not runs)

    def arrow(self) -> pa.DataType:
        return pa.string()


class Image(BaseField):
    """levels: what was black and what was white in greys of more than 8 bits; None = there are none."""

    kind: Literal["image"] = "image"
    height: Side
    width: Side
    channels: Literal[1, 3]
    # without levels a schema, and every fingerprint of it, is as it was before there were any
    levels: tuple[FiniteFloat, FiniteFloat] | None = Field(default=None, exclude_if=lambda ends: ends is None)

    @model_validator(mode="after")
    def _check_levels(self) -> Image:
        if self.levels is not None and not self.levels[0] < self.levels[1]:
            raise ValueError(f"levels {list(self.levels)}; expected black, and white above it: [0, 4096]")
        return self

    def arrow(self) -> pa.DataType:
        return BLOB


class Series(BaseField):
    kind: Literal["series"] = "series"
    length: int = Field(ge=1, le=2**24)
    decimals: Decimals | None = None

    def arrow(self) -> pa.DataType:
        return pa.list_(pa.float64())


class Audio(BaseField):
    kind: Literal["audio"] = "audio"
    rate: int = Field(ge=1, le=384_000)
    frames: int = Field(ge=1, le=2**28)

    def arrow(self) -> pa.DataType:
        return BLOB


AnyField = Annotated[
    Number | Integer | Boolean | Category | Timestamp | Date | Identifier | Text | Image | Series | Audio,
    Field(discriminator="kind"),
]
