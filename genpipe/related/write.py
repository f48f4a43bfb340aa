"""The rows of related tables, numbered over all jobs, given their keys and written in parts.

Of a table that others refer to the rows are also written as these describe them, with their key, where jobs
of later rounds find them until all is done: <store>/referred/<name>-<request>/<table>/, or in the output,
<output>/.referred-<request>/<table>/, a Dataset like any other. So are, in `late-rows/`, the rows of which
some references are chosen when all tables are there (late.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.codecs.identify import capacity, identify
from genpipe.dataset import Dataset, Part, new_attempt, write_part
from genpipe.delivery import deliver, working
from genpipe.errors import UsageError
from genpipe.fields import Integer
from genpipe.related.flatten import handed_fields, joined, numbered
from genpipe.related.nodes import Node
from genpipe.related.rows import PART_ROWS
from genpipe.related.shelf import KIN, key_columns
from genpipe.related.train import TrainedTables
from genpipe.schema import Schema
from genpipe.seeds import derive


@dataclass
class Rows:
    """Rows of one table in the order of their parents. own: what is learnt, and the keys of what is referred
    to. parent: (N,) the row of the parent, their own without one. told: what children, and those who refer
    to them, are told. named: (N,) of a table that refers to itself the row each names, itself without one.
    """

    own: pa.Table
    parent: np.ndarray
    told: pa.Table
    named: np.ndarray | None = None


Made = dict[str, Rows]  # table -> its rows


class Parts:
    """The parts of one dataset, written as they fill."""

    def __init__(
        self,
        uri: str,
        name: str,
        schema: Schema,
        lineage: dict[str, str],
        limit: int = PART_ROWS,
        work: str = "",
    ) -> None:
        self.uri, self.name, self.schema, self.lineage, self.limit = uri, name, schema, lineage, limit
        self.attempt, self.held, self.parts = new_attempt(), list[pa.Table](), list[Part]()
        self.work = work or working(uri, self.attempt)

    def add(self, rows: pa.Table) -> None:
        while rows.num_rows:
            room = self.limit - sum(t.num_rows for t in self.held)
            self.held.append(rows.slice(0, room))
            if rows.num_rows >= room:
                self._flush()
            rows = rows.slice(room)

    def _flush(self) -> None:
        part = write_part(
            self.work,
            pa.concat_tables(self.held).combine_chunks(),
            split="generated",
            name=f"generated-{len(self.parts):05d}",
            attempt=self.attempt,
            lineage=self.lineage,
        )
        self.parts.append(part)
        self.held = []

    def close(self, origin: Mapping[str, Any]) -> Dataset:
        if self.held:
            self._flush()
        name = store.plain_name(self.name)
        about = dict(origin)
        return deliver(self.work, self.uri, name=name, schema=self.schema, parts=self.parts, origin=about)


class Writer:
    """Of the tables of one round. Keys depend on a row's number, so tables of earlier rounds, whose rows a
    job draws again to have their children, get the keys they had.
    """

    def __init__(
        self,
        trained: TrainedTables,
        round_: int,
        output: str,
        inner: str,
        seed: int,
        lineage: dict[str, str],
        limit: int = PART_ROWS,
    ) -> None:
        self.trained, self.seed, self.lineage = trained, seed, lineage
        self.rows, self.alone = Counter[str](), 0
        self.nodes = {n.name: n for n in trained.nodes}
        self.kin = {r.table for n in trained.nodes for r in n.late if r.near}
        mine = [n for n in trained.nodes if trained.rounds[n.name] == round_]

        def parts(folder: str, node: Node, schema: Schema, word: str = "") -> Parts:
            uri, name = store.join(folder, node.name), f"{trained.name}-{node.name}{word}"
            return Parts(uri, name, schema, lineage | {"table": node.name}, PART_ROWS if word else limit)

        late = store.join(inner, "late-rows")
        self.parts = {n.name: parts(output, n, n.schema_) for n in mine if n.schema_ and not n.late}
        self.late = {n.name: parts(late, n, _late_schema(n), "-late") for n in mine if n.late}
        self.described = {
            n.name: parts(inner, n, _described_schema(self.nodes, n, n.name in self.kin), "-referred")
            for n in mine
            if n.name in trained.referred
        }

    def add(self, made: Made) -> None:
        keys, kin = dict[str, pa.Table](), dict[str, np.ndarray]()
        for node in self.trained.nodes:
            if node.name not in made:
                continue
            rows, name = made[node.name], node.name
            above, kin[name] = None, self.rows[name] + np.arange(rows.own.num_rows)
            if node.parent:
                none = rows.parent >= keys[node.parent].num_rows
                above = keys[node.parent].take(pa.array(rows.parent, mask=none))
                self.alone += len(none)
                family = kin[node.parent][np.where(none, 0, rows.parent)]
                kin[name] = np.where(none, -self.alone + np.arange(len(none)), family)
            batch = with_keys(node, rows, above, self.rows[name], derive(self.seed, name))
            self.rows[name] += batch.num_rows
            keys[name] = pa.table({f.name: batch.column(f.name) for f in node.key})
            table = pa.Table.from_batches([batch])
            if name in self.parts:
                self.parts[name].add(table)
            if name in self.late:
                parts = self.late[name]
                more = {f.name: rows.own[f.name] for r in node.late for f in r.flat}
                whole = joined(table, pa.table(more), pa.table({KIN: kin[name]}))
                parts.add(whole.select(parts.schema.names).cast(parts.schema.arrow()))
            if name in self.described:
                parts, columns = self.described[name], key_columns(len(node.key))
                table = joined(keys[name].rename_columns(columns), rows.told, pa.table({KIN: kin[name]}))
                parts.add(table.select(parts.schema.names).cast(parts.schema.arrow()))

    def close(self) -> tuple[dict[str, Dataset], dict[str, str], dict[str, str]]:
        """(the datasets by table, the URI of the described rows of those that others refer to, that of the
        rows of those that lack references).
        """
        described = {name: parts.close(self.lineage).uri for name, parts in self.described.items()}
        late = {name: parts.close(self.lineage).uri for name, parts in self.late.items()}
        return {name: parts.close(self.lineage) for name, parts in self.parts.items()}, described, late


def _described_schema(nodes: dict[str, Node], node: Node, kin: bool) -> Schema:
    names = key_columns(len(node.key))
    key = (f.model_copy(update={"name": name}) for name, f in zip(names, node.key, strict=True))
    fields = (f.model_copy(update={"nullable": True}) for f in handed_fields(nodes, node))
    family = (Integer(name=KIN),) if kin else ()
    return Schema(kind="tabular", fields=(*key, *fields, *family))


def _late_schema(node: Node) -> Schema:
    """Of the rows of a table that lacks references: with what these are to be like, and their family."""
    assert node.schema_ is not None
    late = {name for r in node.late for name in r.names}
    fields = (f.model_copy(update={"nullable": True}) if f.name in late else f for f in node.schema_.fields)
    flat = (f for r in node.late for f in r.flat)
    return Schema(kind="tabular", fields=(*fields, *flat, Integer(name=KIN)))


def with_keys(node: Node, rows: Rows, above: pa.Table | None, start: int, seed: int) -> pa.RecordBatch:
    """Rows start, start + 1, .. of a table as the user has them, with keys. above: the parents' keys."""
    schema, own = node.schema_ or Schema(kind="tabular", fields=node.key), rows.own
    count = len(rows.parent)
    named = [name for r in node.references for name in r.names]
    made = [f for f in node.key if f.name not in (*node.link, *node.numbers, *named)]
    for field in made:
        if (most := capacity(field)) is not None and most < start + count:
            raise UsageError(
                "KEYS",
                where=f"{node.name}.{field.name}",
                found=f"{start + count} rows, but only {most} different keys of this pattern",
                expected=f"at most {most} rows",
                fix="ask for fewer rows, or train on a schema with a longer pattern",
            )
    columns = {name: own[name].combine_chunks() for name in own.column_names}
    columns |= dict(zip(node.link, above.itercolumns() if above is not None else (), strict=True))
    for field in made:
        blank = pa.scalar(0 if field.storage == "integer" else "", field.arrow())
        columns[field.name] = pa.repeat(blank, count)
    later = [name for r in node.references if r.late or r.levels for name in r.names]
    columns |= {name: pa.nulls(count, schema.field(name).arrow()) for name in later}
    place = numbered(rows.parent)
    columns |= {name: pa.array(place - 1 + first) for name, first in node.numbers.items()}
    arrays = [_one(columns[f.name]) for f in schema.fields]
    batch = identify(schema, pa.RecordBatch.from_arrays(arrays, schema=schema.arrow()), start, seed)
    return _in_tree(node, batch, rows.named) if rows.named is not None else batch


def _in_tree(node: Node, batch: pa.RecordBatch, named: np.ndarray) -> pa.RecordBatch:
    """With the keys of the rows of the own table that rows name."""
    tree = node.tree
    assert tree is not None
    none = (named == np.arange(len(named))) & (not tree.itself)
    for column, key in zip(tree.names, node.key, strict=True):
        at = batch.schema.get_field_index(column)
        keys = batch.column(key.name).take(pa.array(named, mask=none)).cast(batch.schema.field(at).type)
        batch = batch.set_column(at, batch.schema.field(at), keys)
    return batch


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
