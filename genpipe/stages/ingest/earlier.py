"""What an earlier version of a dataset has of the same files: their parts, and what was seen in them.

    <store>/datasets/<name>/files/<options>.json      of the last version ingested with these options

It names, by the files of each unit, the parts of that version, and holds the statistics of all its units
together. So a night reads and writes what is new, and its manifest names the other parts where they lie. The
note says nothing that its version does not say; lost or damaged, it costs one whole ingest. Its version's
manifest is believed, and of a part that is not there in its size the files are read again.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from genpipe import store
from genpipe.constraints import Reckoned
from genpipe.dataset import Dataset, Part
from genpipe.documents import MAX_DOCUMENT, parse_json
from genpipe.errors import DataError, GenpipeError
from genpipe.manifest import SPLITS
from genpipe.schema import Schema
from genpipe.sources import Source
from genpipe.stages.ingest.relations import Kept, count
from genpipe.stages.ingest.wanted import REVISION, Wanted
from genpipe.stages.ingest.writer import Written
from genpipe.version import __version__

FOLDER = "files"
MOST_BEFORE = 50  # relations of a unit
log = logging.getLogger("genpipe.ingest")
Block = tuple[list[str], Any]  # keys of units, and statistics of all of them together
# digest of a constraint -> (rows that have its columns, broken among them)
Counts = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Unit:
    """What was made of some files, whose parts lie in `Earlier.dataset`. lost: see `Written`."""

    parts: tuple[Part, ...]
    lost: Counter[str]
    counts: Counts


@dataclass(frozen=True)
class Earlier:
    """form, draw: of the bytes of its parts, see `Source.form` and `Split`. first: the key of its first unit,
    which the draw is of. blocks: statistics of units that are all still there.
    """

    dataset: Dataset
    form: str
    draw: int
    first: str
    units: Mapping[str, Unit]
    blocks: Sequence[Block] = ()

    def written(self, key: str, counted: Sequence[Reckoned]) -> Written:
        """What `write_unit` would write of a unit. Relations that nobody counted are, in its parts."""
        unit, kept = self.units[key], Kept()
        unknown = [c for c in counted if _id(c) not in unit.counts]
        for part in unit.parts if unknown else ():
            columns = sorted({name for c in unknown for name in c.names})
            for batch in self.dataset.part_batches(part, columns=columns):
                kept += count(unknown, self.dataset.schema, batch)
        for c in counted:
            if _id(c) in unit.counts:
                kept[str(c), "rows"], kept[str(c), "broken"] = unit.counts[_id(c)]
        request = self.dataset.uri.rsplit("/", 1)[1]
        parts = [p if p.path.startswith("../") else _shared(p, request) for p in unit.parts]
        return Written(parts=parts, lost=unit.lost.copy(), kept=kept)

    def is_gone(self) -> bool:
        """Whether its parts may be removed, since no manifest of its own names them any more."""
        return not Dataset.exists(self.dataset.uri)


@dataclass(frozen=True)
class Note:
    """What `remember` keeps. blocks: statistics as JSON. counted: relations, whose rows each of `written`
    knows, which is one a unit. before: what it went on from.
    """

    form: str
    draw: int
    blocks: Sequence[Block]
    counted: Sequence[Reckoned]
    written: Sequence[Written]
    before: Earlier | None


def may_grow(source: Source) -> bool:
    """Whether a later version may have the same files and others."""
    return source.incremental and (len(source.files) > 1 or any(file.root for file in source.files))


def earlier_of(wanted: Wanted) -> Earlier | None:
    """None where there is no earlier version, or none that can be gone on from."""
    if not may_grow(wanted.opened):
        return None
    where = _note(wanted)
    try:
        told = parse_json(store.read_limited(where, MAX_DOCUMENT), where=where)
        if told.pop("check") != store.digest(told):
            raise ValueError(f"{where} has changed since it was written")
        return _earlier(wanted, told)
    except FileNotFoundError:
        return None
    except (DataError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        log.info("nothing to go on from: %s", error)
        return None


def _earlier(wanted: Wanted, told: Mapping[str, Any]) -> Earlier | None:
    request = str(told["request"])
    if not re.fullmatch("[0-9a-f]{20}", request) or request == wanted.request:
        return None
    dataset = Dataset(store.join(wanted.uri.rpartition("/")[0], request))
    if dataset.fingerprint != told["fingerprint"]:
        return None
    parts, there = {p.path: p for p in dataset.manifest.parts}, _sizes(dataset)
    units = {
        str(key): Unit(
            tuple(parts[path] for path in paths),
            Counter({str(text): int(n) for text, n in lost.items()}),
            {str(c): (int(rows), int(broken)) for c, (rows, broken) in counts.items()},
        )
        for key, paths, lost, counts in told["units"]
    }
    keys = list(units)
    whole = {k: u for k, u in units.items() if all(there.get(p.path) == p.bytes for p in u.parts)}
    now = set(wanted.opened.unit_keys)
    blocks = [(seen, wanted.opened.load(stats)) for seen, stats in told["seen"] if set(seen) <= now]
    return Earlier(dataset, told["form"], int(told["draw"]), keys[0], whole, blocks)


def _sizes(dataset: Dataset) -> dict[str, int | None]:
    """Bytes of each part, as far as it is there."""
    parts = dataset.manifest.parts
    if store.scheme_of(dataset.uri) == "file":
        return {p.path: _size(dataset.where(p)) for p in parts}
    above = dataset.uri.rpartition("/")[0]  # one request tells of a thousand objects
    entries = store.entries(above)
    places = {p.path: dataset.where(p).removeprefix(f"{above}/") for p in parts}
    return {path: entries[place].bytes if place in entries else None for path, place in places.items()}


def _size(uri: str) -> int | None:
    with suppress(DataError):  # of what is no file
        return store.size(uri)
    return None


def is_whole(dataset: Dataset) -> bool:
    """Whether the parts of other versions that it names are still there."""
    if not any(p.path.startswith("../") for p in dataset.manifest.parts):
        return True
    there = _sizes(dataset)
    return all(there[p.path] == p.bytes for p in dataset.manifest.parts)


def remember(wanted: Wanted, made: Dataset, note: Note) -> None:
    """Keep what the next version can go on from, of files none of which is bad. Where it cannot be kept, that
    one reads all files.
    """
    source = wanted.opened
    if not may_grow(source):
        return
    known = note.before.units if note.before else {}
    mine = sorted((p for w in note.written for p in w.parts), key=lambda p: SPLITS.index(p.split))
    # a twin may have been first to commit the same parts, as it wrote them
    names = {a.path: b.path for a, b in zip(mine, made.manifest.parts, strict=True)}
    told = {
        "request": wanted.request,
        "fingerprint": made.fingerprint,
        "form": note.form,
        "draw": note.draw,
        "units": [
            [key, [names[p.path] for p in w.parts], w.lost, _counts(w.kept, note.counted, known.get(key))]
            for key, w in zip(source.unit_keys, note.written, strict=True)
        ],
        "seen": note.blocks,
    }
    if len(store.canonical(told)) > MAX_DOCUMENT - 100:  # thousands of columns
        told["seen"] = []
    with suppress(GenpipeError, OSError):
        store.write_bytes(_note(wanted), store.canonical(told | {"check": store.digest(told)}))


def form_of(source: Source, asked: Any) -> str:
    """A hash of all that decides the bytes of a unit's parts beside its files. asked: JSON."""
    return store.digest([source.options.model_dump(), asked])


def changes(earlier: Earlier, new: Schema, again: int) -> list[str]:
    """What of the schema is not as it was in the version before, and how many files it had read again."""
    old = earlier.dataset.schema
    before, after = ({f.name: f for f in s.fields} for s in (old, new))
    said = [f"column {name!r} is new" for name in after if name not in before]
    said += [f"column {name!r} is gone" for name in before if name not in after]
    for name in (n for n in after if n in before):
        a, b = (f[name].model_dump(exclude={"reason"}) for f in (before, after))
        keys = [k for k in dict.fromkeys([*a, *b]) if a.get(k) != b.get(k)]
        if "kind" in keys:
            said.append(f"column {name!r} is {b['kind']}, it was {a['kind']}")
        else:
            said += [f"column {name!r} has {k} {b.get(k)}, it had {a.get(k)}" for k in keys]
    if old.about != new.about:
        said.append(f"rows are about {_named(new.about)}, they were about {_named(old.about)}")
    rules = [{str(c) for c in s.constraints} for s in (old, new)]
    said += [f"{c} holds in all rows, it did not" for c in sorted(rules[1] - rules[0])]
    said += [f"{c} holds no more in all rows" for c in sorted(rules[0] - rules[1])]
    if again:
        said.append(f"{again} files that did not change were read again, and written")
    return [f"since the version before: {line}" for line in said]


def _named(columns: Iterable[str]) -> str:
    return " and ".join(columns) or "nobody who has several"


def _note(wanted: Wanted) -> str:
    """Whoever asks otherwise goes on from another version."""
    s, given = wanted.opened, wanted.schema
    asked = [s.kind, s.options.model_dump(), given and given.model_dump(), wanted.roles, wanted.entity]
    settings = store.digest([__version__, REVISION, asked, wanted.settings["holdout"]])
    return store.join(wanted.uri.rpartition("/")[0], FOLDER, f"{settings}.json")


def _shared(part: Part, request: str) -> Part:
    return part.model_copy(update={"path": f"../{request}/{part.path}"})


def _counts(kept: Kept, counted: Sequence[Reckoned], known: Unit | None) -> Counts:
    """Of the relations that a sample shows now, and of some that it showed before and may again."""
    now = {_id(c): (kept[str(c), "rows"], kept[str(c), "broken"]) for c in counted}
    before = {key: counts for key, counts in (known.counts if known else {}).items() if key not in now}
    return dict(itertools.islice(before.items(), MOST_BEFORE)) | now


def _id(constraint: Reckoned) -> str:
    return store.digest(constraint.model_dump(mode="json"))
