"""Tables that belong together, read and tied by their keys: parents before children, rows in order.

Key columns of all tables and one table at a time are held in memory, and the flat forms of its kin.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import LEAST
from genpipe.constraints import NUMBERS
from genpipe.dataset import Dataset
from genpipe.errors import DataError
from genpipe.fields import AnyField, Integer
from genpipe.keys import holdout_mask, row_keys
from genpipe.related.flatten import Related, Root, picked, told_by
from genpipe.related.foreign_keys import Links, column_of, keys_of, links_of
from genpipe.related.keys import check_parts, check_roles, identifier, key_of, output
from genpipe.related.late_rows import with_late
from genpipe.related.levels import in_levels
from genpipe.related.match_columns import with_likeness
from genpipe.related.named import alone_from, referred
from genpipe.related.nodes import Node, Order, naming
from genpipe.related.order import ordered
from genpipe.related.spec import TableSpec, TablesSpec
from genpipe.schema import Schema

FEWEST = 20


def relate(
    spec: TablesSpec, data: dict[str, Dataset], roots: Mapping[str, Root] | None = None
) -> list[Related]:
    """Every table and every entity, each after its parent and those it refers to. DataError where rows and
    keys do not agree.

    roots: what is known of tables without parents already.

    What a row is told of a row it refers to, it is told of it whatever split that is in: a family is held out
    whole, and a row of another table it names may be learnt from.
    """
    keys = {name: keys_of(spec, name, data[name]) for name, t in spec.tables.items() if t.key}
    out, links = dict[str, Related](), dict[str, Links]()
    names = list(TopologicalSorter(spec.needs()).static_order())
    for name in names:
        links[name] = links_of(spec, name, data[name], keys, links)
    for name in names:
        table, counts = spec.tables[name], dict[str, np.ndarray]()
        for c, t in spec.tables.items():
            if t.parent == name:
                counts[f"children of {c}"] = _times(links[c].parent, data[name].rows())
        for c, t in spec.tables.items():
            for column in (k for k, other in t.references.items() if other == name):
                counts[naming(c, column)] = _times(links[c].named[column], data[name].rows())
        if table.entity:
            above = _entities(spec, name, data[name], links[name])
            out[above.node.name] = above
            table = table.model_copy(update={"parent": above.node.name})
        parent = out[table.parent] if table.parent else None
        rows = _sorted(spec, name, data[name], links[name], parent)
        made = _related(spec, name, data[name], counts, links[name], rows, out, parent)
        out[name] = in_levels(spec, name, made, links[name]) if parent is None else made
        if root := (roots or {}).get(name):
            out[name].held = root.held
            out[name].node = out[name].node.model_copy(update={"untold": root.untold})
    for name in names:
        out[name] = with_late(spec, name, links[name], out, data[name].schema)
    for related in out.values():
        related.node = with_likeness(related)
    return list(out.values())


def _times(rows: np.ndarray, count: int) -> np.ndarray:
    """(count,) how often each row is named."""
    return np.bincount(rows[rows >= 0], minlength=count)


def _entities(spec: TablesSpec, name: str, dataset: Dataset, links: Links) -> Related:
    """The entities of a table of events, as a parent table without columns."""
    table = spec.tables[name]
    counts = np.bincount(links.parent, minlength=len(links.names))
    own = pa.table({f"children of {name}": counts})
    node = Node(
        name=f"{table.entity} of {name}",
        parent=None,
        schema_=None,
        key=(identifier(str(table.entity), dataset.schema.field(str(table.entity)), made=True),),
        link=(),
        order=None,
        own=(Integer(name=f"children of {name}", minimum=0),),
        children=(name,),
        rows=len(counts),
    )
    return _top(spec, node, own, links.names, np.arange(node.rows), pa.table({}))


def _held(spec: TablesSpec, keys: pa.Array) -> np.ndarray:
    return holdout_mask(row_keys(pa.RecordBatch.from_arrays([keys], names=["key"])), spec.holdout)


def _top(
    spec: TablesSpec, node: Node, own: pa.Table, keys: pa.Array, place: np.ndarray, described: pa.Table
) -> Related:
    """Rows without parents, each the beginning of a family."""
    if node.rows < FEWEST:
        raise DataError(
            "FEWROWS",
            where=node.name,
            found=f"{node.rows} rows or entities",
            expected=f"at least {FEWEST}: a model of so few would repeat them",
            fix="add data; or leave the table out, and what refers to it is learnt as a choice",
        )
    held, rows = _held(spec, keys), np.arange(node.rows)
    return Related(node, own, np.zeros(0, np.int64), held, pa.table({}), place, rows, described)


def _sorted(
    spec: TablesSpec, name: str, dataset: Dataset, links: Links, parent: Related | None
) -> tuple[np.ndarray, np.ndarray]:
    """Which of `links.rows` come one after the other, in the order of their parents and among themselves, and
    the parent of each: of those without one, the last, a number beyond the parents.
    """
    if parent is None:
        return np.arange(len(links.rows)), np.zeros(0, np.int64)
    table, none = spec.tables[name], links.parent < 0
    above = np.where(none, parent.node.rows + np.cumsum(none) - 1, parent.place[links.parent])
    if not table.order_by:
        at = above.argsort(kind="stable")
        return at, above[at]
    column_of(spec, name, dataset, "order_by", table.order_by)
    field = dataset.schema.field(table.order_by)
    if field.kind not in NUMBERS:
        raise DataError(
            "ORDER",
            where=f"tables.{name}.order_by",
            found=f"{field.name!r} is a column of {field.kind} ({field.reason})",
            expected="dates, times or numbers",
            fix="name another column, or correct its kind in a schema file",
        )
    ticks = _ticks(dataset, field)[links.rows]
    at = np.lexsort((ticks, above))
    return at, above[at]


def _ticks(dataset: Dataset, field: AnyField) -> np.ndarray:
    return Order(field=field, gap="", low=0, high=0).ticks(dataset.table("train")[field.name])


def _related(
    spec: TablesSpec,
    name: str,
    dataset: Dataset,
    counts: dict[str, np.ndarray],
    links: Links,
    rows: tuple[np.ndarray, np.ndarray],
    others: dict[str, Related],
    parent: Related | None,
) -> Related:
    """A table with its place among the others."""
    table, schema, data = spec.tables[name], dataset.schema, dataset.table("train")
    order_of, above = rows
    at = links.rows[order_of]
    check_roles(table, name, schema)
    order, swap = None, dict[str, tuple[AnyField, pa.Array]]()
    data = picked(data, pa.array(at))
    none, family = _families(parent, above, len(at), len(others))
    if (name_ := table.order_by) and name_ in data.column_names:
        order, column, learnt = ordered(schema.field(name_), data[name_], above, family)
        data = data.set_column(data.column_names.index(name_), name_, column)
        swap[name_] = learnt
    roles = (*table.keys, *table.link, *table.naming)
    own = [swap.get(f.name, (f, data[f.name])) for f in schema.fields if f.name not in roles]
    own += [(Integer(name=n, minimum=0), pa.array(number[at])) for n, number in counts.items()]
    top = parent.node if parent else None
    numbers = _numbers(table, schema, data)
    check_parts(table, name, data, numbers, above)
    nodes = {n: r.node for n, r in others.items()}
    key = key_of(table, schema, numbers, nodes, top)
    references, found = referred(name, table, links, order_of, family, others)
    node = Node(
        name=name,
        parent=top.name if top else None,
        schema_=output(table, schema, key, nodes, top, lonely=bool(none.any())),
        key=key,
        link=table.link,
        order=order,
        own=tuple(f for f, _ in own),
        children=tuple(c for c, t in spec.tables.items() if t.parent == name),
        rows=len(at),
        references=references,
        numbers=numbers,
        parentless=_parentless(none),
    )
    columns = pa.table({f.name: c for f, c in own})
    if order:
        columns = columns.append_column(order.field.name, data[order.field.name])
    place = np.full(dataset.rows(), -1)
    place[at] = np.arange(len(at))
    if parent and not none.any():
        told = told_by(node, parent.handed_down(), above, parent.node.rows)
        return Related(node, columns, above, parent.held[above], told, place, family, found)
    keys = keys_of(spec, name, dataset).take(pa.array(at)) if table.key else _whole(data)
    if parent is None:
        return _top(spec, node, columns, keys, place, found)
    held = np.where(none, _held(spec, keys), parent.held[np.where(none, 0, above)])
    told = told_by(node, parent.handed_down(), above, parent.node.rows)
    return Related(node, columns, above, held, told, place, family, found)


def _families(
    parent: Related | None, above: np.ndarray, rows: int, table: int
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) whether a row has no parent, and the family of each: its own without one. table: its number."""
    none, own = np.zeros(rows, bool), np.arange(rows)
    if parent is None:
        return none, own
    none = above >= parent.node.rows
    return none, np.where(none, alone_from(table) + own, parent.family[np.where(none, 0, above)])


def _parentless(none: np.ndarray) -> int | None:
    """How many rows have no parent, as far as it may be told: of fewer than `LEAST` it is not."""
    count = int(none.sum())
    return (count if count >= LEAST else 0) if count else None


def _whole(data: pa.Table) -> pa.Array:
    """A key for rows that have none: their content, as ingest splits such rows."""
    return pa.array(row_keys(data.combine_chunks().to_batches()[0]).astype(str))


def _numbers(table: TableSpec, schema: Schema, data: pa.Table) -> dict[str, int]:
    """The whole numbers of a key that number the rows of a parent, and where they begin."""
    if not {*table.link} & {*table.keys} or not {*table.link} <= {*table.keys}:
        return {}
    own = [c for c in table.keys if c not in (*table.link, *table.naming)]
    whole = [c for c in own if schema.field(c).kind == "integer"]
    return {c: pc.min(data[c]).as_py() for c in whole}
