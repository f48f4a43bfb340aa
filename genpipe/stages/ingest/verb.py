"""Ingest: raw data -> an immutable, fingerprinted Dataset.

Writes <store>/datasets/<name>/<request id>/: Parquet parts by split, then manifest.json. The request id is a
hash of the listed input, the options, the schema and the version of this code: the same request is the same
dataset and is done once. Pieces of the input are observed and written in this process or as Ray tasks, with
the same bytes as result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import starmap
from operator import add
from typing import Any

from pydantic import ValidationError

from genpipe import store
from genpipe.constraints import NUMBERS, Inequality, Sum
from genpipe.dataset import Dataset, Part, commit, new_attempt
from genpipe.errors import DataError, UsageError
from genpipe.progress import Event, Progress, silent, throttled
from genpipe.requests import Ingest
from genpipe.schema import Schema
from genpipe.settings import read_settings
from genpipe.sources import Source, open_source
from genpipe.sources.base import Reject
from genpipe.sources.relations import Relation
from genpipe.sources.schema_file import schema_from_yaml
from genpipe.stages.cluster import in_order
from genpipe.stages.ingest.entity import name_entity, parse_entity
from genpipe.stages.ingest.relations import Kept, settle
from genpipe.stages.ingest.writer import Written, observe_unit, write_unit
from genpipe.version import __version__

REVISION = 4  # of the bytes ingest writes; part of every request id
PARALLEL_BYTES = 128 * 2**20


def ingest(asked: Ingest, *, schema: Schema | None = None, progress: Progress = silent) -> Dataset:
    """Read raw data into a Dataset. schema: of its fields, in place of a schema file; else inferred.

    The options are those of the kind of data (genpipe/sources/<kind>.py). Of a series the entity is one.
    """
    source = asked.source if isinstance(asked.source, str) else list(asked.source)
    name = store.check_name(asked.name or default_name(source))
    options, entity, holdout, min_rows = asked.options or {}, asked.entity, asked.holdout, asked.min_rows
    on_bad_file, max_bad = asked.on_bad_file, asked.max_bad
    if asked.kind == "series" or {"time", "window", "stride"} & set(options):
        options, entity = options | ({"entity": entity} if entity else {}), None
    parse_entity(entity)
    opened = open_source(source, kind=asked.kind, options=options)
    given = schema_from_yaml(asked.schema_file) if asked.schema_file else schema
    roles: dict[str, Any] = {"target": asked.target, "key": asked.key or ()}
    about_whom = {"entity": entity} if entity is not None else {}
    settings = {"holdout": holdout, "min_rows": min_rows, "bad": [on_bad_file, max_bad]}
    request = _request(opened, given, roles | settings | about_whom)
    uri = store.join(read_settings().store, "datasets", name, request)
    if Dataset.exists(uri):
        return Dataset(uri)
    job = _Job(opened, uri, holdout, _runner(opened, asked.workers), throttled(progress))
    rejects, notices, found, relations = list[Reject](), list[str](), None, list[Relation]()
    if given is None or on_bad_file == "skip":
        stats = reduce(lambda a, b: a.merge(b), job.observe())
        rejects, notices = _judge(stats.rejects, opened, on_bad_file, max_bad), opened.notices(stats)
        found = None if given else opened.entity(stats)
        if given is None:
            given = _whole(lambda: opened.schema(stats, **roles))
            relations = opened.relations(stats, given)
    dumped = given.model_dump() | {k: v for k, v in roles.items() if v}
    given, about = name_entity(_whole(lambda: Schema.model_validate(dumped)), entity, found)
    relations = [r for r in relations if {f.kind for f in map(given.field, r.constraint.names)} <= {*NUMBERS}]
    written = job.write(given, frozenset(r.file for r in rejects), [r.constraint for r in relations])
    rejects = _judge(rejects + [r for w in written for r in w.rejects], opened, on_bad_file, max_bad)
    parts = [p for w in written for p in w.parts]
    opened.check_unchanged()
    _enough(parts, source, holdout, min_rows)
    origin = {"source": source, "request": request, **settings}
    given, said, offered = settle(given, relations, reduce(add, (w.kept for w in written), Kept()))
    origin |= _origin(opened, [*notices, *said], rejects, about) | ({"offered": offered} if offered else {})
    return commit(uri, name=name, schema=given, parts=parts, origin=origin)


def _whole(make: Callable[[], Schema]) -> Schema:
    """A schema whose target and key are among its fields."""
    try:
        return make()
    except ValidationError as error:
        raise UsageError("COLUMN", found=error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _request(source: Source, schema: Schema | None, settings: dict[str, Any]) -> str:
    """The id of a request: everything the bytes of the dataset depend on."""
    listed = [source.kind, source.identity, source.options.model_dump(), schema and schema.model_dump()]
    return store.digest([__version__, REVISION, listed, settings])


def _origin(
    source: Source, notices: list[str], rejects: list[Reject], entity: dict[str, Any]
) -> dict[str, Any]:
    return {
        **({"entity": entity} if entity else {}),
        "kind": source.kind,
        "files": len(source.files),
        "bytes": sum(f.size for f in source.files),
        "options": source.options.model_dump(mode="json"),
        "notices": [*([entity["said"]] if entity else []), *notices],
        "rejects": [{"file": r.file, "reason": str(r.error)} for r in rejects],
        "genpipe": __version__,
    }


class _Job:
    """The two passes over the units: what is in them, then their parts."""

    def __init__(
        self, source: Source, uri: str, holdout: float, run: Callable[..., Iterator[Any]], progress: Progress
    ) -> None:
        self.source, self.uri, self.holdout, self.run, self.progress = source, uri, holdout, run, progress
        self.units = range(len(source.units))

    def observe(self) -> Iterator[Any]:
        return self._follow(self.run(observe_unit, [(self.source, unit) for unit in self.units]), "looking")

    def write(
        self, schema: Schema, skip: frozenset[str], counted: Sequence[Inequality | Sum]
    ) -> list[Written]:
        same = (schema, self.uri, new_attempt(), self.holdout, skip, counted)
        jobs = [(self.source, unit, *same) for unit in self.units]
        return list(self._follow(self.run(write_unit, jobs), "writing"))

    def _follow(self, results: Iterator[Any], note: str) -> Iterator[Any]:
        for done, result in enumerate(results, 1):
            self.progress(Event("ingest", done, len(self.units), "pieces", note=note))
            yield result


def _runner(source: Source, workers: int | None) -> Callable[..., Iterator[Any]]:
    if workers is None:
        workers = int(len(source.units) > 1 and sum(f.size for f in source.files) > PARALLEL_BYTES)
    return in_order if workers else starmap


def default_name(source: str | Sequence[str]) -> str:
    """A dataset name from the input: data/People 2024.csv.gz -> people-2024."""
    first = source if isinstance(source, str) else source[0]
    plain = [
        p for p in first.removeprefix("builtin:").rstrip("/").split("/") if p and "*" not in p and p != "s3:"
    ]
    stem = plain[-1].split(".")[0] if plain else "data"
    return store.plain_name(stem)


def _judge(rejects: list[Reject], source: Source, policy: str, max_bad: float) -> list[Reject]:
    """Bad files: an error that lists the first of them, unless few enough may be skipped."""
    if not rejects:
        return []
    total = len(source.files)
    if policy == "skip" and len(rejects) <= max_bad * total:
        return rejects
    if total == 1:
        raise rejects[0].error
    shown = [str(r.error) for r in rejects[:20]] + (["..."] if len(rejects) > 20 else [])
    fix = (
        "repair or remove them, or pass on_bad_file='skip' with max_bad="
        if policy == "fail"
        else f"more than max_bad={max_bad} of all; repair them or raise it"
    )
    raise DataError("BADFILES", found=f"{len(rejects)} of {total} files cannot be used", fix=fix, lines=shown)


def _enough(parts: list[Part], source: Any, holdout: float, min_rows: int) -> None:
    rows = {split: sum(p.rows for p in parts if p.split == split) for split in ("train", "holdout")}
    total = sum(rows.values())
    if total < min_rows:
        raise DataError(
            "FEWROWS",
            where=str(source),
            found=f"{total} rows",
            expected=f"at least {min_rows}",
            fix="a model of so few records would repeat them; add data, or lower min_rows=",
        )
    empty = [
        split for split, share in (("train", 1 - holdout), ("holdout", holdout)) if share and not rows[split]
    ]
    if empty:
        raise DataError(
            "SPLIT",
            where=str(source),
            found=f"none of {total} rows falls into {empty[0]}",
            expected="different rows (equal rows share a split)",
            fix="add data, choose another key=, or change holdout=",
        )
