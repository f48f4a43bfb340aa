"""What may go of what is whole: beyond the newest of its name, and named by nobody who stays.

Who stays: of each name the newest `keep` datasets, runs, sets of tables, studies, deliveries and versions;
what an alias of the registry names; the dataset ingested last of its name; what was committed within `older`
days or written within `hours`; and whatever these name. The others go, in the order of `in_order`. Of each
its commit goes first: from then on it is not there for anybody, and what a kill leaves, the next time takes.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from genpipe import store
from genpipe.documents import parse_json
from genpipe.manifest import MAX_MANIFEST
from genpipe.stages.inventory import WORDS, Inventory, Kind, Thing, take_inventory

TRIAL, FOLD = re.compile("-trial[0-9]{3}$"), re.compile("-fold-[0-9]+$")
ORDER: tuple[Kind, ...] = ("version", "delivery", "tables", "study", "run", "copy", "dataset")


def retired(
    root: str, *, keep: int, older: float = 0, hours: float = 24, name: str = "", removing: bool = False
) -> Iterator[tuple[Thing, str]]:
    """What may go of a store and its registry, and why; `removing`, it is gone by then. name: see below."""
    found, needed = take_inventory(root), set[str]()  # needed by a version that got an alias meanwhile
    for thing in surplus(found, keep=keep, older=older, hours=hours, name=name):
        if thing.place in needed:
            continue
        if removing and not remove(thing):
            needed |= found.all_named_by([thing.place])
        else:
            yield thing, f"{WORDS[thing.kind]} that is none of the newest {keep}, and that nobody needs"
    models = {t.name for t in found.things.values() if t.kind == "version" and name in ("", t.name)}
    if removing and models:
        from genpipe.registry.removal import remove_left_files

        for model in models:
            remove_left_files(model)


def surplus(
    found: Inventory, *, keep: int, older: float = 0, hours: float = 24, name: str = ""
) -> list[Thing]:
    """What may go, in the order in which it may. name: of no other, and its trials."""
    now, named, mine = time.time(), defaultdict(list), _names_of(found, name)
    for thing in found.things.values():
        if thing.kind != "copy":  # which are fetched again
            named[thing.kind, thing.name].append(thing)
    stay = {
        thing.place
        for some in named.values()
        for thing in sorted(some, key=lambda t: (t.whole, t.at), reverse=True)[:keep]
    }
    stay |= {
        thing.place
        for thing in found.things.values()
        if thing.aliases
        or thing.latest
        or thing.written > now - 3600 * hours
        or (older and thing.at > now - 86_400 * older)
        or (name and thing.kind != "copy" and TRIAL.sub("", thing.name) not in mine)
        or (thing.kind == "version" and not _is_of_here(found, thing))
    }
    stay = found.all_named_by(stay)
    return in_order(thing for place, thing in found.things.items() if place not in stay)


def in_order(things: Iterable[Thing]) -> list[Thing]:
    """Versions of the registry first, as one may be given an alias meanwhile and then keeps what it needs. Of
    the others those first that name others, so that nothing that is left in the store names what is gone.
    """
    return sorted(things, key=lambda t: (ORDER.index(t.kind), t.name, t.at))


def _names_of(found: Inventory, name: str) -> set[str]:
    """Names of what a pipeline makes: its own, those of its folds, and of the tables it is learnt as."""
    every = [thing for thing in found.things.values() if thing.kind == "tables"]
    sets = [t for t in every if t.name == name or FOLD.sub("", t.name) == name[:48] != t.name]
    return {name, *(t.name for t in sets), *(made for t in sets for made in t.made)}


def _is_of_here(found: Inventory, version: Thing) -> bool:
    """Whether a version came from this store: a registry may hold the models of others."""
    return any(found.things[place].kind != "version" for place in found.named_by(version))


def remove(thing: Thing, *, record: bool = False) -> bool:
    """Whether it is gone. The commit first, then what is left; parts of a dataset that another version names
    stay. record: of a version of the registry also its aliases and the run that registered it.
    """
    if thing.kind == "version":
        from genpipe.registry.removal import remove_version

        name, version = thing.place.removeprefix("models:/").rsplit("/", 1)
        return remove_version(name, version, record=record)
    begun = 1 if thing.whole else 0
    for file in thing.files[:begun]:
        store.remove(store.join(thing.place, file))
    shared = shared_parts(thing.place) if thing.kind == "dataset" else set[str]()
    for file in thing.files[begun:]:
        if file not in shared:
            store.remove(store.join(thing.place, file))
    if store.scheme_of(thing.place) == "file":
        _without_empty_folders(Path(store.path_of(thing.place)))
    return True


def shared_parts(place: str) -> set[str]:
    """The parts of a version of a dataset that others name, by the manifests that are there now."""
    above, _, version = place.rpartition("/")
    begin = f"../{version}/"
    return {path.removeprefix(begin) for path in named_beside(above, begin, but=version)}


def named_beside(folder: str, begin: str = "../", *, but: str = "") -> set[str]:
    """The parts of one another that the versions of a dataset name, `but` one; of those that `begin` so.

    A manifest is parsed only where these letters are in it: who removes many reads each as many times.
    """
    found = set[str]()
    for version in store.names_in(folder):
        where = store.join(folder, version, "manifest.json")
        if version == but or not store.exists(where):
            continue
        try:
            data = store.read_limited(where, MAX_MANIFEST)
        except FileNotFoundError:  # removed since
            continue
        if begin.encode() in data:
            paths = (str(part["path"]) for part in parse_json(data, where=where)["parts"])
            found |= {path for path in paths if path.startswith(begin)}
    return found


def _without_empty_folders(folder: Path) -> None:
    for inside in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        with suppress(OSError):  # of which something is left, or is written at this moment
            inside.rmdir()
    with suppress(OSError):
        folder.rmdir()
