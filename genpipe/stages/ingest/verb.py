"""Ingest: raw data -> an immutable, fingerprinted Dataset.

Writes <store>/datasets/<name>/<request id>/: Parquet parts by split, then manifest.json. The request id is a
hash of the listed input, the options, the schema and the version of this code: the same request is the same
dataset and is done once. Pieces of the input are observed and written in this process or as Ray tasks, with
the same bytes as result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from pydantic import ValidationError

from genpipe import store
from genpipe.constraints import NUMBERS, Reckoned
from genpipe.dataset import FEWEST_FOLDED, MIN_HOLDOUT, MOST_FOLDED, Dataset, Part, commit
from genpipe.errors import DataError, UsageError
from genpipe.progress import Progress, silent, throttled
from genpipe.requests import Ingest
from genpipe.schema import Schema
from genpipe.sources import Source
from genpipe.sources.base import Reject
from genpipe.sources.relations import Relation
from genpipe.stages.ingest.earlier import (
    Block,
    Earlier,
    Note,
    changes,
    earlier_of,
    form_of,
    is_whole,
    remember,
)
from genpipe.stages.ingest.entity import check_sampled, name_entity
from genpipe.stages.ingest.passes import Passes, judged
from genpipe.stages.ingest.relations import Kept, settle
from genpipe.stages.ingest.wanted import Wanted, wanted_by
from genpipe.stages.named_data import note_ingested
from genpipe.version import __version__


def ingest(
    asked: Ingest, *, schema: Schema | None = None, frame: Any = None, progress: Progress = silent
) -> Dataset:
    """Read raw data into a Dataset. schema: of its fields, in place of a schema file; else inferred. frame: a
    data frame, in place of the source.

    The options are those of the kind of data (genpipe/sources/<kind>.py). Of a series the entity is one.
    """
    wanted = wanted_by(asked, schema=schema, frame=frame)
    if Dataset.exists(wanted.uri):
        if is_whole(there := Dataset(wanted.uri)):
            note_ingested(wanted.name, wanted.request, wanted.source)
            return there
        store.remove(store.join(wanted.uri, "manifest.json"))  # its parts lay in versions that are gone
    made = _make(asked, wanted, earlier := earlier_of(wanted), progress)
    if earlier and earlier.is_gone():  # removed at this moment, and its parts with it
        store.remove(store.join(wanted.uri, "manifest.json"))
        made = _make(asked, wanted, None, progress)
    note_ingested(wanted.name, wanted.request, wanted.source)
    return made


def _make(asked: Ingest, wanted: Wanted, earlier: Earlier | None, progress: Progress) -> Dataset:
    opened, watch = wanted.opened, throttled(progress)
    passes = Passes(opened, wanted.uri, asked.holdout, workers=asked.workers, earlier=earlier, progress=watch)
    told = _look(asked, wanted, passes)
    given, relations = told.schema, told.relations
    counted = [r.constraint for r in relations if isinstance(r.constraint, Reckoned)]
    counted = [c for c in counted if {f.kind for f in map(given.field, c.names)} <= {*NUMBERS}]
    made, draw = passes.write(given, told.form, frozenset(r.file for r in told.rejects), counted)
    written = list(made.values())
    rejects = told.rejects + [r for w in written for r in w.rejects]
    rejects = judged(rejects, opened, asked.on_bad_file, asked.max_bad)
    parts = [p for w in written for p in w.parts]
    lost = reduce(lambda a, b: a + b, (w.lost for w in written), Counter[str]())
    notices = [*_ignored(opened), *told.notices, *(text.format(n=n) for text, n in sorted(lost.items()))]
    opened.check_unchanged(sorted(passes.read))
    _enough(parts, opened, asked)
    origin = {"source": wanted.source, "request": wanted.request, **wanted.settings}
    given, said, offered = settle(given, relations, reduce(add, (w.kept for w in written), Kept()))
    notices += [*said, *_small(given, parts)]
    origin |= _origin(opened, notices, rejects, told.about) | ({"offered": offered} if offered else {})
    if earlier and (changed := changes(earlier, given, passes.again)):
        origin["changed"] = changed
    done = commit(wanted.uri, name=wanted.name, schema=given, parts=parts, origin=origin, in_order=True)
    if not rejects:
        remember(wanted, done, Note(told.form, draw, told.blocks, counted, written, earlier))
    return done


@dataclass(frozen=True)
class _Told:
    """What the first pass tells. form, blocks: of an incremental source, see `Note`."""

    schema: Schema
    about: dict[str, Any]
    rejects: list[Reject]
    notices: list[str]
    relations: list[Relation]
    form: str = ""
    blocks: Sequence[Block] = ()


def _look(asked: Ingest, wanted: Wanted, passes: Passes) -> _Told:
    """The schema that is given, or what the units show of it."""
    opened, given, stats = wanted.opened, wanted.schema, None
    rejects, notices, found = list[Reject](), list[str](), None
    relations, inferred = list[Relation](), given is None
    if given is None or asked.on_bad_file == "skip":
        stats = passes.observe()
        rejects = passes.judge(stats.rejects, asked.on_bad_file, asked.max_bad)
        found = check_sampled(opened.entity(stats), wanted.entity, wanted.options) if inferred else None
        if given is None:
            given = _whole(lambda: opened.schema(stats, **wanted.roles))
            relations = opened.relations(stats, given)
        notices = opened.notices(stats)
    fields = given.model_dump() | {k: v for k, v in wanted.roles.items() if v}
    given, about = name_entity(_whole(lambda: Schema.model_validate(fields)), wanted.entity, found)
    notices += opened.unused(given, inferred=inferred)
    form = ""
    if opened.incremental:
        form = form_of(opened, opened.form(given, stats if inferred else None))
    return _Told(given, about, rejects, notices, relations, form, passes.blocks if inferred else ())


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
