"""What a person's word for data means: a name is looked up in the store first.

    people                  the dataset of that name that was ingested last
    people.csv, pics/       the dataset that was ingested from there
    a folder                of a dataset

`<store>/datasets/<name>/latest.json` says which dataset the last ingest command of a name gave, and from what
source: a store that holds none is of an earlier version, and there the newest dataset is the last.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genpipe import store
from genpipe.databases import Address, is_database
from genpipe.dataset import Dataset
from genpipe.documents import parse_json
from genpipe.errors import ConflictError, DataError, GenpipeError, UsageError, unknown
from genpipe.names import earlier_name, is_name, plain_name
from genpipe.redaction import shown
from genpipe.settings import read_settings

Source = str | Sequence[str]
LATEST, MOST = "latest.json", 2**20


@dataclass(frozen=True)
class Meant:
    """uri: what the stages open. said: what was taken, in words; empty where the word was exact."""

    uri: str
    said: str = ""


def name_of_source(source: Source) -> str:
    """A dataset's name from its input: People 2024.csv.gz -> people-2024, 2024.sales.csv -> 2024.sales."""
    first = source if isinstance(source, str) else source[0]
    if is_database(first):
        return plain_name(Address.parse(first).name)
    plain = [
        p for p in first.removeprefix("builtin:").rstrip("/").split("/") if p and "*" not in p and p != "s3:"
    ]
    return plain_name(_stem(plain[-1]) if plain else "data")


def _stem(file: str) -> str:
    """A file's name without what says its format: .csv.gz goes, and of 2024.sales.csv the .csv alone."""
    ends = file.split(".")
    while len(ends) > 1 and ends[0] and re.fullmatch("[A-Za-z][A-Za-z0-9]{0,7}", ends[-1]):
        packed = ends.pop().lower() in ("gz", "zst", "zip", "bz2", "xz")
        if not packed:
            break
    return ".".join(ends)


def taken(name: str, source: Source) -> None:
    """Raise ConflictError where this name, which nobody said, is that of data from elsewhere."""
    told = _latest(name)
    if not told or told.get("source") == _absolute(source):
        return
    first = source if isinstance(source, str) else source[0]
    folder = Path(first.split("://")[-1]).absolute().parent.name
    other = plain_name(f"{folder}-{name}") if folder else f"{name}-2"
    raise ConflictError(
        "NAMETAKEN",
        where=str(first),
        found=f"its name would be {name!r}, which is that of {shown(str(told.get('source')), 200)}",
        expected="a name for each source",
        fix=f"say --name {other} (name={other!r}), or --name {name} if it takes the place of the other",
    )


def note_ingested(name: str, request: str, source: Source) -> None:
    """Remember the last ingest command of a name."""
    told = {"request": request, "source": _absolute(source), "at": time.time()}
    store.write_bytes(store.join(_datasets(), name, LATEST), store.canonical(told))


def dataset_meant(word: str) -> Meant:
    """The dataset a word names. Raises UsageError or DataError that tells what there is."""
    word = os.path.expanduser(word)
    if is_database(word):
        return Meant(found := from_source(word), _about(found))
    if "://" in word:
        return Meant(word, _about(word))
    name = "" if "/" in word else dataset_name(word)
    if name:
        found = _last_of(name)
        beside = Dataset.exists(word) and str(Path(word).absolute()) != found
        also = f"; the folder {word} is a dataset too, say ./{word} for it" if beside else ""
        return Meant(found, f"{_about(found)}{also}")
    if Dataset.exists(word):
        return Meant(word, _about(word))
    return Meant(found := from_source(word), _about(found))


def datasets_in_store() -> list[str]:
    """Names of which there is a dataset: a refused ingest leaves a folder without one."""
    return [name for name in store.names_in(_datasets()) if is_name(name) and dataset_name(name) == name]


def latest_of(name: str) -> tuple[Dataset, float]:
    """The last dataset of a name and when it was ingested."""
    uri = _last_of(name)
    at = _latest(name).get("at") or store.written(store.join(uri, "manifest.json")) or 0.0
    return Dataset(uri), float(at)


def _datasets() -> str:
    return store.join(read_settings().store, "datasets")


def _latest(name: str) -> dict[str, Any]:
    where = store.join(_datasets(), name, LATEST)
    try:
        told = parse_json(store.read_limited(where, MOST), where=where)
    except (FileNotFoundError, DataError):  # a note, and no more: what it speaks of is looked for
        return {}
    known = isinstance(told, dict) and re.fullmatch("[0-9a-f]{20}", str(told.get("request")))
    return told if known and isinstance(told.get("at"), int | float) else {}


def _absolute(source: Source) -> str | list[str]:
    if not isinstance(source, str):
        return [str(_absolute(one)) for one in source]
    if is_database(source):
        return str(Address.parse(source))
    return source if "://" in source or source.startswith("builtin:") else os.path.abspath(source)


def dataset_name(word: str) -> str:
    """The name in the store that a word without a slash says, as it is now or was given before; or none."""
    for name in dict.fromkeys((word, plain_name(word), earlier_name(word))):
        if name and is_name(name) and (_noted(name) or _manifests(name)):
            return name
    return ""


def _manifests(name: str) -> list[tuple[float, str]]:
    """(when, URI) of the datasets of a name."""
    root = store.join(_datasets(), name)
    uris = [store.join(root, child) for child in store.names_in(root) if child != LATEST]
    times = [(store.written(store.join(uri, "manifest.json")), uri) for uri in uris]
    return sorted((when, uri) for when, uri in times if when is not None)


def _last_of(name: str) -> str:
    return _noted(name) or _manifests(name)[-1][1]


def _noted(name: str) -> str:
    """The URI of the dataset that the note of a name speaks of, if it is there; no other is looked at."""
    if request := _latest(name).get("request"):
        uri = store.join(_datasets(), name, str(request))
        return uri if Dataset.exists(uri) else ""
    return ""


def from_source(word: str) -> str:
    """The dataset that was ingested from a file or folder of the user's."""
    name = name_of_source(word)
    there = bool(store.scheme_of(word) == "file" and os.path.exists(word))
    for each in dict.fromkeys((name, earlier_name(name), *(datasets_in_store() if there else ()))):
        if not each or dataset_name(each) != each:
            continue
        if _latest(each).get("source") in (_absolute(word), [_absolute(word)]):
            return _last_of(each)
    if there:
        raise DataError(
            "NODATASET",
            where=word,
            found="a file or folder that was not ingested yet",
            expected="a dataset's name, or what `genpipe ingest` made",
            fix=f"genpipe ingest {shlex.quote(word)}, then genpipe train {dataset_name(name) or name}",
        )
    if "/" in word:
        raise DataError(
            "NODATASET", where=word, found="nothing there", expected="a folder `genpipe ingest` made"
        )
    if names := datasets_in_store():
        raise unknown("dataset", word, names, where=_place())
    files = [
        each.name for each in Path().glob(f"{glob.escape(word)}.*") if each.suffix not in (".yaml", ".yml")
    ]
    fix = f"genpipe ingest {shlex.quote(files[0]) if files else 'FILE'} first"
    found, expected = f"unknown dataset {shown(word, 200)!r}", "one that was ingested, and none was yet"
    raise UsageError("UNKNOWN", where=_place(), found=found, expected=expected, fix=fix)


def _place() -> str:
    return f"{_datasets()} (GENPIPE_HOME is {read_settings().home})"


def _about(uri: str) -> str:
    """What a dataset is: source, version, when, rows."""
    try:
        dataset = Dataset(uri)
        origin, rows = dataset.manifest.origin, dataset.rows("train")
    except GenpipeError:
        return ""  # whoever opens it says what is wrong with it
    told = _latest(dataset.name)
    mine = told.get("request") == uri.rsplit("/", 1)[-1]
    source = told.get("source") if mine else origin.get("source")
    when = told.get("at") if mine else store.written(store.join(uri, "manifest.json"))
    day = time.strftime(", ingested %Y-%m-%d %H:%M", time.localtime(float(when))) if when else ""
    named = source if isinstance(source, str) else ", ".join(map(str, source or ()))
    held = dataset.rows("holdout")
    return (
        f"dataset {dataset.name}, version {dataset.fingerprint[:8]}"
        f"{f' of {shown(named, 160)}' if named else ''}{day}, {rows:,} rows to learn from, {held:,} held out"
    )
