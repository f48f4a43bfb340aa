"""Related tables as flat ones: rows that know their parents become rows an ordinary table model learns.

| columns of a flat row, in this order | of |
|---|---|
| `customers.city`, .. | the row's parents, the topmost first |
| `position` | the row among its parent's: 1, 2, .. |
| `previous amount`, .. | the row before it of the same parent; missing for the first |
| `product is missing` | whether a reference to another table is, where some are |
| `product.products.price`, .. | the row that is referred to and its parents, as a child of it would be told |
| `amount`, .. | the row itself; in place of `order_by` the difference to the row before, or to the least |
| `children of items`, .. | how many rows each child table has for it |
| `named by items.product`, .. | how many rows of other tables refer to it |
| `family` | the row without a parent it descends from: the entity all of its rows are about; not learnt |

A model that draws columns left to right (families/base.py, `PartialConditioning`) is given all but the last
three groups. Which row is referred to it draws first, as a description; a generated row like it is chosen
(match.py), and the rest of the row is drawn given what that one really is.
Autoregression over tables in the order of their foreign keys is the method of Gueye, Attabi & Dumas, "Row
Conditional-TGAN for generating synthetic relational databases" (2023), with counts learnt as columns and the
row before added.

"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from genpipe.constraints import SCALARS
from genpipe.errors import UsageError
from genpipe.fields import AnyField, Boolean, Identifier, Integer, Number
from genpipe.schema import Schema

FAMILY = "family of rows"  # whom the rows are about, so that a parent's values count once for all children
FILLER = "nothing varies"  # a column for flat tables without any other: a network needs something to learn


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


class Reference(BaseModel):
    """A column that names rows of another table. fields: what is learnt of these, under their flat names.
    likeness: those by which a row is found that is like a description, the most telling first, each with how
    much of it the rest of the row decides, from 0 to 1. distinct: no two rows of a parent name the same.
    another: no row names its own parent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    column: str
    table: str
    nullable: bool
    fields: tuple[AnyField, ...]
    likeness: tuple[tuple[str, float], ...] = ()
    distinct: bool = False
    another: bool = False

    @property
    def absent(self) -> str:
        """The flat column that says whether there is none."""
        return f"{self.column} is missing"

    @property
    def flat(self) -> tuple[AnyField, ...]:
        """The columns of a flat row that describe it."""
        return (*((Boolean(name=self.absent),) if self.nullable else ()), *self.fields)


class Node(BaseModel):
    """A table among its kin: everything generation must know of it but the model.

    schema_: of the output; None for entities that have no table. key: its columns; those that are not in
    `link`, the columns of the parent's key, are made. numbers: of these the columns that number the rows of a
    parent, and where they begin. own: fields of a row, as they are learnt. rows: of the data. untold: fields
    of which the next row and a row's children are told nothing.
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
    untold: Annotated[tuple[str, ...], Field(exclude_if=lambda names: not names)] = ()

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
    def tells(self) -> tuple[AnyField, ...]:
        """What the next row, and a row's children, are told of it."""
        known = (f for f in self.learnt if f.name not in self.untold)
        return (*((self.order.field,) if self.order else ()), *known)

    @property
    def previous(self) -> dict[str, AnyField]:
        """Flat column -> what it holds of the row before."""
        return {f"previous {f.name}": f for f in self.tells} if self.link else {}


@dataclass(frozen=True)
class Root:
    """Of a table without parents. held: (rows,) whether each is held out. untold: see `Node`."""

    held: np.ndarray
    untold: tuple[str, ...]


@dataclass
class Related:
    """Rows of a table in the order of their parents and then of each other.

    own: (N rows) columns of `node.own`, and the one they are ordered by. parent, held: (N,) the row
    of the parent, and whether the family is held out. told: columns of all parents. place: the row here of
    each row of the source, -1 where it was dropped. family: (N,) the row without a parent it descends from.
    described: columns of the rows it refers to.
    """

    node: Node
    own: pa.Table
    parent: np.ndarray
    held: np.ndarray
    told: pa.Table
    place: np.ndarray
    family: np.ndarray
    described: pa.Table

    def handed_down(self) -> pa.Table:
        """What a child of each row is told."""
        return handed_down(self.node, self.told, self.own)


def handed_down(node: Node, told: pa.Table, own: pa.Table) -> pa.Table:
    """What the children of rows are told: all that these were, and the rows themselves."""
    return joined(told, pa.table({f"{node.name}.{f.name}": own[f.name] for f in node.tells}))


def joined(*tables: pa.Table) -> pa.Table:
    """Tables of equal length side by side."""
    return pa.table({name: table[name] for table in tables for name in table.column_names})


def picked(table: pa.Table, rows: pa.Array) -> pa.Table:
    """Rows by number, also of a table without columns."""
    return pa.table({name: table[name].take(rows) for name in table.column_names})


def naming(table: str, column: str) -> str:
    """The column that counts how often a row is referred to from there."""
    return f"named by {table}.{column}"


def gaps(ticks: np.ndarray, first: np.ndarray, low: float) -> np.ndarray:
    """Of ticks in order the difference to the one before; of the first ones, to the least."""
    before = np.where(first, low, np.concatenate([ticks[:1], ticks[:-1]]))
    return ticks - before


def firsts(parent: np.ndarray) -> np.ndarray:
    """(N,) whether a row, in the order of parents, is its parent's first."""
    return np.concatenate([np.ones(min(1, len(parent)), bool), parent[1:] != parent[:-1]])


def told_fields(nodes: dict[str, Node], node: Node) -> tuple[AnyField, ...]:
    """The fields of all parents in a flat row, the topmost first."""
    return handed_fields(nodes, nodes[node.parent]) if node.parent else ()


def handed_fields(nodes: dict[str, Node], node: Node) -> tuple[AnyField, ...]:
    """The fields of what the children of a row are told."""
    mine = (f.model_copy(update={"name": f"{node.name}.{f.name}"}) for f in node.tells)
    return (*told_fields(nodes, node), *mine)


def described(reference: Reference, handed: pa.Table, rows: pa.Array) -> pa.Table:
    """The flat columns of what is referred to. handed: what children of each row of that table are told;
    rows: (N,) the row of it, missing where there is none.
    """
    found = picked(handed, rows).rename_columns([f"{reference.column}.{n}" for n in handed.column_names])
    return joined(pa.table({reference.absent: rows.is_null()}), found) if reference.nullable else found


def flat_schema(nodes: dict[str, Node], node: Node) -> Schema:
    """The columns of a flat row."""
    before = [
        f.model_copy(update={"name": name, "nullable": True, "reason": ""})
        for name, f in node.previous.items()
    ]
    position = [Integer(name="position", minimum=1)] if node.link else []
    constraints = node.schema_.constraints if node.schema_ else ()
    referred = [f for r in node.references for f in r.flat]
    family = [Identifier(name=FAMILY, storage="integer")] if node.link else []
    fields = (*told_fields(nodes, node), *position, *before, *referred, *node.own, *family)
    names = [f.name for f in fields]
    if twice := sorted({n for n in names if names.count(n) > 1} | {FILLER} & set(names)):
        raise UsageError(
            "NAME",
            where=f"tables.{node.name}",
            found=f"a column named {twice[0]!r}",
            expected="another name: so is one that is made to learn from",
            fix="rename the column",
        )
    entity = tuple(f.name for f in family)
    return Schema(kind="tabular", fields=fields, entity=entity, constraints=constraints)


def flat_rows(related: Related) -> pa.Table:
    """The flat rows; see the module docstring."""
    node = related.node
    if not node.link:
        return joined(related.described, related.own)
    rows, first = np.arange(len(related.parent)), firsts(related.parent)
    position = numbered(related.parent)
    before = related.own.select([f.name for f in node.tells])
    shifted = picked(before, pa.array(rows - 1, mask=first)).rename_columns(list(node.previous))
    own = related.own.select([f.name for f in node.own])
    family = pa.table({FAMILY: related.family.astype(np.int64)})
    return joined(related.told, pa.table({"position": position}), shifted, related.described, own, family)


def numbered(parent: np.ndarray) -> np.ndarray:
    """(N,) the place 1, 2, .. of each row, in the order of parents, among its parent's."""
    rows = np.arange(len(parent))
    return rows - np.maximum.accumulate(np.where(firsts(parent), rows, 0)) + 1


def filled(flat: pa.Table, schema: Schema) -> tuple[pa.Table, Schema]:
    """With a column to learn, where no other has two values."""
    names = [f.name for f in schema.fields if f.kind in SCALARS]
    if any(len(flat[name].unique()) > 1 for name in names):
        return flat, schema
    coin = pa.array(np.arange(flat.num_rows) % 2 == 0)
    fields = (*schema.fields, Boolean(name=FILLER))
    return flat.append_column(FILLER, coin), Schema(kind="tabular", fields=fields, entity=schema.entity)
