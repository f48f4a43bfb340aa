"""A table among its kin: everything generation must know of it but the model. Kept in tables.json."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from genpipe.constraints import SCALARS
from genpipe.fields import AnyField, Boolean, Identifier, Integer, Number
from genpipe.schema import Schema


def Unless() -> Any:
    """Of a field that older models do not have: it is written only where it says something."""
    return Field(exclude_if=lambda value: not value)


def lacks(what: str) -> str:
    """The flat column that says whether a parent, or what is referred to, is missing."""
    return f"{what} is missing"


class Order(BaseModel):
    """The column that orders a parent's rows. low, high: of the data, in units of storage. gap: the column of
    differences learnt in its place. widest: the greatest of them that is no parent's first."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    field: AnyField
    gap: str
    low: float | int
    high: float | int
    widest: float | int = 0

    def ticks(self, column: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Values as whole numbers of the storage unit, or as floats; missing ones as `low`."""
        if self.field.kind == "number":
            return column.fill_null(self.low).to_numpy()
        whole = column.cast(pa.int32()) if self.field.kind == "date" else column
        return whole.cast(pa.int64()).fill_null(self.low).to_numpy()

    def rounded(self, ticks: np.ndarray) -> np.ndarray:
        decimals = getattr(self.field, "decimals", None)
        return ticks if decimals is None else ticks.round(decimals)

    def values(self, ticks: np.ndarray) -> pa.Array:
        """The column again, within the limits of the data; what rises stays in order."""
        ticks = np.clip(ticks, self.low, self.high)
        if isinstance(self.field, Number):
            return pa.array(self.rounded(ticks))
        whole = pa.array(ticks.astype(np.int64))
        return (whole.cast(pa.int32()) if self.field.kind == "date" else whole).cast(self.field.arrow())


Shares = tuple[tuple[str, float], ...]


class Reference(BaseModel):
    """A column that names rows of another table. fields: what is learnt of these, under their flat names.
    likeness: those by which a row is found that is like a description, the most telling first, each with how
    much of it the rest of the row decides, from 0 to 1. distinct: no two rows of a parent name the same.
    another: no row names its own parent. columns: of a reference of several, which `column` lists.

    levels: of a reference to the own table, how many rows have 0, 1, .. above them (levels.py). itself: those
    of level 0 name themselves, not nothing. bounds: columns whose value is never above (-1) or never below
    (1) that of the row named. inherited: a column that is mostly that of the row named, and for levels 1, 2,
    .. the shares of its values among those.

    late: chosen when all rows are there (late.py): a share `near` of them among the rows of the own family,
    and `before` the row itself alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    column: str
    table: str
    nullable: bool
    fields: tuple[AnyField, ...]
    likeness: tuple[tuple[str, float], ...] = ()
    distinct: bool = False
    another: bool = False
    columns: Annotated[tuple[str, ...], Unless()] = ()
    levels: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**53)], ...], Unless()] = ()
    bounds: Annotated[tuple[tuple[str, Literal[-1, 1]], ...], Unless()] = ()
    inherited: Annotated[tuple[str, tuple[Shares, ...]] | None, Unless()] = None
    itself: Annotated[bool, Unless()] = False
    late: Annotated[bool, Unless()] = False
    near: Annotated[float, Unless()] = 0.0
    before: Annotated[bool, Unless()] = False

    @property
    def names(self) -> tuple[str, ...]:
        """The columns in which it stands."""
        return self.columns or (self.column,)

    @property
    def absent(self) -> str:
        """The flat column that says whether there is none."""
        return lacks(self.column)

    @property
    def level(self) -> str:
        """The flat column that says how many rows there are above."""
        return f"level by {self.column}"

    @property
    def flat(self) -> tuple[AnyField, ...]:
        """The columns of a flat row that describe it."""
        level = (Integer(name=self.level, minimum=0),) if self.levels else ()
        return (*level, *((Boolean(name=self.absent),) if self.nullable else ()), *self.fields)


class Node(BaseModel):
    """A table among its kin: everything generation must know of it but the model.

    schema_: of the output; None for entities that have no table. key: its columns; those that are not in
    `link`, the columns of the parent's key, are made. numbers: of these the columns that number the rows of a
    parent, and where they begin. own: fields of a row, as they are learnt. rows: of the data. untold: fields
    of which the next row and a row's children are told nothing. parentless: rows that have no parent; None
    where every row has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    parent: str | None
    schema_: Schema | None
    key: tuple[Identifier, ...]
    link: tuple[str, ...]
    order: Order | None
    own: tuple[AnyField, ...]
    children: tuple[str, ...]
    rows: int = Field(ge=0, lt=2**53)
    references: tuple[Reference, ...] = ()
    numbers: dict[str, int] = Field(default_factory=dict)
    untold: Annotated[tuple[str, ...], Unless()] = ()
    parentless: Annotated[int | None, Field(ge=0, lt=2**53, exclude_if=lambda rows: rows is None)] = None

    @field_validator("key", "link", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """Models trained before keys had several columns have one or none."""
        return value if isinstance(value, list | tuple) else () if value is None else (value,)

    @property
    def learnt(self) -> tuple[AnyField, ...]:
        """The own fields a network learns; identifiers and free text are made up."""
        return tuple(f for f in self.own if f.kind in SCALARS)

    @property
    def single(self) -> bool:
        """Whether a parent has one such row at most."""
        return bool(self.parent and self.key) and {f.name for f in self.key} == {*self.link}

    @property
    def tree(self) -> Reference | None:
        """The reference to the own table by which the rows are made, level by level."""
        return next((r for r in self.references if r.levels), None)

    @property
    def matched(self) -> tuple[Reference, ...]:
        """References that are chosen as rows are drawn."""
        return tuple(r for r in self.references if not r.levels and not r.late)

    @property
    def late(self) -> tuple[Reference, ...]:
        """References that are chosen when all rows are there."""
        return tuple(r for r in self.references if r.late)

    @property
    def drawn(self) -> tuple[AnyField, ...]:
        """What is kept of a row that was drawn: what it is, and what it is to refer to."""
        return (*self.own, *(f for r in self.late for f in r.flat))

    @property
    def tells(self) -> tuple[AnyField, ...]:
        """What the next row, and a row's children, are told of it."""
        known = (f for f in self.learnt if f.name not in self.untold)
        return (*((self.order.field,) if self.order else ()), *known)

    @property
    def previous(self) -> dict[str, AnyField]:
        """Flat column -> what it holds of the row before."""
        return {f"previous {f.name}": f for f in self.tells} if self.link else {}


def naming(table: str, column: str) -> str:
    """The column that counts how often a row is referred to from there."""
    return f"named by {table}.{column}"
