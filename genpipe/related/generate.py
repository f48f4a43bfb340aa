"""generate_tables: related tables whose keys agree, from what `train_tables` made.

A job (draw_tables.py) is a fixed range of rows without parents with all that descends from them, so the bytes
depend neither on workers nor on order; keys are numbered over all jobs (write_tables.py), so they are unique,
and a foreign key is its parent's key by construction.

Where tables refer to others beside their parents, jobs are run in rounds: a table is whole before those that
refer to it are begun, and their jobs are told where it lies.

Writes <output>/request.json, which claims the folder, <output>/<table>/, a Dataset for each table, and
<output>/tables.json, which names them, last. What later rounds need is kept aside in the store, where workers
find it, or in the output where this process does it all, and is then removed. Memory is a few jobs, one part
of each table, and in each process the learnt columns of the tables that are referred to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from typing import Any

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.delivery import claim
from genpipe.errors import InfrastructureError, unknown
from genpipe.progress import Event, Progress, silent
from genpipe.related.draw import make_family
from genpipe.related.late import finished
from genpipe.related.levels import sizes_of
from genpipe.related.nodes import Node
from genpipe.related.rows import PART_ROWS
from genpipe.related.train import TrainedTables, find_tables
from genpipe.related.write import Parts, Writer
from genpipe.requests import Generate
from genpipe.settings import read_settings
from genpipe.stages.checked import check_of, loud
from genpipe.stages.cluster import in_order, where_to_draw
from genpipe.stages.generate.shards import open_bundle
from genpipe.stages.placement import Need, need_to_sample
from genpipe.training.device import parameters
from genpipe.version import __version__

JOB_ROWS = 2**17  # of all tables, about: many rows at once are cheaper, but all are in memory


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


def generate_tables(asked: Generate, *, progress: Progress = silent) -> GeneratedTables:
    """Generate every table of what `train_tables` made, and return them as committed Datasets.

    rows: of the tables without parents, or entities (default: as many as in the data); how many the others
    have follows. One that other families refer to has as many as in the data, unless a mapping of tables to
    rows names it ("*": those it does not name). By default Ray is used where there is more than one job.
    """
    rows, seed, workers = asked.rows, asked.seed, asked.workers
    (resolved, trained), settings = find_tables(asked.model), read_settings()
    wanted = rows_of(trained, rows)
    (device, remote), check = where_to_draw(settings, workers), check_of(resolved, trained.fingerprint)
    request = _told(check) | {"model": resolved.reference, "seed": seed, "rows": rows, "device": device}
    request |= {"fingerprint": trained.fingerprint, "code": __version__}
    request |= {"tag": asked.tag} if asked.tag else {}
    request |= {"rows_per_part": asked.rows_per_part} if asked.rows_per_part else {}
    name = store.check_name(asked.name or resolved.name)
    place = store.join(settings.store, "generated", name, store.digest(request))
    output = (asked.output or place).rstrip("/")
    names = [n.name for n in trained.nodes if n.schema_]
    claim(output, request)
    near, far = _aside(output, settings.store, resolved.name, request)
    inner = near if workers == 0 else far
    if store.exists(store.join(output, "tables.json")):
        _clear(near, far)  # of a job that was killed in between
        return GeneratedTables(output, {n: Dataset(store.join(output, n)) for n in names})
    lineage = {"stage": "generate-tables", "model": resolved.reference, "seed": str(seed), **_told(check)}
    lineage |= {"model_fingerprint": trained.fingerprint, "code": __version__}
    datasets, referred, late, number = dict[str, Dataset](), dict[str, str](), dict[str, str](), 0
    rounds = sorted(set(trained.rounds.values()))
    for round_ in rounds:
        jobs = [
            (trained.uri, root.name, start, stop, seed, device, round_, referred, wanted[root.name])
            for root in trained.nodes
            if root.parent is None and trained.needed(root.name, round_)
            for start, stop in _ranges(trained, root, wanted[root.name], device)
        ]
        on_workers = (remote or len(jobs) > 1) if workers is None else workers > 0
        run = partial(in_order, need=need_of(trained, device)) if on_workers else starmap
        writer = Writer(trained, round_, output, inner, seed, lineage, asked.rows_per_part or PART_ROWS)
        for done, made in enumerate(run(make_family, jobs), 1):
            writer.add(made)
            number += sum(len(rows.own) for name, rows in made.items() if trained.rounds[name] == round_)
            which = f", round {round_ + 1} of {len(rounds)}" if len(rounds) > 1 else ""
            note = f"{loud(check)}{'; ' if check else ''}{number} rows{which}"
            progress(Event("generate-tables", done, len(jobs), "jobs", note=note))
        written, described, aside = writer.close()
        datasets, referred, late = datasets | written, referred | described, late | aside
    limit = asked.rows_per_part or PART_ROWS
    for name in late:
        datasets[name] = _finish(trained, name, late[name], referred, output, seed, lineage, limit)
    datasets = {name: datasets[name] for name in names}
    about = {n.name: _about(n, datasets[n.name], names) for n in trained.nodes if n.schema_}
    store.create(store.join(output, "tables.json"), store.canonical({"request": request, "tables": about}))
    _clear(near, far)
    return GeneratedTables(output, datasets)


def _finish(
    trained: TrainedTables,
    name: str,
    aside: str,
    referred: Mapping[str, str],
    output: str,
    seed: int,
    lineage: dict[str, str],
    limit: int,
) -> Dataset:
    """A table of which some references were not chosen yet."""
    node, uri, word = trained.node(name), store.join(output, name), lineage | {"table": name}
    assert node.schema_ is not None
    parts = Parts(uri, f"{trained.name}-{name}", node.schema_, word, limit)
    for rows in finished(node, aside, referred, seed):
        parts.add(rows)
    return parts.close(lineage)


def need_of(trained: TrainedTables, device: str) -> Need:
    """Of a worker that draws rows of every table."""
    weights = sum(parameters(open_bundle(model, device).family) for model in trained.models.values())
    return need_to_sample(weights, device)


def _told(check: str) -> dict[str, Any]:
    """What a request and a footer say of the generator, if there is anything to say."""
    return {"check": check} if check else {}


def _aside(output: str, lake: str, name: str, request: Mapping[str, Any]) -> tuple[str, str]:
    """Where rows are kept that later rounds need: in the output (no table is called so) and in the store."""
    own = store.digest([request, output])
    return store.join(output, f".referred-{own}"), store.join(lake, "referred", f"{name}-{own}")


def _clear(*folders: str) -> None:
    """Remove what was kept aside, wherever a run that was killed may have put it. A store that lets nothing
    be removed keeps it: the tables are made all the same.
    """
    for folder in folders:
        with suppress(InfrastructureError):
            store.remove(folder)


def _about(node: Node, dataset: Dataset, names: list[str]) -> dict[str, Any]:
    """What tables.json says of a table; a key of several columns is a list."""

    def one(columns: list[str]) -> str | list[str] | None:
        return columns if len(columns) > 1 else columns[0] if columns else None

    return {
        "dataset": node.name,
        "fingerprint": dataset.fingerprint,
        "rows": dataset.rows(),
        "key": one([f.name for f in node.key]),
        "foreign_key": one([*node.link]),
        "parent": node.parent if node.parent in names else None,
        "references": {r.column: r.table for r in node.references},
    }


def rows_of(trained: TrainedTables, rows: int | Mapping[str, int] | None) -> dict[str, int]:
    """Table without parents -> its rows; see `generate_tables`."""
    named = dict(rows) if isinstance(rows, Mapping) else {} if rows is None else {"*": rows}
    others = named.pop("*", None)
    roots = {n.name: n for n in trained.nodes if n.parent is None}
    for name in named:
        if name not in roots:
            raise unknown("table without parents", name, roots, where="rows")
    family = {n.name: root for root in roots for n in trained.family(root)}
    pairs = [(family[n.name], family[r.table]) for n in trained.nodes for r in n.matched]
    kept = {to for own, to in pairs if own != to}
    kept = kept if kept != roots.keys() else set()
    return {
        name: named.get(name, root.rows if others is None or name in kept else others)
        for name, root in roots.items()
    }


def _ranges(trained: TrainedTables, root: Node, rows: int, device: str) -> Iterator[tuple[int, int]]:
    size = job_rows(trained, root, open_bundle(trained.models[root.name], device))
    if root.tree:  # a range is of the rows that name none
        rows, size = sizes_of(root.tree.levels, rows)[0], max(1, size * root.tree.levels[0] // root.rows)
    return ((start, min(start + size, rows)) for start in range(0, rows, size))


def job_rows(trained: TrainedTables, root: Node, bundle: Bundle) -> int:
    """Rows without parents in a job: a power of two, at most a block, so that no job spans two."""
    each = sum(n.rows for n in trained.family(root.name)) / root.rows
    return min(bundle.block_rows, 1 << max(0, int(JOB_ROWS / each).bit_length() - 1))
