"""The vocabulary of data: field kinds, and their way to Arrow and to JSON and back.

A Schema is what ingest infers once (with a reason per field), prints as a file a person may edit, and
obeys from then on. Stored kinds:

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

import json
from abc import ABC, abstractmethod
from collections import Counter
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from genpipe.constraints import AnyConstraint, derivations
from genpipe.errors import DataError, few
from genpipe.kinds import KINDS as KINDS
from genpipe.kinds import DataKind
from genpipe.pattern import MOST_PATTERNS, language

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


class Number(BaseField):
    kind: Literal["number"] = "number"
    decimals: Decimals | None = None
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None

    def arrow(self) -> pa.DataType:
        return pa.float64()


class Integer(BaseField):
    kind: Literal["integer"] = "integer"
    minimum: Int64 | None = None
    maximum: Int64 | None = None

    def arrow(self) -> pa.DataType:
        return pa.int64()


class Boolean(BaseField):
    kind: Literal["boolean"] = "boolean"

    def arrow(self) -> pa.DataType:
        return pa.bool_()


class Category(BaseField):
    kind: Literal["category"] = "category"
    values: tuple[str, ...] | None = None

    def arrow(self) -> pa.DataType:
        return pa.string()


class Timestamp(BaseField):
    kind: Literal["timestamp"] = "timestamp"
    """format: how text is read, as strptime does, where it is not ISO 8601: `%m/%d/%Y %H:%M`."""

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
    kind: Literal["text"] = "text"

    def arrow(self) -> pa.DataType:
        return pa.string()


class Image(BaseField):
    kind: Literal["image"] = "image"
    height: Side
    width: Side
    channels: Literal[1, 3]

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


class Schema(BaseModel):
    """Fields in column order.

    target: the label column, for conditional generation and train-on-synthetic tests.
    key: the columns whose hash decides the split; empty = the entity, or else the whole row.
    entity: the columns that together name whom rows are about, where one has several rows: what is kept of
    any value is kept because so many entities have it, not so many rows.
    constraints: what holds between columns of every row of a table (genpipe/constraints.py).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: DataKind
    fields: tuple[AnyField, ...]
    target: str | None = None
    key: tuple[str, ...] = ()
    entity: tuple[str, ...] = ()
    constraints: tuple[AnyConstraint, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _few_patterns(cls, data: Any) -> Any:
        """A field counts the strings of its pattern, so how many there are is asked before."""
        fields = data.get("fields") if isinstance(data, dict) else None
        fields = fields if isinstance(fields, list | tuple) else ()
        patterns = [str(f.get("pattern")) for f in fields if isinstance(f, dict)]
        if len(set(patterns)) > MOST_PATTERNS:
            raise ValueError(f"{len(set(patterns))} different patterns; at most {MOST_PATTERNS} are allowed")
        return data

    @model_validator(mode="after")
    def _check(self) -> Schema:
        names = [f.name for f in self.fields]
        twice = sorted(n for n, times in Counter(names).items() if times > 1)
        if twice:
            raise ValueError(f"field names must differ, got twice: {few(twice)}")
        target = (self.target,) if self.target else ()
        for role, wanted in (("target", target), ("key", self.key), ("entity", self.entity)):
            for name in wanted:
                if name not in names:
                    raise ValueError(f"{role} {name!r} is not a field; fields are {few(names)}")
        if self.constraints and self.kind != "tabular":
            raise ValueError(f"constraints are between columns of a table, this is {self.kind}; remove them")
        try:
            derivations(self.constraints, self.fields, self.conditions)
        except OverflowError:  # a limit times its decimals is no float any more
            raise ValueError(
                "a limit of too many digits; leave out its field's decimals or the limit"
            ) from None
        patterned = [f.name for f in self.fields if isinstance(f, Text) and f.pattern is not None]
        if self.kind == "text" and patterned:
            raise ValueError(f"text {patterned[0]!r} is learnt here, so it takes no pattern")
        return self

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without them the file, and every fingerprint of it, is as it was before there were any."""
        return {k: v for k, v in dump(self).items() if v or k not in ("constraints", "entity")}

    @property
    def about(self) -> tuple[str, ...]:
        """The columns that name whom rows are about; none = every row is an entity of its own."""
        return self.entity or self.key

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fields)

    def field(self, name: str) -> AnyField:
        return next(f for f in self.fields if f.name == name)

    def of_kind(self, *kinds: str) -> tuple[AnyField, ...]:
        return tuple(f for f in self.fields if f.kind in kinds)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The fields a generator is conditioned on: the target, where it is a choice of few."""
        if self.target and self.field(self.target).kind in ("category", "boolean"):
            return (self.target,)
        return ()

    def arrow(self) -> pa.Schema:
        """Arrow schema with this schema, and Hugging Face features for images and audio, as metadata."""
        fields = [pa.field(f.name, f.arrow(), nullable=f.nullable) for f in self.fields]
        media = {f.name: {"_type": f.kind.capitalize()} for f in self.of_kind("image", "audio")}
        metadata = {"genpipe.schema": self.model_dump_json()}
        if media:
            metadata["huggingface"] = json.dumps({"info": {"features": media}})
        return pa.schema(fields, metadata=metadata)

    @classmethod
    def from_arrow(cls, schema: pa.Schema) -> Schema:
        raw = (schema.metadata or {}).get(b"genpipe.schema")
        if raw is None:
            raise DataError(
                "SCHEMA", found="Parquet file without a genpipe schema", expected="a file genpipe wrote"
            )
        return cls.model_validate_json(raw)
