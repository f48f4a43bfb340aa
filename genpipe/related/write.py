"""The rows of related tables, numbered over all jobs, given their keys and written in parts.

Of a table that others refer to the rows are also written as these describe them, with their key, where jobs
of later rounds find them until all is done: <store>/referred/<name>-<request>/<table>/, or in the output,
<output>/.referred-<request>/<table>/, a Dataset like any other.
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
from genpipe.related.flatten import Node, handed_fields, joined, numbered
from genpipe.related.match import KEY
from genpipe.related.train import PART_ROWS, TrainedTables
from genpipe.schema import Schema
from genpipe.seeds import derive


@dataclass
class Rows:
    """Rows of one table in the order of their parents. own: what is learnt, and the keys of what is referred
    to. parent: (N,) the row of the parent, their own without one. told: what children, and those who refer
    to them, are told.
    """

    own: pa.Table
    parent: np.ndarray
    told: pa.Table


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
        self.rows, nodes = Counter[str](), {n.name: n for n in trained.nodes}
        mine = [n for n in trained.nodes if trained.rounds[n.name] == round_]
        self.parts = {
            n.name: Parts(
                store.join(output, n.name),
                f"{trained.name}-{n.name}",
                n.schema_,
                lineage | {"table": n.name},
                limit,
            )
            for n in mine
            if n.schema_
        }
        self.described = {
            n.name: Parts(
                store.join(inner, n.name),
                f"{trained.name}-{n.name}-referred",
                _described_schema(nodes, n),
                lineage | {"table": n.name},
            )
            for n in mine
            if n.name in trained.referred
        }

    def add(self, made: Made) -> None:
        keys: dict[str, pa.Table] = {}
        for node in self.trained.nodes:
            if node.name not in made:
                continue
            rows = made[node.name]
            above = keys[node.parent].take(pa.array(rows.parent)) if node.parent else None
            batch = with_keys(node, rows, above, self.rows[node.name], derive(self.seed, node.name))
            self.rows[node.name] += batch.num_rows
            keys[node.name] = pa.table({f.name: batch.column(f.name) for f in node.key})
            if node.name in self.parts:
                self.parts[node.name].add(pa.Table.from_batches([batch]))
            if node.name in self.described:
                parts = self.described[node.name]
                table = joined(pa.table({KEY: batch.column(node.key[0].name)}), rows.told)
                parts.add(table.select(parts.schema.names).cast(parts.schema.arrow()))

    def close(self) -> tuple[dict[str, Dataset], dict[str, str]]:
        """(the datasets by table, the URI of the described rows of those that others refer to)."""
        described = {name: parts.close(self.lineage).uri for name, parts in self.described.items()}
        return {name: parts.close(self.lineage) for name, parts in self.parts.items()}, described


def _described_schema(nodes: dict[str, Node], node: Node) -> Schema:
    key = node.key[0].model_copy(update={"name": KEY})
    fields = (f.model_copy(update={"nullable": True}) for f in handed_fields(nodes, node))
    return Schema(kind="tabular", fields=(key, *fields))


def with_keys(node: Node, rows: Rows, above: pa.Table | None, start: int, seed: int) -> pa.RecordBatch:
    """Rows start, start + 1, .. of a table as the user has them, with keys. above: the parents' keys."""
    schema, own = node.schema_ or Schema(kind="tabular", fields=node.key), rows.own
    count = len(rows.parent)
    named = [r.column for r in node.references]
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
    place = numbered(rows.parent)
    columns |= {name: pa.array(place - 1 + first) for name, first in node.numbers.items()}
    arrays = [_one(columns[f.name]) for f in schema.fields]
    return identify(schema, pa.RecordBatch.from_arrays(arrays, schema=schema.arrow()), start, seed)


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
