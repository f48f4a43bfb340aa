"""clean: what twins of a request, killed runs and ended ones left behind; listed, and removed when asked to.

Only what genpipe writes is known here, by its form, and only what nobody can still name:

    data/<attempt>/*.parquet                no manifest and no record of a shard beside it names it, nor the
                                            manifest of another version of the same dataset
    files/*.json                            notes of a version that is gone (stages/ingest/earlier.py)
    checkpoints/<attempt>/*.safetensors     no manifest of a checkpoint names it
    checkpoints/                            of a run that has a result, or of a trial whose search has one
    bundle-<content>/ without a manifest    in a run that has a result
    .<output>.making/data/..                the same, of an output that is not whole yet, beside it
    .<name>.<32 digits>                     a file that a killed process was writing
    .referred-<id>/, referred/<id>/         rows kept aside for tables that are made, or not for so long

With `keep` or `older` also what is whole and no longer wanted, see retention.py. And in $GENPIPE_HOME logs,
notes of runs (flows/quiet.py), folders of Ray and copies of databases that are older than `days`, and in the
temporary folder those of embedded servers whose process is gone. The folder of an output (of a dataset, run
or generation) in which anything was written within `hours` is left alone: somebody may be at work there. What
a manifest names, the registry, its champions and results are never touched. Versions of a dataset share
parts: one that is to go loses its manifest first, and then, here, the parts that no other manifest names; an
ingest that went on from it at that moment sees that the manifest is gone, and reads all files. A writer that
was stopped for longer than `hours` between its data and its manifest would find the data gone: it is to be
made again.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genpipe import store
from genpipe.delivery import sidecars
from genpipe.documents import parse_json
from genpipe.errors import DataError, UsageError
from genpipe.manifest import MAX_MANIFEST
from genpipe.private import abandoned
from genpipe.progress import Event, Progress, silent
from genpipe.requests import Clean
from genpipe.settings import Settings, read_settings
from genpipe.stages.retention import named_beside, retired

SCRATCH = ("ray", "prefect")  # kinds of folders of embedded servers, see private.py
PART = re.compile(r"(?:(?P<root>.*)/)?data/[0-9a-f]{12}/[a-z0-9-]+\.parquet")
CHECKPOINT = re.compile(
    r"(?P<root>(?:.*/)?(?P<run>[^/]+))/checkpoints/(?P<name>[^/]+/[0-9]{8,}\.safetensors|[^/]+\.json)"
)
NOTE = re.compile(r"(?:(?P<root>.*)/)?files/[0-9a-f]{20}\.json")
VERSION = re.compile(r"(?:.*/)?[0-9a-f]{20}")
BUNDLE = re.compile(r"(?P<root>.*)/(?P<bundle>bundle-[0-9a-f]{8})/[a-z]+\.(?:json|safetensors)")
HALF = re.compile(r"(?:(?P<root>.*)/)?\.[^/]+\.[0-9a-f]{32}")
ASIDE = re.compile(r"(?:(?P<root>.*)/)?(?P<aside>\.referred-[0-9a-f]{20}|referred/[^/]+)/.+")
TRIAL = re.compile(r"(?P<study>.+)-trial[0-9]{3}-[0-9a-f]{10}")
STUDY = re.compile(r"studies/(?P<study>.+)-[0-9a-f]{10}/(?P<file>plan|result)\.json")
UNNAMED = "a part that no manifest names"
COPIES = ("*.db.before-*", "prefect/*.db.aside-*", "*.db.aside-*")


@dataclass(frozen=True)
class Leftover:
    """place: a file's URI, or that of a folder of this machine. why: in words."""

    place: str
    bytes: int
    why: str


@dataclass(frozen=True)
class Cleaned:
    """What was found, and whether it was removed. left: folders that were not looked into, and why."""

    found: tuple[Leftover, ...]
    removed: bool
    left: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.found)


def clean(asked: Clean, *, progress: Progress = silent) -> Cleaned:
    """Find what nobody needs; with `remove`, remove it. Raises InfrastructureError where a store refuses."""
    settings, beyond = read_settings(), asked.keep is not None or asked.older is not None
    if beyond and asked.place:
        got, expected = "both place= and keep= or older=", "one of them: what is whole is told of a store"
        raise UsageError("PLACE", where=asked.place, found=got, expected=expected)
    where = [asked.place, *sidecars(asked.place)] if asked.place else [settings.store]
    places = [_Place(uri, hours=asked.hours, days=asked.days) for uri in dict.fromkeys(where)]
    found = list[Leftover]()
    for place in places:
        for each in place.leftovers():
            found.append(each)
            if asked.remove:
                place.remove(each)
            progress(Event("clean", done=len(found), unit="files"))
    if asked.place is None:
        for each in _home(settings, days=asked.days):
            found.append(each)
            if asked.remove:
                _remove_local(Path(each.place))
    if beyond:
        for thing, why in retired(
            settings.store,
            keep=asked.keep or 1,
            older=asked.older or 0,
            hours=asked.hours,
            removing=asked.remove,
        ):
            found.append(Leftover(thing.place, thing.bytes, why))
            progress(Event("clean", done=len(found), unit="files"))
    left = {each for place in places for each in place.left}
    return Cleaned(tuple(found), asked.remove, tuple(sorted(left)))


class _Place:
    """A store, or the folder of one output, as one listing tells it."""

    def __init__(self, uri: str, *, hours: float, days: float) -> None:
        self.uri, self.entries = uri.rstrip("/"), store.entries(uri)
        now = time.time()
        self.fresh, self.old = now - 3600 * hours, now - 86_400 * days
        self.left = set[str]()
        self._named = dict[str, frozenset[str] | None]()
        self._others = dict[str, set[str]]()
        self._newest = dict[str, float]()
        for name, entry in self.entries.items():
            parts = name.split("/")
            for depth in range(len(parts)):
                folder = "/".join(parts[:depth])
                self._newest[folder] = max(self._newest.get(folder, 0.0), entry.written)

    def leftovers(self) -> Iterator[Leftover]:
        """In the order in which they may go: of a checkpoint its manifest first."""
        for name in sorted(self.entries, key=lambda n: (not n.endswith(".json"), n)):
            told = self._why(name)
            if told is None:
                continue
            root, why = told
            where = store.join(self.uri, root) if root else self.uri
            if why == UNNAMED:
                named = self._named_in(root)
                if named is None:
                    self.left.add(f"{where}: its manifest cannot be read")
                if named is None or name in named:
                    continue
            if self._newest.get(root, 0.0) >= self.fresh:
                self.left.add(f"{where}: written to lately")
            else:
                yield Leftover(store.join(self.uri, name), self.entries[name].bytes, why)

    def _why(self, name: str) -> tuple[str, str] | None:
        """(folder of the output it belongs to, why nobody needs it) of what may be a leftover."""
        if match := HALF.fullmatch(name):
            return match["root"] or "", "a file that a killed process was writing"
        if match := ASIDE.fullmatch(name):
            return self._aside(match["root"] or "", match["aside"])
        if match := PART.fullmatch(name):
            return match["root"] or "", UNNAMED
        if match := NOTE.fullmatch(name):
            return self._note(match["root"] or "", name)
        if match := CHECKPOINT.fullmatch(name):
            return self._checkpoint(match)
        if match := BUNDLE.fullmatch(name):
            root, manifest = match["root"], f"{match['root']}/{match['bundle']}/manifest.json"
            if f"{root}/result.json" in self.entries and manifest not in self.entries:
                return root, "of a bundle without a manifest, in a run that ended"
        return None

    def _aside(self, root: str, aside: str) -> tuple[str, str] | None:
        where = f"{root}/{aside}" if root else aside
        if aside.startswith(".") and (f"{root}/tables.json" if root else "tables.json") in self.entries:
            return root, "rows kept aside for tables that are made"
        if self._newest[where] < self.old:
            return where, "rows kept aside for tables that nobody went on with"
        return None

    def _note(self, root: str, name: str) -> tuple[str, str] | None:
        with suppress(DataError):
            version = str(self._read(name).get("request"))
            folder = f"{root}/{version}" if root else version
            if VERSION.fullmatch(version) and f"{folder}/manifest.json" not in self.entries:
                return root, "a note of a version of a dataset that is gone"
        return None

    def _checkpoint(self, match: re.Match[str]) -> tuple[str, str] | None:
        root, name = match["root"], match["name"]
        if f"{root}/result.json" in self.entries:
            return root, "a checkpoint of a run that ended"
        trial = TRIAL.fullmatch(match["run"])
        if trial and self._searched(trial["study"]):
            return root, "a checkpoint of a trial whose search ended"
        if not name.endswith(".json"):
            attempt, step = name.removesuffix(".safetensors").split("/")
            if f"{root}/checkpoints/{step}-{attempt}.json" not in self.entries:
                return root, "tensors that no checkpoint names"
        return None

    def _searched(self, study: str) -> bool:
        """Whether every search that may have had this trial has a result; names of trials are cut."""
        begun, ended = set[str](), set[str]()
        for name in self.entries:
            match = STUDY.fullmatch(name)
            if match and match["study"][:50] == study:
                (begun if match["file"] == "plan" else ended).add(name.rsplit("/", 1)[0])
        return bool(ended) and begun <= ended

    def _named_in(self, root: str) -> frozenset[str] | None:
        """The parts that a manifest, or the record of a shard, names; None where one is unreadable."""
        if root not in self._named:
            inside = f"{root}/" if root else ""
            shards = re.compile(rf"{re.escape(inside)}shards/[0-9]+\.json")
            try:
                if f"{inside}manifest.json" in self.entries:
                    parts = self._read(f"{inside}manifest.json")["parts"]
                else:
                    parts = [self._read(name) for name in self.entries if shards.fullmatch(name)]
                own = {f"{inside}{part['path']}" for part in parts}
                self._named[root] = frozenset(own | self._shared(root))
            except (DataError, TypeError, KeyError):
                self._named[root] = None
        return self._named[root]

    def _shared(self, root: str) -> set[str]:
        """The parts in a version of a dataset that other versions name, by the manifests that are there now:
        some may have come after the listing.
        """
        here = store.join(self.uri, root) if root else self.uri
        if not VERSION.fullmatch(here):
            return set()
        above, _, version = here.rpartition("/")
        if above not in self._others:
            self._others[above] = named_beside(above)
        begin = f"../{version}/"
        inside = f"{root}/" if root else ""
        return {inside + path.removeprefix(begin) for path in self._others[above] if path.startswith(begin)}

    def _read(self, name: str) -> dict[str, Any]:
        where = store.join(self.uri, name)
        try:
            told = parse_json(store.read_limited(where, MAX_MANIFEST), where=where)
        except FileNotFoundError:  # since it was listed
            raise DataError("MANIFEST", where=where, found="gone") from None
        if not isinstance(told, dict):
            raise DataError("MANIFEST", where=where, found="no JSON object")
        return told

    def remove(self, each: Leftover) -> None:
        store.remove(each.place)
        # the folder of an attempt has one writer; others may be written to at this moment
        folder = Path(store.path_of(each.place)).parent
        if store.scheme_of(self.uri) == "file" and folder.parent.name in ("data", "checkpoints"):
            with suppress(OSError):
                folder.rmdir()


def _home(settings: Settings, *, days: float) -> Iterator[Leftover]:
    """What lies in the home and the temporary folder; of Ray, folders of runs that ended without a word."""
    old = time.time() - 86_400 * days
    for log in sorted(settings.logs.glob("*.log")):
        yield from _older(log, old, f"a log older than {days:g} days")
    for note in sorted((settings.home / "nights").glob("*.json")):
        yield from _older(note, old, f"a note of a run that was not asked for in {days:g} days")
    for pattern in COPIES:
        for copy in sorted(settings.home.glob(pattern)):
            yield from _older(copy, old, f"a copy of a database, older than {days:g} days")
    for result in sorted((settings.home / "prefect" / "storage").glob("*")):
        yield from _older(result, old, f"a result that Prefect remembered, older than {days:g} days")
    for folder in sorted((settings.home / "ray").glob("*")):
        yield from _older(folder, old, f"a folder of Ray, older than {days:g} days")
    for kind in SCRATCH:
        for folder in abandoned(kind):
            yield Leftover(str(folder), _size(folder), f"a folder of an embedded {kind} that is gone")


def _older(path: Path, limit: float, why: str) -> Iterator[Leftover]:
    inside = [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())]
    with suppress(FileNotFoundError):
        if max(p.lstat().st_mtime for p in inside) < limit:
            yield Leftover(str(path), _size(path), why)


def _size(path: Path) -> int:
    with suppress(OSError):
        return sum(p.lstat().st_size for p in (path, *path.rglob("*")) if p.is_file() and not p.is_symlink())
    return 0


def _remove_local(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
