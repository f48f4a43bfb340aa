"""What must hold between the columns of a table: declared in its schema, kept by codecs/tabular/relations.py.

| type | holds for a row where |
|---|---|
| inequality | `low` <= `high` (`strict`: <; a date and a time: their days), or one of the two is missing |
| sum | `total` is the sum of `parts` (of one: it), rounded to the total's decimals, or one is missing |
| product | `total` is `factor` times all `parts`, rounded to its decimals, or one is missing |
| ratio | `rate` is `factor` times `part` / `whole`, to `digits` significant digits, or one is missing |
| logarithm | `column` is `factor` times the natural logarithm of `of`, to `digits`, or one is missing |
| linear | `column` is `factor` times `of` plus `offset`, rounded to its decimals, or one is missing |
| combinations | training showed the values of `columns` together |
| one_to_one | each value of either column has one partner in the other |
| determines | the values of `columns` decide the value of `target` |
| within | training showed the value of `column` together with those of `of` |

In the last four a missing value is a value like any other. Limits of one column are `minimum` and
`maximum` of its field. Each constraint but `combinations` makes one column from others: see derivations.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

TIMES = ("timestamp", "date")
NUMBERS = ("number", "integer", *TIMES)
CHOICES = ("category", "boolean")
SCALARS = (*NUMBERS, *CHOICES)


class _Constraint(BaseModel):
    """reason: why it is there, where ingest found it by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    reason: str = ""

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The reason last; without one, as it was before there were any."""
        told = {k: v for k, v in dump(self).items() if k != "reason"}
        return told | ({"reason": self.reason} if self.reason else {})

    @property
    def columns_by_key(self) -> list[tuple[str, str]]:
        """(key in the file, column) of every column named."""
        out = list[tuple[str, str]]()
        for key, value in self:
            many = [(f"{key}[{i}]", v) for i, v in enumerate(value)] if isinstance(value, tuple) else []
            out += [(key, value)] if isinstance(value, str) and key not in ("type", "reason") else many
        return out

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.columns_by_key)


class Inequality(_Constraint):
    type: Literal["inequality"] = "inequality"
    low: str
    high: str
    strict: bool = False
    days: bool = Field(default=False, exclude_if=lambda days: not days)  # learnt as days, and a time of day

    def __str__(self) -> str:
        return f"{self.low} {'<' if self.strict else '<='} {self.high}"


class Sum(_Constraint):
    type: Literal["sum"] = "sum"
    total: str
    parts: tuple[str, ...] = Field(min_length=1, max_length=100)

    def __str__(self) -> str:
        return f"{self.total} = {' + '.join(self.parts)}"


class Product(_Constraint):
    type: Literal["product"] = "product"
    total: str
    parts: tuple[str, ...] = Field(min_length=2, max_length=5)
    factor: float = Field(default=1.0, gt=-1e12, lt=1e12)

    def __str__(self) -> str:
        return f"{self.total} = {f'{self.factor:g} ' if self.factor != 1 else ''}{' x '.join(self.parts)}"


class Ratio(_Constraint):
    type: Literal["ratio"] = "ratio"
    rate: str
    part: str
    whole: str
    factor: float = Field(default=1.0, gt=-1e12, lt=1e12)
    digits: int = Field(default=15, ge=1, le=15)

    def __str__(self) -> str:
        return f"{self.rate} = {self.factor:g} {self.part} / {self.whole}"


class Logarithm(_Constraint):
    type: Literal["logarithm"] = "logarithm"
    column: str
    of: str
    factor: float = Field(default=1.0, gt=-1e12, lt=1e12)
    digits: int = Field(default=15, ge=1, le=15)

    def __str__(self) -> str:
        return f"{self.column} = {self.factor:g} log {self.of}"


class Linear(_Constraint):
    type: Literal["linear"] = "linear"
    column: str
    of: str
    factor: float = Field(default=1.0, gt=-1e12, lt=1e12)
    offset: float = Field(default=0.0, gt=-1e12, lt=1e12)

    def __str__(self) -> str:
        times = f"{self.factor:.10g} " if self.factor != 1 else ""
        plus = f" {'+' if self.offset > 0 else '-'} {abs(self.offset):.10g}" if self.offset else ""
        return f"{self.column} = {times}{self.of}{plus}"


class Combinations(_Constraint):
    type: Literal["combinations"] = "combinations"
    columns: tuple[str, ...] = Field(min_length=2, max_length=100)

    def __str__(self) -> str:
        return f"combinations of {', '.join(self.columns)}"


class OneToOne(_Constraint):
    type: Literal["one_to_one"] = "one_to_one"
    columns: tuple[str, str]

    def __str__(self) -> str:
        return f"{self.columns[0]} <-> {self.columns[1]}"


class Determines(_Constraint):
    type: Literal["determines"] = "determines"
    columns: tuple[str, ...] = Field(min_length=1)
    target: str

    def __str__(self) -> str:
        return f"{', '.join(self.columns)} -> {self.target}"


class Within(_Constraint):
    type: Literal["within"] = "within"
    column: str
    of: tuple[str, ...] = Field(min_length=1, max_length=100)

    def __str__(self) -> str:
        return f"{self.column} within {', '.join(self.of)}"


AnyConstraint = Annotated[
    Inequality | Sum | Product | Ratio | Logarithm | Linear | Combinations | OneToOne | Determines | Within,
    Field(discriminator="type"),
]
# any number may come out of these; the other types know values of training
Reckoned = Inequality | Sum | Product | Ratio | Logarithm | Linear
TYPES = tuple(c.model_fields["type"].default for c in get_args(get_args(AnyConstraint)[0]))
