"""Fit the codec of a dataset on its training split, once.

Writes `<dataset>/codecs/<digest>.json`, where the digest names the dataset's content, the codec's settings
and the version of the format; a second call reads it. The statistics of the parts merge exactly, so one
process and many Ray tasks make the same file, byte for byte. Training rows that break a constraint of the
schema are named beside the codec, as `broken`, and in the last event. Where rare values are protected,
`<digest>.protected.json` beside it lists them with their rows: they never leave the dataset's folder.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

from genpipe import store
from genpipe.codecs import CODECS
from genpipe.codecs.base import VERSION, Codec, CodecConfig, Stats
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.codecs.tabular.protect import Summary, hidden_values, hidden_words, summary
from genpipe.codecs.tabular.relations import Relations
from genpipe.dataset import Dataset, Part
from genpipe.errors import DataError
from genpipe.progress import Event, Progress, silent

FIRST = 5  # rows shown of those that break a constraint
MANY_PARTS, MANY_BYTES = 4, 2**30  # beyond both it pays to start Ray; beyond the first to use one that runs


def prepare(dataset: Dataset, config: CodecConfig | None = None, *, progress: Progress = silent) -> Codec:
    """The codec of this dataset under these settings, from its training split alone."""
    config = config or CodecConfig()
    where = _place(dataset, config, "json")
    kind = CODECS[dataset.schema.kind]
    try:
        codec = _read(kind, dataset, where)
    except FileNotFoundError:
        codec = _fit(kind, dataset, config, where, progress)
    if isinstance(codec, ColumnCodec) and codec.relations.broken:
        rows, told = dataset.rows("train"), store.read_json(where)["broken"]
        notes = [f"{label}: {b['rows']} rows, first {b['first']}" for label, b in sorted(told.items())]
        note = "constraints broken in training, learnt as repaired: " + "; ".join(notes)
        progress(Event("prepare", done=rows, total=rows, unit="rows", note=note))
    return codec


def _fit(
    kind: type[Codec],
    dataset: Dataset,
    config: CodecConfig,
    where: str,
    progress: Progress,
) -> Codec:
    """Observe the training split, build the codec, keep it at `where`."""
    parts = dataset.parts("train")
    merged: Stats | None = None
    done = 0
    for rows, stats in _observe(dataset, parts, config):
        merged = stats if merged is None else merged.merge(stats)
        done += rows
        progress(Event("prepare", done=done, total=dataset.rows("train"), unit="rows"))
    if merged is None:
        raise DataError(
            "NOROWS",
            where=dataset.uri,
            found="0 training rows",
            expected="at least 1",
            fix="ingest more rows, or lower holdout",
        )
    codec = kind.build(dataset.schema, merged, config)
    if config.rare != "keep":  # before the codec: whoever finds that finds the list
        hidden = hidden_values(codec, merged, config)
        store.write_bytes(_place(dataset, config, "protected.json"), store.canonical(hidden))
        told = f"protected {hidden_words(summary(hidden))}" if hidden else ""
        progress(Event("prepare", done=done, total=done, unit="rows", note=told))
    if codec.notice:
        progress(Event("prepare", done=done, total=done, unit="rows", note=codec.notice))
    broken = _broken(codec.relations, dataset) if isinstance(codec, ColumnCodec) else {}
    content = {"codec": codec.to_json(), "broken": broken}
    store.create(where, store.canonical(_request(dataset, config) | content))
    return codec


def _broken(relations: Relations, dataset: Dataset) -> dict[str, Any]:
    """Constraint -> how many training rows break it, and the numbers (from 0) of the first."""
    first: dict[str, list[int]] = {label: [] for label in relations.broken}
    at = 0
    for batch in dataset.batches("train") if first else ():
        held = relations.holds(batch)
        first = {
            label: [*seen, *(at + np.flatnonzero(~held[label])).tolist()] for label, seen in first.items()
        }
        at += batch.num_rows
        if all(len(seen) >= min(FIRST, relations.broken[label]) for label, seen in first.items()):
            break
    return {label: {"rows": relations.broken[label], "first": seen[:FIRST]} for label, seen in first.items()}


def protected(dataset: Dataset, config: CodecConfig) -> Summary:
    """What protecting the rare hid in this dataset, as it may be published; after `prepare`."""
    if config.rare == "keep":
        return {}
    return summary(store.read_json(_place(dataset, config, "protected.json")), config.rare_below)


def _request(dataset: Dataset, config: CodecConfig) -> dict[str, Any]:
    return {"fingerprint": dataset.fingerprint, "config": config.model_dump(mode="json"), "version": VERSION}


def _place(dataset: Dataset, config: CodecConfig, suffix: str) -> str:
    return store.join(dataset.uri, "codecs", f"{store.digest(_request(dataset, config))}.{suffix}")


def _read(kind: type[Codec], dataset: Dataset, where: str) -> Codec:
    try:
        return kind.from_json(dataset.schema, store.read_json(where)["codec"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "CODEC",
            where=where,
            found=f"unreadable ({error})",
            expected="a codec genpipe wrote",
            fix="delete the file",
        ) from error


def _observe(dataset: Dataset, parts: tuple[Part, ...], config: CodecConfig) -> Iterator[tuple[int, Stats]]:
    """(rows, statistics) piece by piece, in any order."""
    if len(parts) > MANY_PARTS and (_ray_runs() or sum(p.bytes for p in parts) > MANY_BYTES):
        yield from _observe_on_ray(dataset.uri, parts, config)
        return
    for part in parts:
        yield from _observe_part(dataset, part, config)


def _observe_part(dataset: Dataset, part: Part, config: CodecConfig) -> Iterator[tuple[int, Stats]]:
    kind, schema = CODECS[dataset.schema.kind], dataset.schema
    rows = 65_536 if schema.kind == "tabular" else 4_096
    for batch in dataset.part_batches(part, rows=rows, columns=kind.observes(schema)):
        yield batch.num_rows, kind.observe(batch, schema, config)


def _ray_runs() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _merged(uri: str, part: dict[str, Any], config: CodecConfig) -> tuple[int, Stats]:
    """What one Ray task does: the statistics of one part."""
    dataset, total, merged = Dataset(uri), 0, None
    for rows, stats in _observe_part(dataset, Part.model_validate(part), config):
        total, merged = total + rows, stats if merged is None else merged.merge(stats)
    if merged is None:
        raise DataError("NOROWS", where=f"{uri}: {part['path']}", found="a part without rows")
    return total, merged


def _observe_on_ray(uri: str, parts: tuple[Part, ...], config: CodecConfig) -> Iterator[tuple[int, Stats]]:
    from genpipe.stages.cluster import connect, errors_of_tasks, first_ready
    from genpipe.stages.heartbeat import heard, watched

    connect()
    import ray

    board = uuid.uuid4().hex
    task = ray.remote(max_retries=3)(heard(_merged, board))
    waiting = [task.remote(uri, part.model_dump(), config) for part in parts if part.rows]
    with watched(board), errors_of_tasks("prepare"):
        while waiting:
            waiting.remove(ready := first_ready(waiting))
            yield ray.get(ready)
