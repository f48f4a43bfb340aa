"""One column of a table: its statistics, its tokens, its share of a vector, and the way back.

| class | fields | tokens | vector |
|---|---|---|---|
| Choice (choice.py) | category, boolean | a code per value, by falling frequency | one-hot |
| Scale (numeric.py) | number, integer, times | atoms and quantile bins | normal score, one-hot of modes |
| Fixed | a column with one value, or none | nothing | nothing |
| Placeholder | identifier, text | nothing; unique made-up values | nothing |

A column of more than a thousand codes takes two positions of tokens: the digits of the code (`Learnt`).
What training did not show is encoded as the nearest thing it did: a number beyond the extremes as the
extreme, an unseen choice as the rare ones are if there are any, else as the most frequent one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.identify import made_values
from genpipe.codecs.stored import FixedForm, PlaceholderForm, check_legal
from genpipe.errors import UsageError
from genpipe.fields import AnyField
from genpipe.schema import Schema
from genpipe.spec import Span

WIDEST_HEAD = 1024  # tokens of one position


class Column(ABC):
    """A column as it is: its values need no network, `decode` makes them anew."""

    field: AnyField
    type: ClassVar[str]

    @abstractmethod
    def decode(self, codes: np.ndarray, rng: np.random.Generator) -> pa.Array:
        """Any integer codes -> legal values. Columns that are not learnt only count the codes."""

    @abstractmethod
    def tolerance(self, layout: str) -> float:
        """See Codec.tolerance; times in units of the field, dates in days."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    @abstractmethod
    def from_json(cls, field: AnyField, data: dict[str, Any]) -> Column: ...


class Learnt(Column):
    """A column that takes part in learning. Codes are 0 .. vocabulary-1, missing last.

    shares: of each code in the training split. missing: there is a code for it. ordered: codes are ranks.
    As tokens a code is one position, or, where no head should be as wide as the vocabulary, the digits of a
    two-digit number: code = high * base + low, so that a million values cost two heads of a thousand.
    """

    shares: tuple[float, ...]
    missing: bool
    ordered: ClassVar[bool] = False

    @property
    @abstractmethod
    def vocabulary(self) -> int: ...

    @property
    def digits(self) -> tuple[int, ...]:
        """The vocabulary of each of the column's positions."""
        if self.vocabulary <= WIDEST_HEAD:
            return (self.vocabulary,)
        base = isqrt(self.vocabulary - 1) + 1
        return -(-self.vocabulary // base), base

    @property
    def digit_shares(self) -> tuple[tuple[float, ...], ...]:
        """The shares of each position's tokens in the training split."""
        if len(self.digits) == 1:
            return (self.shares,)
        table = np.zeros(self.digits)
        table.flat[: self.vocabulary] = self.shares
        return rounded(table.sum(1)), rounded(table.sum(0))

    @property
    def usual(self) -> int:
        """The most frequent code."""
        return int(np.argmax(self.shares))

    def split(self, codes: np.ndarray) -> np.ndarray:
        """(B,) codes -> (B, positions) tokens."""
        return codes[:, None] if len(self.digits) == 1 else np.stack(np.divmod(codes, self.digits[1]), 1)

    def join(self, tokens: np.ndarray) -> np.ndarray:
        """Any (B, positions) integers -> (B,) codes. Low digits that no code has fold evenly onto those that
        some code with this high digit has."""
        if len(self.digits) == 1:
            return tokens[:, 0]
        height, base = self.digits
        high, low = np.clip(tokens[:, 0], 0, height - 1), np.clip(tokens[:, 1], 0, base - 1)
        room = self.vocabulary - (height - 1) * base
        found: np.ndarray = high * base + np.where(high == height - 1, low % room, low)
        return found

    @property
    @abstractmethod
    def spans(self) -> tuple[Span, ...]:
        """This column's part of a vector, as if it began at 0."""

    @abstractmethod
    def encode(self, column: pa.Array) -> np.ndarray:
        """(B,) codes."""

    @abstractmethod
    def legal(self, column: pa.Array) -> np.ndarray:
        """(B,) whether each value is one that `decode` can make."""

    @abstractmethod
    def allowed(self) -> list[str]:
        """What is legal, for a person to read."""

    def log_density(self, column: pa.Array) -> np.ndarray:
        """(B,) log of the density with which `decode` makes each value, given its code: per unit of the
        field for real numbers, else of its probability; minus infinity for what it never makes.
        """
        return np.where(self.legal(column), 0.0, -np.inf)

    @abstractmethod
    def encode_vector(self, column: pa.Array) -> np.ndarray:
        """(B, width) float32."""

    @abstractmethod
    def decode_vector(self, x: np.ndarray, rng: np.random.Generator) -> pa.Array: ...


def one_hot(codes: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros((len(codes), size), dtype=np.float32)
    out[np.arange(len(codes)), codes] = 1.0
    return out


def rounded(shares: Sequence[float]) -> tuple[float, ...]:
    """Shares as they are written down: nine digits are more than a training split can tell."""
    return tuple(round(float(share), 9) for share in shares)


def hottest(x: np.ndarray) -> np.ndarray:
    """The choice of each row; NaN never wins against a number."""
    found: np.ndarray = np.nan_to_num(x, nan=-np.inf).argmax(1)
    return found


@dataclass(frozen=True)
class Fixed(Column):
    """Always the same value, or always null: a constant of the data is no secret of a row."""

    type: ClassVar[str] = "fixed"
    field: AnyField
    value: Any

    def decode(self, codes: np.ndarray, rng: np.random.Generator) -> pa.Array:
        kind = self.field.arrow()
        whole = isinstance(self.value, int) and not isinstance(self.value, bool)
        if not whole or pa.types.is_floating(kind):
            return pa.array([self.value], kind).take(pa.array(np.zeros(len(codes), np.int64)))
        one = pa.array([self.value], pa.int64())
        one = one.cast(pa.int32()).cast(kind) if pa.types.is_date32(kind) else one.cast(kind)
        return one.take(pa.array(np.zeros(len(codes), np.int64)))

    def tolerance(self, layout: str) -> float:
        return 0.0

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value}

    @classmethod
    def from_json(cls, field: AnyField, data: dict[str, Any]) -> Fixed:
        made = cls(field, FixedForm.model_validate(data).value)
        check_legal(field, made.decode(np.zeros(1, np.int64), np.random.default_rng(0)))
        return made


@dataclass(frozen=True)
class Placeholder(Column):
    """Unique made-up values of 63 random bits, whatever the block, or legal ones of the field's pattern that
    `Codec.identify` makes unique; a share `missing` of them is null.
    """

    type: ClassVar[str] = "placeholder"
    field: AnyField
    missing: float = 0.0

    def decode(self, codes: np.ndarray, rng: np.random.Generator) -> pa.Array:
        absent = rng.random(len(codes)) < self.missing
        if (made := made_values(self.field, len(codes), rng)) is not None:
            return pc.if_else(pa.array(absent), pa.scalar(None, made.type), made)
        numbers = rng.integers(0, 2**63 - 1, size=len(codes), dtype=np.int64)
        while len(np.unique(numbers)) < len(numbers):
            numbers = rng.integers(0, 2**63 - 1, size=len(codes), dtype=np.int64)
        if pa.types.is_integer(self.field.arrow()):
            return pa.array(numbers, mask=absent)
        names = np.array([f"{self.field.name}-{n:016x}" for n in numbers.tolist()], dtype=object)
        return pa.array(names, pa.string(), mask=absent)

    def tolerance(self, layout: str) -> float:
        return float("inf")

    def to_json(self) -> dict[str, Any]:
        return {"missing": self.missing}

    @classmethod
    def from_json(cls, field: AnyField, data: dict[str, Any]) -> Placeholder:
        made = cls(field, PlaceholderForm.model_validate(data).missing)
        check_legal(field, pa.nulls(int(made.missing > 0), field.arrow()))
        return made


def only_field(schema: Schema, kind: str) -> Any:
    """The one field of `kind` that data of this kind is about; the others must be conditions or fillable."""
    found = schema.of_kind(kind)
    if len(found) != 1:
        raise UsageError(
            "FIELD", found=f"{len(found)} {kind} fields", expected=f"exactly one in {schema.kind} data"
        )
    check_fillable(schema, kind)
    return found[0]


def check_fillable(schema: Schema, kind: str) -> None:
    """Beside its own fields and the target, data of a kind may hold only what `assemble` can make up."""
    for field in schema.fields:
        learnt = field.kind == kind or field.name in schema.conditions
        if not learnt and not field.nullable and field.kind not in ("identifier", "text"):
            raise UsageError(
                "FIELD",
                where=field.name,
                found=f"a {field.kind} field in {schema.kind} data",
                expected=f"{kind}, the target, identifiers or nullable fields",
                fix="make it the target, or drop it",
            )


def assemble(
    schema: Schema, made: dict[str, pa.Array], rows: int, rng: np.random.Generator
) -> pa.RecordBatch:
    """A batch of the ingest schema; fields nobody made are placeholders (identifier, text) or null."""
    columns = []
    for field in schema.fields:
        if field.name in made:
            columns.append(made[field.name])
        elif field.kind in ("identifier", "text"):
            columns.append(Placeholder(field).decode(np.zeros(rows, np.int64), rng))
        else:
            columns.append(pa.nulls(rows, field.arrow()))
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow())
