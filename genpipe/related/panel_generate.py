"""generate of what was one flat table: exactly the rows asked for, of whole entities but the last, as one
Dataset.

The entities and their rows are drawn as related tables are (draw.py), and joined before they are written.
Rows of an entity stand together, in their order.
"""

from __future__ import annotations

from functools import partial
from itertools import starmap
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.codecs.tabular.lookups import Lookup
from genpipe.dataset import Dataset
from genpipe.delivery import begin
from genpipe.errors import UsageError
from genpipe.progress import Event, Progress, silent
from genpipe.registry import Resolved
from genpipe.related.draw import make_family, roots_for
from genpipe.related.generate import GeneratedTables, generate_tables, job_rows, need_of
from genpipe.related.panel import ENTITY, ROWS, Panel
from genpipe.related.rows import PART_ROWS
from genpipe.related.train import TrainedTables, find_tables
from genpipe.related.write import Made, Parts, with_keys
from genpipe.requests import Generate
from genpipe.seeds import derive
from genpipe.settings import read_settings
from genpipe.stages.checked import check_of, said
from genpipe.stages.cluster import in_order, where_to_draw
from genpipe.stages.generate.shards import open_bundle
from genpipe.version import __version__


def generate(asked: Generate, *, progress: Progress = silent) -> GeneratedTables | Dataset:
    """Of related tables every table; of what was one flat table this one again."""
    resolved, trained = find_tables(asked.model)
    if trained.panel is None:
        return generate_tables(asked, progress=progress)
    return _generate(asked, resolved, trained, trained.panel, progress)


def _generate(
    asked: Generate, resolved: Resolved, trained: TrainedTables, panel: Panel, progress: Progress
) -> Dataset:
    rows, settings = asked.rows, read_settings()
    if not isinstance(rows, int):
        found = "missing" if rows is None else "rows of tables"
        raise UsageError("ROWS", where="rows", found=found, expected="a number", fix="say how many (--rows)")
    (device, remote), check = where_to_draw(settings, asked.workers), check_of(resolved, trained.fingerprint)
    name = store.check_name(asked.name or resolved.name)
    request = {
        **asked.identity(), "model": resolved.reference, "fingerprint": trained.fingerprint,
        "device": device, "code": __version__, **({"check": check} if check else {}),
    }  # fmt: skip
    output = (asked.output or store.join(settings.store, "generated", name, store.digest(request))).rstrip(
        "/"
    )
    begun = begin(output, request)
    made = begun.made or (Dataset(output) if begun.work == output and Dataset.exists(output) else None)
    if made is not None:
        return said(made, progress, note="already made")
    there = partial(in_order, need=need_of(trained, device)) if remote else starmap
    (entities,) = there(roots_for, [(trained.uri, ENTITY, f"children of {ROWS}", rows, asked.seed, device)])
    size = job_rows(trained, trained.nodes[0], open_bundle(trained.models[ENTITY], device))
    jobs = [
        (trained.uri, ENTITY, at, min(at + size, entities), asked.seed, device)
        for at in range(0, entities, size)
    ]
    on_workers = (remote or len(jobs) > 1) if asked.workers is None else asked.workers > 0
    run = partial(in_order, need=need_of(trained, device)) if on_workers else starmap
    lineage = {k: str(v) for k, v in request.items() if v is not None and k != "rows"} | {"stage": "generate"}
    writer = _Writer(trained, panel, begun.work, output, name, asked, lineage)
    for family in run(make_family, jobs):
        writer.add(family)
        progress(Event("generate", min(writer.done, rows), rows, "rows"))
    about: dict[str, Any] = {"stage": "generate", "entities": entities, **request}
    return said(writer.parts.close(about), progress)


def sample_flat(model: object, *, rows: int, seed: int = 0, progress: Progress = silent) -> pa.Table:
    """The flat table in memory."""
    with TemporaryDirectory(prefix="genpipe-table-") as scratch:
        asked = Generate.of(model=str(model), rows=rows, seed=seed, output=f"{scratch}/table", workers=0)
        made = generate(asked, progress=progress)
        assert isinstance(made, Dataset)
        return made.table("generated")


def lookups_of(trained: TrainedTables) -> tuple[Lookup, ...]:
    """What columns of rows decide others, as the codec of the rows has it."""
    codec = Bundle.open(trained.models[ROWS]).codec
    return codec.relations.lookups if isinstance(codec, ColumnCodec) else ()


class _Writer:
    """Joins entities and their rows, job after job, until there are as many rows as asked for."""

    def __init__(
        self,
        trained: TrainedTables,
        panel: Panel,
        work: str,
        output: str,
        name: str,
        asked: Generate,
        lineage: dict[str, str],
    ) -> None:
        self.panel, self.seed, self.wanted = panel, asked.seed, int(str(asked.rows))
        self.nodes = {n.name: n for n in trained.nodes}
        self.entities = self.rows = self.done = 0
        self.lookups = lookups_of(trained)
        limit = asked.rows_per_part or PART_ROWS
        self.parts = Parts(output, name, panel.schema_, lineage, limit, work=work)

    def add(self, made: Made) -> None:
        entity, row = self.nodes[ENTITY], self.nodes[ROWS]
        one = with_keys(entity, made[ENTITY], None, self.entities, derive(self.seed, ENTITY))
        entities = pa.Table.from_batches([one])
        above = made[ROWS].parent
        keys = entities.select([f.name for f in entity.key]).take(pa.array(above))
        many = with_keys(row, made[ROWS], keys, self.rows, derive(self.seed, ROWS))
        self.entities, self.rows = self.entities + one.num_rows, self.rows + many.num_rows
        flat = self.panel.flat(entities, pa.Table.from_batches([many]), above, self.lookups)
        self.parts.add(flat.slice(0, self.wanted - self.done))
        self.done = min(self.wanted, self.done + flat.num_rows)
