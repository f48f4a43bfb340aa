"""impute and likelihood: a table generator on rows a user brings, from files of any format that ingest reads.

The rows are ingested first, with the generator's own schema (so they are checked, fingerprinted and kept as a
dataset of their own, all of them, in order), then read in blocks: the same rows and seed are the same output
id and bytes. Memory is one part. Where only a cluster has a GPU, blocks are made by its workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.complete import complete, explain_rows
from genpipe.bundle.floor import floors
from genpipe.bundle.observed import partial_conditioning
from genpipe.constraints import SCALARS
from genpipe.dataset import Dataset
from genpipe.errors import UsageError
from genpipe.fields import AnyField, Category, Number
from genpipe.progress import Progress, silent
from genpipe.registry import resolve
from genpipe.requests import Impute, Ingest, Likelihood
from genpipe.schema import Schema
from genpipe.settings import read_settings
from genpipe.sources import open_source
from genpipe.sources.tabular.source import TableSource
from genpipe.stages.cluster import in_order, where_to_draw
from genpipe.stages.generate.shards import open_bundle
from genpipe.stages.ingest.verb import ingest
from genpipe.stages.placement import need_to_sample
from genpipe.stages.rows.blocks import Written, blocks, check_allowed, write_blocks
from genpipe.training.device import check_gpu, parameters
from genpipe.version import __version__

VERBS = {"imputed": "impute", "likelihoods": "likelihood"}
LOG_PROBABILITY, LEAST_LIKELY = "log_probability", "least_likely"


def impute(asked: Impute, *, frame: Any = None, progress: Progress = silent) -> Dataset:
    """Fill the missing values of a table so that they fit the rest of their row; split "generated".

    The source has some of the columns the generator learnt. What is there stays as it is;
    what is missing is drawn given all that is there; columns that are absent are made (seed rows), and those
    alone may come out missing. One draw a row: impute several times with other seeds to see how sure it is.
    Rows that break a constraint because what is there cannot be reconciled are counted in the origin, as
    `breaking`. Any column may be missing where the generator learnt any order (recipe 'tabular_any_order');
    else the target alone, which is classification. frame: a data frame, in place of the source.
    """
    seed = asked.seed
    opened = _opened(asked, "imputed", {"seed": seed}, frame)
    bundle = opened.bundle
    numbered = enumerate(blocks(opened.rows, "train", bundle.block_rows))
    filled = opened.run(_filled, ((bundle.uri, bundle.device, seed, n, batch) for n, batch in numbered))
    return _write(opened, filled, bundle.schema, {"stage": "impute", "seed": str(seed)}, progress)


def likelihood(asked: Likelihood, *, frame: Any = None, progress: Progress = silent) -> Dataset:
    """How likely the generator finds each row of a table; split "generated".

    Adds `log_probability` in nats (of real-valued columns the density per unit): the lower, the more unusual
    the row. Of each column it is at least that of the rarest values a generator keeps (bundle/floor.py), so
    one that it never makes is not told from one that it seldom makes. `least_likely` names the column whose
    value is furthest below what is usual there, in standard deviations of the generator's own rows.
    """
    opened = _opened(asked, "likelihoods", {"floor": 1}, frame)
    bundle, rows = opened.bundle, opened.rows
    for field in (LOG_PROBABILITY, LEAST_LIKELY):
        if field in rows.schema.names:
            raise UsageError("COLUMN", where=asked.source, found=f"a column {field!r}", fix="rename it")
    added: tuple[AnyField, ...] = (Number(name=LOG_PROBABILITY), Category(name=LEAST_LIKELY))
    schema = Schema(kind="tabular", fields=(*rows.schema.fields, *added))

    here, known = (bundle.uri, bundle.device), rows.schema.names
    mean, spread = next(opened.run(_usual, [(*here, known)]))
    jobs = ((*here, schema, mean, spread, batch) for batch in blocks(rows, "train", bundle.block_rows))
    return _write(opened, opened.run(_judged, jobs), schema, {"stage": "likelihood"}, progress)


Made = tuple[pa.RecordBatch, dict[str, int]]  # rows of a block, and what was counted in them


def _filled(uri: str, device: str, seed: int, block: int, batch: pa.RecordBatch) -> Made:
    check_gpu(device)
    bundle = open_bundle(uri, device)
    made = complete(bundle, batch, seed=seed, block=block)
    held = partial_conditioning(bundle.family, bundle.codec)[1].holds(made)
    return made, {"breaking": int((~held).sum())}


def _usual(uri: str, device: str, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the nats of each column in rows of the generator's own."""
    check_gpu(device)
    bundle = open_bundle(uri, device)
    usual = _nats(bundle, next(bundle.batches(bundle.block_rows)).select(names))[1]
    return usual.mean(0), usual.std(0) + 1e-9


def _judged(
    uri: str, device: str, schema: Schema, mean: np.ndarray, spread: np.ndarray, batch: pa.RecordBatch
) -> Made:
    check_gpu(device)
    names, by_column = _nats(open_bundle(uri, device), batch)
    least = names[((by_column - mean) / spread).argmin(1)]
    columns = [*batch.columns, pa.array(by_column.sum(1)), pa.array(least, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow()), {}


def _nats(bundle: Bundle, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Names of the learnt columns, and (B, columns) nats of each, none below its floor."""
    found = explain_rows(bundle, batch)
    if not found.num_columns:
        raise UsageError(
            "COLUMNS",
            found=f"no learnt column among {', '.join(batch.schema.names)}",
            expected="some of " + ", ".join(f.name for f in bundle.schema.fields if f.kind in SCALARS),
        )
    least = floors(bundle)
    names = found.schema.names
    return np.array(names), np.stack([np.maximum(found[n].to_numpy(), least[n]) for n in names], 1)


class _Opened(NamedTuple):
    """The generator, the rows as a dataset, where the result goes, and what runs the jobs, in their order."""

    bundle: Bundle
    rows: Dataset
    output: str
    run: Callable[..., Iterator[Any]]


def _opened(asked: Impute | Likelihood, what: str, request: dict[str, Any], frame: Any) -> _Opened:
    settings = read_settings()
    resolved = resolve(asked.model)
    check_allowed(resolved, VERBS[what])
    device, remote = where_to_draw(settings, None)
    bundle = open_bundle(resolved.uri, device)
    name = store.check_name(asked.name or f"{resolved.name}-{what}")
    rows = _rows(bundle, asked.source, name, asked.options or {}, frame)
    whole = [bundle.fingerprint, rows.fingerprint, bundle.device, __version__, what, request]
    place = store.join(settings.store, "generated", name, store.digest(whole))
    run: Callable[..., Iterator[Any]] = starmap
    if remote:
        run = partial(in_order, need=need_to_sample(parameters(bundle.family), device))
    return _Opened(bundle, rows, (asked.output or place).rstrip("/"), run)


def _rows(bundle: Bundle, source: str, name: str, options: dict[str, Any], frame: Any) -> Dataset:
    """All rows of a table with the columns the generator knows; any value may be missing."""
    if bundle.schema.kind != "tabular":
        raise UsageError("KIND", found=f"a generator of {bundle.schema.kind} data", expected="one of tables")
    opened = open_source(source if frame is None else frame, kind="tabular", options=options)
    assert isinstance(opened, TableSource)
    there = opened.names()
    known = tuple(_open(f) for f in bundle.schema.fields if f.name in there)
    if not known:
        raise UsageError(
            "COLUMNS",
            where=source,
            found=f"columns {', '.join(there[:10])}",
            expected="some of " + ", ".join(bundle.schema.names),
        )
    schema = Schema(kind="tabular", fields=known)
    asked = Ingest.of(
        source=source,
        name=f"{name}-rows",
        kind="tabular",
        entity="none: rows to complete",
        holdout=0,
        min_rows=1,
        options=options,
    )
    return ingest(asked, schema=schema, frame=frame)


def _open(field: AnyField) -> AnyField:
    """The field without limits: rows from elsewhere may break them, which `likelihood` is to tell."""
    limits = dict.fromkeys({"values", "minimum", "maximum"} & set(type(field).model_fields))
    return field.model_copy(update={"nullable": True, "reason": "", **limits})


def _write(
    opened: _Opened, made: Iterable[Made], schema: Schema, about: dict[str, str], progress: Progress
) -> Dataset:
    """The blocks as a committed dataset; what was counted in them is in its origin."""
    bundle, rows, output, _ = opened
    lineage = about | {
        "model_fingerprint": bundle.fingerprint,
        "rows_fingerprint": rows.fingerprint,
        "code": __version__,
        **({"learnt": bundle.learnt} if bundle.learnt else {}),
    }
    if store.exists(store.join(output, "manifest.json")):  # by an earlier version
        return Dataset(output)
    found = Counter[str]()

    def counted() -> Iterator[pa.RecordBatch]:
        for batch, number in made:
            found.update(number)
            yield batch

    def note() -> str:
        return ", ".join(f"{number} rows {what} a constraint" for what, number in found.items() if number)

    what = Written(name=rows.name, schema=schema, lineage=lineage, rows=rows.rows("train"))
    return write_blocks(
        output, counted(), what, progress, note=note, found=lambda: {"source": rows.uri, **found}
    )
