"""Ingest: raw data -> an immutable, fingerprinted Dataset.

Writes <store>/datasets/<name>/<request id>/: Parquet parts by split, then manifest.json. The request id is a
hash of the listed input, the options, the schema and the version of this code: the same request is the same
dataset and is done once. Pieces of the input are observed and written in this process or as Ray tasks, with
the same bytes as result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from itertools import starmap
from operator import add
from typing import Any

import numpy as np
from pydantic import ValidationError

from genpipe import store
from genpipe.constraints import NUMBERS, Reckoned
from genpipe.dataset import (
    FEWEST_FOLDED,
    MIN_HOLDOUT,
    MOST_FOLDED,
    Dataset,
    Part,
    commit,
    new_attempt,
)
from genpipe.errors import DataError, UsageError
from genpipe.progress import Event, Progress, silent, throttled
from genpipe.requests import Ingest
from genpipe.schema import Schema
from genpipe.sources import Source
from genpipe.sources.base import Reject
from genpipe.sources.files import bad_files
from genpipe.sources.relations import Relation
from genpipe.stages.cluster import in_order
from genpipe.stages.ingest.entity import check_sampled, name_entity
from genpipe.stages.ingest.relations import Kept, settle
from genpipe.stages.ingest.wanted import wanted_by
from genpipe.stages.ingest.writer import Split, Written, count_unit, damaged_in, observe_unit, write_unit
from genpipe.stages.named_data import note_ingested
from genpipe.version import __version__

PARALLEL_BYTES = 128 * 2**20
# the holdout of a small table is so near to the share asked for, or the nearest of so many draws; of a larger
# one chance makes it nearer
OFF, DRAWS, SMALL_ROWS = 0.02, 20, 50_000


def ingest(
    asked: Ingest, *, schema: Schema | None = None, frame: Any = None, progress: Progress = silent
) -> Dataset:
    """Read raw data into a Dataset. schema: of its fields, in place of a schema file; else inferred. frame: a
    data frame, in place of the source.

    The options are those of the kind of data (genpipe/sources/<kind>.py). Of a series the entity is one.
    """
    wanted = wanted_by(asked, schema=schema, frame=frame)
    opened, uri, source, given = wanted.opened, wanted.uri, wanted.source, wanted.schema
    holdout, on_bad_file, max_bad = asked.holdout, asked.on_bad_file, asked.max_bad
    if Dataset.exists(uri):
        note_ingested(wanted.name, wanted.request, source)
        return Dataset(uri)
    job = _Job(opened, uri, holdout, _runner(opened, asked.workers), throttled(progress))
    rejects, notices, found, inferred = list[Reject](), list[str](), None, given is None
    relations = list[Relation]()
    if given is None or on_bad_file == "skip":
        stats = reduce(lambda a, b: a.merge(b), job.observe())
        rejects = job.judge(stats.rejects, on_bad_file, max_bad)
        found = None if given else check_sampled(opened.entity(stats), wanted.entity, wanted.options)
        if given is None:
            given = _whole(lambda: opened.schema(stats, **wanted.roles))
            relations = opened.relations(stats, given)
        notices = opened.notices(stats)
    dumped = given.model_dump() | {k: v for k, v in wanted.roles.items() if v}
    given, about = name_entity(_whole(lambda: Schema.model_validate(dumped)), wanted.entity, found)
    notices += opened.unused(given, inferred=inferred)
    counted = [r.constraint for r in relations if isinstance(r.constraint, Reckoned)]
    counted = [c for c in counted if {f.kind for f in map(given.field, c.names)} <= {*NUMBERS}]
    written = job.split(given, frozenset(r.file for r in rejects), counted)
    rejects = _judge(rejects + [r for w in written for r in w.rejects], opened, on_bad_file, max_bad)
    parts = [p for w in written for p in w.parts]
    lost = reduce(lambda a, b: a + b, (w.lost for w in written), Counter[str]())
    notices = [*_ignored(opened), *notices, *(text.format(n=n) for text, n in sorted(lost.items()))]
    opened.check_unchanged()
    _enough(parts, opened, asked)
    origin = {"source": source, "request": wanted.request, **wanted.settings}
    given, said, offered = settle(given, relations, reduce(add, (w.kept for w in written), Kept()))
    notices += [*said, *_small(given, parts)]
    origin |= _origin(opened, notices, rejects, about) | ({"offered": offered} if offered else {})
    made = commit(uri, name=wanted.name, schema=given, parts=parts, origin=origin)
    note_ingested(wanted.name, wanted.request, source)
    return made


def _whole(make: Callable[[], Schema]) -> Schema:
    """A schema whose target and key are among its fields."""
    try:
        return make()
    except ValidationError as error:
        raise UsageError("COLUMN", found=error.errors()[0]["msg"].removeprefix("Value error, ")) from None


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

    def split(self, schema: Schema, skip: frozenset[str], counted: Sequence[Reckoned]) -> list[Written]:
        """The parts. Of few rows, or few entities, chance may hold out far more or less than was asked for:
        then they are drawn again.
        """
        write = partial(self._write, schema, skip, counted)
        first = write(draw=0)
        small = self.holdout and schema.kind == "tabular" and _rows(first) <= SMALL_ROWS
        if not small or abs(_rows(first, "holdout") / max(1, _rows(first)) - self.holdout) <= OFF:
            return first
        jobs = [(self.source, unit, schema, self.holdout, DRAWS, skip) for unit in self.units]
        held, rows = sum(self.run(count_unit, jobs)).T
        off = np.abs(held / np.maximum(rows, 1) - self.holdout)
        draw = int(np.argmax(off <= max(OFF, off.min())))
        if draw == 0:
            return first
        for part in (p for w in first for p in w.parts):
            store.remove(store.join(self.uri, part.path))
        return write(draw=draw)

    def _write(
        self, schema: Schema, skip: frozenset[str], counted: Sequence[Reckoned], draw: int
    ) -> list[Written]:
        same = (schema, self.uri, new_attempt(), Split(self.holdout, draw), skip, counted)
        jobs = [(self.source, unit, *same) for unit in self.units]
        return list(self._follow(self.run(write_unit, jobs), "writing"))

    def judge(self, rejects: list[Reject], policy: str, max_bad: float) -> list[Reject]:
        """As `_judge`; before an error all files are read, so that it tells of all that are bad."""
        try:
            return _judge(rejects, self.source, policy, max_bad)
        except DataError:
            more = self._follow(
                self.run(damaged_in, [(self.source, unit) for unit in self.units]), "checking"
            )
            known = {r.file for r in rejects}
            rejects = rejects + [r for found in more for r in found if r.file not in known]
            return _judge(rejects, self.source, policy, max_bad)

    def _follow(self, results: Iterator[Any], note: str) -> Iterator[Any]:
        for done, result in enumerate(results, 1):
            self.progress(Event("ingest", done, len(self.units), "pieces", note=note))
            yield result


def _runner(source: Source, workers: int | None) -> Callable[..., Iterator[Any]]:
    if workers is None:
        workers = int(len(source.units) > 1 and sum(f.size for f in source.files) > PARALLEL_BYTES)
    return in_order if workers and source.travels else starmap


def _judge(rejects: list[Reject], source: Source, policy: str, max_bad: float) -> list[Reject]:
    """Bad files: an error that lists the first of them, unless few enough may be skipped."""
    if not rejects:
        return []
    total = len(source.files)
    if policy == "skip" and len(rejects) <= max_bad * total:
        return rejects
    fix = (
        "repair or remove them, or pass on_bad_file='skip' with max_bad="
        if policy == "fail"
        else f"more than max_bad={max_bad} of all; repair them or raise it"
    )
    raise bad_files([r.error for r in rejects], total, fix)


def _ignored(source: Source) -> list[str]:
    """The files that no one reads, by suffix."""
    total = sum(source.others.values())
    if not total:
        return []
    kinds = sorted(source.others.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{n} {suffix}" for suffix, n in kinds[:10]) + (", ..." if len(kinds) > 10 else "")
    of = total + len(source.files)
    return [f"{total} of {of} files were left out, for {source.kind} data is not read from them: {shown}"]


def _small(schema: Schema, parts: list[Part]) -> list[str]:
    """What can be checked of a generator of so few rows, known before it is trained (stages/checked.py)."""
    total, held = sum(p.rows for p in parts), sum(p.rows for p in parts if p.split == "holdout")
    if schema.about or held >= MIN_HOLDOUT:
        return []
    if total > MOST_FOLDED:
        return [f"{held} held-out rows are too few to judge by (it takes {MIN_HOLDOUT}); raise holdout="]
    if total >= FEWEST_FOLDED:
        return [
            f"{held} held-out rows are few: an evaluation will be cross-fitted, which trains further models"
        ]
    few = f"{total} rows are too few to tell whom a generator of them shows (it takes {FEWEST_FOLDED})"
    return [f"{few}: a pipeline delivers nothing of it unless it says `unchecked: REASON`"]


def _rows(written: list[Written], split: str | None = None) -> int:
    return sum(p.rows for w in written for p in w.parts if split in (None, p.split))


def _enough(parts: list[Part], opened: Source, asked: Ingest) -> None:
    source, holdout, min_rows = asked.source, asked.holdout, asked.min_rows
    rows = {split: sum(p.rows for p in parts if p.split == split) for split in ("train", "holdout")}
    total = sum(rows.values())
    if total < min_rows:
        raise DataError(
            "FEWROWS",
            where=str(source),
            found=f"{total} rows",
            expected=f"at least {min_rows}",
            fix=f"a model of so few would repeat them; {opened.more}add data, or lower min_rows=",
        )
    empty = [
        split for split, share in (("train", 1 - holdout), ("holdout", holdout)) if share and not rows[split]
    ]
    if empty:
        raise DataError(
            "SPLIT",
            where=str(source),
            found=f"none of {total} rows falls into {empty[0]}",
            expected="rows in both (those of one entity or key share a split)",
            fix="add data, choose another key=, or change holdout=",
        )
