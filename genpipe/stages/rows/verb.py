"""impute and likelihood: a table generator on rows a user brings, from files of any format that ingest reads.

The rows are ingested first, with the generator's own schema (so they are checked, fingerprinted and kept as a
dataset of their own, all of them, in order), then read in blocks: the same rows and seed are the same output
id and bytes. Memory is one part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.complete import complete, explain_rows
from genpipe.bundle.floor import floors
from genpipe.bundle.observed import partial_conditioning
from genpipe.constraints import SCALARS
from genpipe.dataset import Dataset, Part, commit, new_attempt, write_part
from genpipe.errors import PrivacyError, UsageError
from genpipe.fields import AnyField, Category, Number
from genpipe.progress import Event, Progress, silent
from genpipe.registry import Resolved, resolve
from genpipe.requests import Impute, Ingest, Likelihood
from genpipe.schema import Schema
from genpipe.settings import read_settings
from genpipe.sources import open_source
from genpipe.sources.tabular.source import TableSource
from genpipe.stages.generate.shards import claim
from genpipe.stages.ingest.verb import ingest
from genpipe.training.device import resolve_device
from genpipe.version import __version__

PART_BLOCKS = 64
VERBS = {"imputed": "impute", "likelihoods": "likelihood"}
LOG_PROBABILITY, LEAST_LIKELY = "log_probability", "least_likely"


def impute(asked: Impute, *, progress: Progress = silent) -> Dataset:
    """Fill the missing values of a table so that they fit the rest of their row; split "generated".

    The source has some of the columns the generator learnt. What is there stays as it is;
    what is missing is drawn given all that is there; columns that are absent are made (seed rows), and those
    alone may come out missing. One draw a row: impute several times with other seeds to see how sure it is.
    Rows that break a constraint because what is there cannot be reconciled are counted in the origin, as
    `breaking`. Any column may be missing where the generator learnt any order (recipe 'tabular_any_order');
    else the target alone, which is classification.
    """
    seed = asked.seed
    bundle, rows, where = _opened(asked, "imputed", {"seed": seed})
    numbers, found = count(), Counter[str]()

    def fill(batch: pa.RecordBatch) -> pa.RecordBatch:
        made = complete(bundle, batch, seed=seed, block=next(numbers))
        found["breaking"] += int((~partial_conditioning(bundle.family, bundle.codec)[1].holds(made)).sum())
        return made

    about = {"stage": "impute", "seed": str(seed)}
    return _write(bundle, rows, where, fill, bundle.schema, about, progress, found)


def likelihood(asked: Likelihood, *, progress: Progress = silent) -> Dataset:
    """How likely the generator finds each row of a table; split "generated".

    Adds `log_probability` in nats (of real-valued columns the density per unit): the lower, the more unusual
    the row. Of each column it is at least that of the rarest values a generator keeps (bundle/floor.py), so
    one that it never makes is not told from one that it seldom makes. `least_likely` names the column whose
    value is furthest below what is usual there, in standard deviations of the generator's own rows.
    """
    bundle, rows, where = _opened(asked, "likelihoods", {"floor": 1})
    for field in (LOG_PROBABILITY, LEAST_LIKELY):
        if field in rows.schema.names:
            raise UsageError("COLUMN", where=asked.source, found=f"a column {field!r}", fix="rename it")
    added: tuple[AnyField, ...] = (Number(name=LOG_PROBABILITY), Category(name=LEAST_LIKELY))
    schema = Schema(kind="tabular", fields=(*rows.schema.fields, *added))

    names, usual = _nats(bundle, next(bundle.batches(bundle.block_rows)).select(rows.schema.names))
    mean, spread = usual.mean(0), usual.std(0) + 1e-9

    def judge(batch: pa.RecordBatch) -> pa.RecordBatch:
        by_column = _nats(bundle, batch)[1]
        columns = [
            *batch.columns,
            pa.array(by_column.sum(1)),
            pa.array(names[((by_column - mean) / spread).argmin(1)], pa.string()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema.arrow())

    return _write(bundle, rows, where, judge, schema, {"stage": "likelihood"}, progress, {})


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


def _opened(asked: Impute | Likelihood, what: str, request: dict[str, Any]) -> tuple[Bundle, Dataset, str]:
    """The generator, the rows as a dataset, and where the result goes."""
    settings = read_settings()
    resolved = resolve(asked.model)
    _check_allowed(resolved, VERBS[what])
    bundle = Bundle.open(resolved.uri, device=resolve_device(settings.device))
    name = store.check_name(asked.name or f"{resolved.name}-{what}")
    rows = _rows(bundle, asked.source, name, asked.options or {})
    whole = [bundle.fingerprint, rows.fingerprint, bundle.device, __version__, what, request]
    place = store.join(settings.store, "generated", name, store.digest(whole))
    return bundle, rows, (asked.output or place).rstrip("/")


def _check_allowed(resolved: Resolved, verb: str) -> None:
    """Raise PrivacyError where a registered version is not for this: its publisher says what it is for."""
    allowed = resolved.tags.get("allow", "").replace("score", "likelihood").split(",")  # its earlier name
    if resolved.reference.startswith("models:/") and verb not in allowed:
        said = "for generating alone" if allowed == [""] else f"for generating and {', '.join(allowed)}"
        raise PrivacyError(
            "NOTALLOWED",
            where=resolved.reference,
            found=f"a generator published {said}; `{verb}` tells more of the people it learnt from",
            expected=f"one whose publisher allows {verb}",
            fix=f"who has the model can: genpipe register <model> --name {resolved.name} --allow {verb}",
        )


def _rows(bundle: Bundle, source: str, name: str, options: dict[str, Any]) -> Dataset:
    """All rows of a table with the columns the generator knows; any value may be missing."""
    if bundle.schema.kind != "tabular":
        raise UsageError("KIND", found=f"a generator of {bundle.schema.kind} data", expected="one of tables")
    opened = open_source(source, kind="tabular", options=options)
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
    return ingest(asked, schema=schema)


def _open(field: AnyField) -> AnyField:
    """The field without limits: rows from elsewhere may break them, which `likelihood` is to tell."""
    limits = dict.fromkeys({"values", "minimum", "maximum"} & set(type(field).model_fields))
    return field.model_copy(update={"nullable": True, "reason": "", **limits})


def _blocks(rows: Dataset, size: int) -> Iterator[pa.RecordBatch]:
    """The rows in blocks of `size`, whatever their parts."""
    held: list[pa.RecordBatch] = []
    for batch in rows.batches("train"):
        while batch.num_rows:
            take = size - sum(b.num_rows for b in held)
            held.append(batch.slice(0, take))
            batch = batch.slice(take)
            if sum(b.num_rows for b in held) == size:
                yield pa.concat_batches(held)
                held = []
    if held:
        yield pa.concat_batches(held)


def _write(
    bundle: Bundle,
    rows: Dataset,
    output: str,
    work: Callable[[pa.RecordBatch], pa.RecordBatch],
    schema: Schema,
    about: dict[str, str],
    progress: Progress,
    found: Mapping[str, int],
) -> Dataset:
    """`work` over every block, as a committed dataset. found: what it counts meanwhile, for the origin."""
    if Dataset.exists(output):
        return Dataset(output)
    lineage = about | {
        "model_fingerprint": bundle.fingerprint,
        "rows_fingerprint": rows.fingerprint,
        "code": __version__,
    }
    claim(output, lineage)  # parts of a run that was killed stay unnamed
    parts: list[Part] = []
    attempt, total, done = new_attempt(), rows.rows("train"), 0
    held: list[pa.RecordBatch] = []
    for batch in _blocks(rows, bundle.block_rows):
        held.append(work(batch))
        done += batch.num_rows
        note = ", ".join(f"{number} rows {what} a constraint" for what, number in found.items() if number)
        progress(Event(about["stage"], done, total, "rows", note=note))
        if len(held) == PART_BLOCKS or done == total:
            name = f"generated-{len(parts):05d}"
            table = pa.Table.from_batches(held)
            part = write_part(output, table, split="generated", name=name, attempt=attempt, lineage=lineage)
            parts.append(part)
            held = []
    origin = {**lineage, "source": rows.uri, **found}
    return commit(output, name=rows.name, schema=schema, parts=parts, origin=origin)
