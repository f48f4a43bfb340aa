"""Related tables as flat ones: rows that know their parents become rows an ordinary table model learns.

| columns of a flat row, in this order | of |
|---|---|
| `customers.city`, .. | the row's parents, the topmost first |
| `customers is missing` | whether the row has a parent, where some have none |
| `position` | the row among its parent's: 1, 2, .. |
| `previous amount`, .. | the row before it of the same parent; missing for the first |
| `level by boss`, `boss.salary`, .. | the row of its own table that it names, see levels.py |
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

import numpy as np
import pyarrow as pa

from genpipe.constraints import SCALARS
from genpipe.errors import UsageError
from genpipe.fields import AnyField, Boolean, Identifier, Integer
from genpipe.related.nodes import Node, Reference, lacks
from genpipe.schema import Schema

FAMILY = "family of rows"  # whom the rows are about, so that a parent's values count once for all children
FILLER = "nothing varies"  # a column for flat tables without any other: a network needs something to learn


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


def told_by(node: Node, handed: pa.Table, above: np.ndarray, parents: int) -> pa.Table:
    """What rows are told of their parents. handed: what each of so many hands down; above: (N,) the parent of
    each row, a number beyond them for none.
    """
    none = above >= parents
    told = picked(handed, pa.array(above, mask=none))
    return told if node.parentless is None else joined(told, pa.table({lacks(str(node.parent)): none}))


def picked(table: pa.Table, rows: pa.Array) -> pa.Table:
    """Rows by number, also of a table without columns."""
    return pa.table({name: table[name].take(rows) for name in table.column_names})


def gaps(ticks: np.ndarray, first: np.ndarray, low: float) -> np.ndarray:
    """Of ticks in order the difference to the one before; of the first ones, to the least."""
    before = np.where(first, low, np.concatenate([ticks[:1], ticks[:-1]]))
    return ticks - before


def firsts(parent: np.ndarray) -> np.ndarray:
    """(N,) whether a row, in the order of parents, is its parent's first."""
    return np.concatenate([np.ones(min(1, len(parent)), bool), parent[1:] != parent[:-1]])


def told_fields(nodes: dict[str, Node], node: Node) -> tuple[AnyField, ...]:
    """The fields of all parents in a flat row, the topmost first."""
    handed = handed_fields(nodes, nodes[node.parent]) if node.parent else ()
    if node.parentless is None:
        return handed
    told = (f.model_copy(update={"nullable": True}) for f in handed)
    return (*told, Boolean(name=lacks(str(node.parent))))


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
