"""generate_tables: related tables whose keys agree, from what `train_tables` made.

Rows without parents are drawn first, then, round by round, the first, second, .. child of every row that has
one: a child's model is told its parents and the child before, and completes the row. A job is a fixed range
of rows without parents with all that descends from them, so the bytes depend neither on workers nor on order;
keys are numbered over all jobs, so they are unique, and a foreign key is its parent's key by construction.

Writes <output>/request.json, which claims the folder, <output>/<table>/, a Dataset for each table, and
<output>/tables.json, which names them, last. Memory is a few jobs and one part of each table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import starmap

import numpy as np
import pyarrow as pa

from genpipe import __version__, store
from genpipe.bundle import Bundle
from genpipe.bundle.complete import complete
from genpipe.bundle.known import knowing
from genpipe.codecs.identify import capacity, identify
from genpipe.dataset import Dataset, Part, commit, new_attempt, write_part
from genpipe.errors import UsageError
from genpipe.progress import Event, Progress, silent
from genpipe.schema import Schema
from genpipe.seeds import derive, numpy_rng
from genpipe.settings import read_settings
from genpipe.stages.cluster import in_order
from genpipe.stages.flat import Node, handed_down, joined, picked
from genpipe.stages.generate import check_numbers
from genpipe.stages.shards import claim, open_bundle
from genpipe.stages.train_tables import PART_ROWS, TrainedTables, find_tables, open_tables
from genpipe.training.device import resolve_device

JOB_ROWS = 2**17  # of all tables, about: rounds of many rows are cheaper, but all are in memory
Made = dict[str, tuple[pa.Table, np.ndarray]]  # table -> its rows, and the parent's row of each


@dataclass(frozen=True)
class GeneratedTables(Mapping[str, Dataset]):
    """The datasets by table. `str(tables)` is the URI of their folder."""

    uri: str
    datasets: Mapping[str, Dataset]

    def __getitem__(self, name: str) -> Dataset:
        return self.datasets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.datasets)

    def __len__(self) -> int:
        return len(self.datasets)

    def __str__(self) -> str:
        return self.uri


def generate_tables(
    model: object,
    *,
    rows: int | None = None,
    output: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> GeneratedTables:
    """Generate every table of what `train_tables` made, and return them as committed Datasets.

    model: what `train_tables` returned, its URI, or "models:/name@champion".
    rows: of the tables without parents, or entities (default: as many as in the data); how many the others
    have follows. workers: 0 in this process, else as Ray tasks; None = Ray where there is more than one job.
    output: a folder or s3:// prefix; by default <store>/generated/<name>/<output id>.
    """
    check_numbers(rows=(rows, 1), seed=(seed, 0), workers=(workers, 0))
    (resolved, trained), settings = find_tables(model), read_settings()
    device = resolve_device(settings.device)
    request = {
        "model": resolved.reference, "fingerprint": trained.fingerprint, "rows": rows, "seed": seed,
        "device": device, "code": __version__,
    }  # fmt: skip
    place = store.join(settings.store, "generated", resolved.name, store.digest(request))
    output = (output or place).rstrip("/")
    names = [n.name for n in trained.nodes if n.schema_]
    claim(output, request)
    if store.exists(store.join(output, "tables.json")):
        return GeneratedTables(output, {n: Dataset(store.join(output, n)) for n in names})
    jobs = [
        (trained.uri, root.name, start, min(start + size, rows or root.rows), seed, device)
        for root in trained.nodes
        if root.parent is None
        for size in [job_rows(trained, root, open_bundle(trained.models[root.name], device))]
        for start in range(0, rows or root.rows, size)
    ]
    run = in_order if (len(jobs) > 1 if workers is None else workers) else starmap
    lineage = {"stage": "generate-tables", "model": resolved.reference, "seed": str(seed)}
    lineage |= {"model_fingerprint": trained.fingerprint, "code": __version__}
    writer = _Writer(trained, output, seed, lineage)
    for done, made in enumerate(run(make_family, jobs), 1):
        writer.add(made)
        progress(Event("generate-tables", done, len(jobs), "jobs", note=f"{sum(writer.rows.values())} rows"))
    datasets = writer.close()
    about = {
        n.name: {
            "dataset": n.name,
            "fingerprint": datasets[n.name].fingerprint,
            "rows": datasets[n.name].rows(),
            "key": n.key and n.key.name,
            "foreign_key": n.link,
            "parent": n.parent if n.parent in names else None,
        }
        for n in trained.nodes
        if n.schema_
    }
    store.create(store.join(output, "tables.json"), store.canonical({"request": request, "tables": about}))
    return GeneratedTables(output, datasets)


def job_rows(trained: TrainedTables, root: Node, bundle: Bundle) -> int:
    """Rows without parents in a job: a power of two, at most a block, so that no job spans two."""
    each = sum(n.rows for n in trained.family(root.name)) / root.rows
    return min(bundle.block_rows, 1 << max(0, int(JOB_ROWS / each).bit_length() - 1))


@lru_cache(maxsize=1)
def _block(uri: str, device: str, seed: int, block: int) -> pa.Table:
    """A block is drawn whole; jobs that share it follow each other."""
    bundle = open_bundle(uri, device)
    return pa.table(bundle.sample_block(seed=seed, block=block, rows=bundle.block_rows))


def make_family(uri: str, root: str, start: int, stop: int, seed: int, device: str) -> Made:
    """Rows [start, stop) without parents, and their descendants."""
    trained = open_tables(uri)
    bundle = open_bundle(trained.models[root], device)
    block, skip = divmod(start, bundle.block_rows)
    top, *others = trained.family(root)
    own = _block(bundle.uri, device, derive(seed, root), block).slice(skip, stop - start)
    made: Made = {root: (picked(own.select([f.name for f in top.own]), _all(own)), np.zeros(0, np.int64))}
    told = {root: handed_down(top, pa.table({}), own)}
    for node in others:
        counts = made[str(node.parent)][0][f"children of {node.name}"].to_numpy()
        bundle = open_bundle(trained.models[node.name], device)
        above = told[str(node.parent)]
        rows, parent = children(node, bundle, above, counts, seed=derive(seed, node.name, start))
        made[node.name] = rows, parent
        told[node.name] = handed_down(node, picked(above, pa.array(parent)), rows)
    return made


def _all(table: pa.Table) -> pa.Array:
    return pa.array(np.arange(table.num_rows))


def children(
    node: Node, bundle: Bundle, told: pa.Table, counts: np.ndarray, *, seed: int
) -> tuple[pa.Table, np.ndarray]:
    """(rows in the order of their parents and then of each other, the parent of each) of `node`.

    told: what the parents hand down; counts: (parents,) how many children each is to have.
    """
    empty = {f.name: pa.array([], f.arrow()) for f in (*node.own, *node.tells)}
    made, parents = [pa.table(empty)], [np.zeros(0, np.int64)]
    rows, position = np.flatnonzero(counts > 0), 0
    before = pa.table({n: pa.nulls(len(rows), f.arrow()) for n, f in node.previous.items()})
    ticks = np.full(len(rows), node.order.low if node.order else 0)
    while len(rows):
        position += 1
        place = pa.table({"position": np.full(len(rows), position)})
        given = joined(picked(told, pa.array(rows)), place, before).combine_chunks().to_batches()[0]
        batch = complete(bundle, _usual(bundle, given), seed=derive(seed, position), fill=False)
        own = pa.table({f.name: batch.column(f.name) for f in node.own})
        if node.order:
            gap = own[node.order.gap].to_numpy()
            if position > 1:  # now and then a network draws how long a parent's first row was in coming
                gap = np.minimum(gap, node.order.widest)
            ticks = np.minimum(node.order.rounded(ticks + gap), node.order.high)
            own = own.append_column(node.order.field.name, node.order.values(ticks))
        made.append(own.select(list(empty)))
        parents.append(rows)
        more = np.flatnonzero(counts[rows] > position)
        tells = own.select([f.name for f in node.tells]).rename_columns(list(node.previous))
        rows, ticks, before = rows[more], ticks[more], picked(tells, pa.array(more))
    parent = np.concatenate(parents)
    order = parent.argsort(kind="stable")
    return picked(pa.concat_tables(made), pa.array(order)), parent[order]


def _usual(bundle: Bundle, given: pa.RecordBatch) -> pa.RecordBatch:
    """What is given, with the most frequent value where one is missing that no row of the data lacks: parents
    without it had no children there.
    """
    for column, _, _ in knowing(bundle.family, bundle.codec)[1].positions:
        at = given.schema.get_field_index(column.field.name)
        if at >= 0 and not column.missing and given.column(at).null_count:
            code = np.array([int(np.argmax(column.shares))])
            value = column.decode(code, numpy_rng(0, "usual"))[0]
            given = given.set_column(at, given.schema.field(at), given.column(at).fill_null(value))
    return given


class _Writer:
    """Numbers the rows of each table over all jobs, gives them keys, and writes them in parts."""

    def __init__(self, trained: TrainedTables, output: str, seed: int, lineage: dict[str, str]) -> None:
        self.trained, self.output, self.seed, self.lineage = trained, output, seed, lineage
        self.attempt, self.rows = new_attempt(), Counter[str]()
        self.held: dict[str, list[pa.Table]] = {n.name: [] for n in trained.nodes}
        self.parts: dict[str, list[Part]] = {n.name: [] for n in trained.nodes}

    def add(self, made: Made) -> None:
        keys: dict[str, pa.Array] = {}
        for node in self.trained.nodes:
            if node.name not in made:
                continue
            own, parent = made[node.name]
            above = keys[node.parent].take(pa.array(parent)) if node.parent else None
            batch = finished(node, own, above, self.rows[node.name], derive(self.seed, node.name))
            self.rows[node.name] += batch.num_rows
            if node.key:
                keys[node.name] = batch.column(node.key.name)
            if node.schema_:
                self.held[node.name].append(pa.Table.from_batches([batch]))
                if sum(t.num_rows for t in self.held[node.name]) >= PART_ROWS:
                    self._flush(node.name)

    def _flush(self, name: str) -> None:
        part = write_part(
            store.join(self.output, name),
            pa.concat_tables(self.held[name]).combine_chunks(),
            split="generated",
            name=f"generated-{len(self.parts[name]):05d}",
            attempt=self.attempt,
            lineage=self.lineage | {"table": name},
        )
        self.parts[name].append(part)
        self.held[name] = []

    def close(self) -> dict[str, Dataset]:
        out = {}
        for node in self.trained.nodes:
            if node.schema_:
                if self.held[node.name]:
                    self._flush(node.name)
                uri, name = store.join(self.output, node.name), f"{self.trained.name}-{node.name}"
                parts = self.parts[node.name]
                out[node.name] = commit(
                    uri, name=store.plain_name(name), schema=node.schema_, parts=parts, origin=self.lineage
                )
        return out


def finished(node: Node, own: pa.Table, above: pa.Array | None, start: int, seed: int) -> pa.RecordBatch:
    """Rows start, start + 1, .. of a table as the user has them, with keys. above: the parents' keys."""
    schema = node.schema_ or Schema(kind="tabular", fields=(node.key,) if node.key else ())
    if node.key and (most := capacity(node.key)) is not None and most < start + own.num_rows:
        raise UsageError(
            "KEYS",
            where=f"{node.name}.{node.key.name}",
            found=f"{start + own.num_rows} rows, but only {most} different keys of this pattern",
            expected=f"at most {most} rows",
            fix="ask for fewer rows, or train on a schema with a longer pattern",
        )
    columns = []
    for field in schema.fields:
        if node.key and field.name == node.key.name:
            blank = pa.scalar(0 if node.key.storage == "integer" else "", field.arrow())
            columns.append(pa.repeat(blank, own.num_rows))
        elif field.name == node.link and above is not None:
            columns.append(above)
        else:
            columns.append(own[field.name].combine_chunks())
    batch = pa.RecordBatch.from_arrays(columns, schema=schema.arrow())
    return identify(schema, batch, start, seed)
