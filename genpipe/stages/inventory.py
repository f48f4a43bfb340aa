"""What a store and its registry hold, and who names whom: what `clean --keep`, `forget` and `show` go by.

    datasets/<name>/<id>     generated/<name>/<id>     runs/<name>-<id>     tables/<name>-<id>
    studies/<name>-<id>      models/<fingerprint>      models:/<name>/<version> in the registry

One listing tells all of it; the document that was each one's commit (a manifest, a result) is read, and what
lies beside it, and every text in them that is another one's place, fingerprint or id counts as a name. So a
run names its dataset, a set of related tables its runs, a version its run, its dataset and the copy of its
bundle, a delivery its version. A document that cannot be read stops it: it may name anybody.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from genpipe import store
from genpipe.dataset import Dataset
from genpipe.documents import MAX_DOCUMENT, parse_json
from genpipe.errors import DataError, InfrastructureError
from genpipe.names import plain_name
from genpipe.remote import answering

Kind = Literal["dataset", "delivery", "run", "tables", "study", "copy", "version"]
KINDS: dict[str, Kind] = {
    "datasets": "dataset",
    "generated": "delivery",
    "runs": "run",
    "tables": "tables",
    "studies": "study",
    "models": "copy",
}
PLACE = re.compile(
    r"(?P<folder>(?:(?P<two>datasets|generated)/(?P<name>[^/]+)/(?P<id>[0-9a-f]{20})"
    r"|(?P<one>runs|tables|studies)/(?P<run>[^/]+)-(?P<run_id>[0-9a-f]{10}(?:[0-9a-f]{10})?)"
    r"|models/(?P<copy>[0-9a-f]{20})))(?:/(?P<file>.+))?"
)
WORDS: dict[Kind, str] = {
    "dataset": "a version of a dataset",
    "delivery": "a delivery",
    "run": "a run",
    "tables": "a generator of related tables",
    "study": "a search",
    "copy": "a copy of a registered model, to be fetched again",
    "version": "a version in the registry",
}
# of each kind the documents that are its commit; the first that is there counts
COMMITS: dict[Kind, tuple[str, ...]] = {
    "dataset": ("manifest.json",),
    "delivery": ("manifest.json", "manifest.parquet", "tables.json"),
    "run": ("result.json",),
    "tables": ("tables.json",),
    "study": ("result.json",),
    "copy": ("manifest.json", "tables.json"),
}
# what is said beside the commit: by a run and a search what they are asked, from when they begin; by a bundle
# what it came from (a twin, an earlier model); by a set of tables made of a flat one, which one that was
BESIDE = re.compile(r"(bundle-[0-9a-f]{8}/)?origin\.json|request\.json|plan\.json|table\.json")
BUNDLE = re.compile(r"(bundle-[0-9a-f]{8})/manifest\.json")
BELOW = re.compile(r"(whole|folds/[^/]+)/manifest\.json")  # datasets of a dataset's own rows
LATEST = re.compile(r"datasets/(?P<name>[^/]+)/latest\.json")


@dataclass(frozen=True)
class Thing:
    """One output. place: its folder's URI, or models:/name/version. at: when it was committed, or written
    last, in seconds since 1970. files: relative to the place, the commit first. written: the newest of its
    files. ids: texts that name it. said: the texts in its documents. made: of a set of tables, names of the
    datasets that were made to learn it. content: fingerprint of a dataset's rows. latest: of its name the
    dataset that was ingested last.
    """

    kind: Kind
    name: str
    place: str
    at: float
    whole: bool = True
    bytes: int = 0
    files: tuple[str, ...] = ()
    written: float = 0.0
    ids: frozenset[str] = frozenset()
    said: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    made: frozenset[str] = frozenset()
    content: str = ""
    latest: bool = False


@dataclass
class Inventory:
    things: dict[str, Thing]
    _by_id: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        for thing in self.things.values():
            for each in thing.ids:
                self._by_id[each].add(thing.place)

    def named_by(self, thing: Thing) -> set[str]:
        """The places of what it names."""
        found = set[str]()
        for text in thing.said:
            found |= self._by_id.get(text, set())
        return found - {thing.place}

    def users(self) -> dict[str, set[str]]:
        """Place -> the places of those that name it."""
        found = defaultdict(set)
        for thing in self.things.values():
            for place in self.named_by(thing):
                found[place].add(thing.place)
        return found

    def all_named_by(self, places: Iterable[str]) -> set[str]:
        """These, what they name, what those name, and so on."""
        return _closed(places, lambda place: self.named_by(self.things[place]))

    def all_that_name(self, places: Iterable[str]) -> set[str]:
        """These, who names them, who names those, and so on."""
        users = self.users()
        return _closed(places, lambda place: users.get(place, set()))


def _closed(places: Iterable[str], more: Any) -> set[str]:
    found, todo = set[str](), list(places)
    while todo:
        place = todo.pop()
        if place not in found:
            found.add(place)
            todo += more(place) - found
    return found


def take_inventory(root: str) -> Inventory:
    """Of a store, and of the models that are registered. Raises InfrastructureError where the registry cannot
    be reached or is another than the one whose models were fetched here: nobody then knows what a champion
    needs; and DataError where a document is damaged.
    """
    listed: dict[str, dict[str, store.Entry]] = defaultdict(dict)
    latest = set[str]()
    for name, entry in store.entries(root).items():
        if (match := PLACE.fullmatch(name)) and match["file"]:
            listed[match["folder"]][match["file"]] = entry
        elif LATEST.fullmatch(name):
            latest.add(name)
    pointed = {place for name in latest if (place := _pointed(root, name))}
    things = [_thing(root, folder, files, folder in pointed) for folder, files in listed.items()]
    versions = [*_versions()]
    if not versions and (copies := [thing.place for thing in things if thing.kind == "copy"]):
        found = "a copy of a registered model, and the registry holds none"
        fix = "set MLFLOW_TRACKING_URI to this store's registry; if its models were removed, remove the copy"
        raise InfrastructureError("REGISTRY", where=copies[0], found=found, fix=fix)
    return Inventory({thing.place: thing for thing in (*things, *versions)})


def _thing(root: str, folder: str, files: Mapping[str, store.Entry], latest: bool) -> Thing:
    match = PLACE.fullmatch(folder)
    assert match is not None
    kind = KINDS[folder.split("/", 1)[0]]
    place = store.join(root, folder)
    commit = next((name for name in COMMITS[kind] if name in files), "")
    newest = max(entry.written for entry in files.values())
    told, own = list[Any](), ""
    if commit.startswith("manifest.") and kind != "copy":
        data = Dataset(place)
        told.append(data.manifest.origin)
        own = data.fingerprint if kind == "dataset" else ""  # rows that were made may be equal by chance
    elif commit:
        told.append(_read(place, commit))
        own = str(told[0].get("fingerprint", "")) if kind == "tables" else ""
    told += [_read(place, name) for name in files if BESIDE.fullmatch(name) and name != commit]
    ids = {own, folder, store.path_of(place), match["run_id"] or match["copy"] or folder} - {""}
    return Thing(
        kind=kind,
        name=match["name"] or match["run"] or match["copy"],
        place=place,
        at=files[commit].written if commit else newest,
        whole=bool(commit),
        bytes=sum(entry.bytes for entry in files.values()),
        files=tuple(sorted(files, key=lambda name: (name != commit, name))),
        written=newest,
        ids=frozenset(ids | _fingerprints(place, files)),
        said=frozenset(_texts(told)),
        made=_made(match["run"], told[0]) if kind == "tables" and commit else frozenset(),
        content=own if kind == "dataset" else "",
        latest=latest,
    )


def _read(place: str, name: str) -> Any:
    where = store.join(place, name)
    with answering(where):
        return parse_json(store.read_limited(where, MAX_DOCUMENT), where=where)


def _fingerprints(place: str, files: Iterable[str]) -> set[str]:
    """Of bundles in a run, and of datasets below a dataset: by these deliveries name what made them."""
    found = set[str]()
    for name in files:
        if BUNDLE.fullmatch(name):
            told = _read(place, name)["files"]
            found.add(store.digest({each: about["sha256"] for each, about in told.items()}))
        elif match := BELOW.fullmatch(name):
            found.add(Dataset(store.join(place, match[1])).fingerprint)
    return found


def _made(name: str, told: Any) -> frozenset[str]:
    """Names of the datasets of a set of tables: the rows as they are, and flat."""
    tables = (str(node["name"]) for node in told["nodes"])
    return frozenset(plain_name(f"{name}-{table}{end}") for table in tables for end in ("", "-rows"))


def _texts(value: Any) -> Iterator[str]:
    """All texts in a document; of those that name something of this store in more words, the name alone."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value
        if re.fullmatch("[0-9a-f]{20}", value):
            yield value[:10]  # as folders of runs have it
        elif re.fullmatch("[^/]+@[0-9a-f]{20}", value):
            yield value[-20:]  # a bundle that is not registered
        elif "/" in value and (match := re.search(PLACE.pattern + "$", value)):
            yield match["folder"]


def _pointed(root: str, name: str) -> str:
    """The folder of the dataset that `latest.json` speaks of."""
    where = store.join(root, name)
    try:
        told = parse_json(store.read_limited(where, 2**20), where=where)
        return f"{name.rpartition('/')[0]}/{told['request']}"
    except (FileNotFoundError, DataError, KeyError, TypeError):
        return ""


def _versions() -> Iterator[Thing]:
    """Of all models, also of those that are not of genpipe: they may be copies of a version that is."""
    from genpipe.stages.named_models import registered

    if not (names := registered()):
        return
    from genpipe.registry.removal import every_version

    for version in every_version():
        uri, source = f"models:/{version.name}/{version.version}", str(version.source)
        aliases = names.get(version.name, {}).items()
        yield Thing(
            kind="version",
            name=version.name,
            place=uri,
            at=(at := (version.creation_timestamp or 0) / 1000),
            written=at,
            ids=frozenset({uri, source}),
            said=frozenset(_texts([*version.tags.values(), source])),
            aliases=tuple(sorted(a for a, of in aliases if str(of) == str(version.version))),
        )
