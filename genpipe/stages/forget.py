"""forget: a dataset, and all that was learnt and made from it, unpublished and removed, with a receipt.

Datasets of the same rows under other names are the same data. What derives from it is what names it, what
names that, and so on (inventory.py): runs, searches, sets of related tables, versions in the registry under
any name, and deliveries in the store; with the copies of their bundles and the tables that were made of it to
be learnt. Versions go first, aliases and all, so that nobody is handed what is half gone; the rows go last.
The store and the registry are then looked at again, and the receipt, <store>/forgotten/<name>-<id>.json, says
what went and that nothing was found. It holds places, sizes and fingerprints, no values.

What was handed over elsewhere is not known here: deliveries outside of the store, copies that consumers
loaded, backups, the tables and pictures in Prefect's own history.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from genpipe import store
from genpipe.dataset import Dataset
from genpipe.errors import GenpipeError, InfrastructureError, unknown
from genpipe.names import plain_name
from genpipe.progress import Event, Progress, silent
from genpipe.requests import Forget
from genpipe.settings import read_settings
from genpipe.stages.inventory import Inventory, Thing, take_inventory
from genpipe.stages.named_data import LATEST, dataset_meant, dataset_name
from genpipe.stages.retention import in_order, remove, shared_parts

SECONDS_FRESH = 600


@dataclass(frozen=True)
class Forgotten:
    """found: in the order in which it goes. receipt: where it is written; empty where nothing was removed."""

    dataset: str
    found: tuple[Thing, ...]
    removed: bool
    receipt: str = ""

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.found)


def forget(asked: Forget, *, progress: Progress = silent) -> Forgotten:
    """Find all that derives from a dataset; with `remove`, remove it. Raises UsageError where there is none
    of that name, InfrastructureError where something is left, or something of it was written just now.
    """
    root = read_settings().store
    known = take_inventory(root)
    begin = _meant(asked.dataset, known)
    ordered = in_order(known.things[place] for place in derived(known, begin))
    if not asked.remove:
        return Forgotten(asked.dataset, tuple(ordered), False)
    for thing in ordered:
        if thing.written > time.time() - SECONDS_FRESH and not thing.whole:
            what, fix = "something is being written there", f"end it, or wait {SECONDS_FRESH // 60} minutes"
            raise InfrastructureError(
                "BUSY", where=thing.place, found=what, expected="no work on it", fix=fix
            )
    for done, thing in enumerate(ordered, 1):
        remove(thing, record=True)
        progress(Event("forget", done, len(ordered), unit="outputs", note=thing.place))
    _unnoted(root, ordered)
    return Forgotten(asked.dataset, tuple(ordered), True, _proven(root, asked.dataset, ordered))


def _meant(word: str, known: Inventory) -> set[str]:
    """The datasets, or sets of related tables, that a name or a place means."""
    if "/" in word:
        place = dataset_meant(word).uri
        found = {t.place for t in known.things.values() if t.kind == "dataset" and place.endswith(t.place)}
        return found or {
            t.place for t in known.things.values() if store.path_of(t.place) == store.path_of(place)
        }
    name = dataset_name(word) or word
    found = {t.place for t in known.things.values() if t.kind in ("dataset", "tables") and t.name == name}
    return found or _none(word, known)


def _none(word: str, known: Inventory) -> NoReturn:
    names = sorted({t.name for t in known.things.values() if t.kind in ("dataset", "tables")})
    raise unknown("dataset", word, names, where=read_settings().store)


def derived(known: Inventory, begin: Iterable[str]) -> set[str]:
    """The places of what derives from some, these included."""
    found, before = set(begin), set[str]()
    while found != before:
        before = set(found)
        for place in before:
            found |= _made_for(known, known.things[place]) | _twins(known, known.things[place])
        found = known.all_that_name(found)
    return found


def _twins(known: Inventory, thing: Thing) -> set[str]:
    """Datasets of the same rows under another name: deliveries name rows by their fingerprint alone."""
    if thing.kind != "dataset":
        return set()
    return {
        t.place for t in known.things.values() if t.kind == "dataset" and t.content == thing.content != ""
    }


def _made_for(known: Inventory, thing: Thing) -> set[str]:
    """What nobody but this has: the tables that a set was learnt from, and the copy of a version's bundle."""
    if thing.kind == "version":
        return {p for p in known.named_by(thing) if known.things[p].kind == "copy"}
    if thing.kind != "tables":
        return set()
    return {t.place for t in known.things.values() if t.kind == "dataset" and t.name in thing.made}


def _unnoted(root: str, gone: Iterable[Thing]) -> None:
    """Notes beside versions of a dataset say which one was last, and what was seen in files of them."""
    for name in {thing.name for thing in gone if thing.kind == "dataset"}:
        folder = store.join(root, "datasets", name)
        if not any(Dataset.exists(store.join(folder, child)) for child in store.names_in(folder)):
            for note in ("files", LATEST):
                store.remove(store.join(folder, note))


def _proven(root: str, word: str, gone: list[Thing]) -> str:
    """Look again, and write what went."""
    places = {thing.place for thing in gone}
    known = take_inventory(root)
    left = sorted(places & known.things.keys())
    kept = [place for place in left if _is_shared(known.things[place])]
    if left := sorted(set(left) - set(kept)):
        found, fix = f"{len(left)} outputs are still there", "run the same command again"
        raise InfrastructureError("FORGET", where=left[0], found=found, expected="none", fix=fix)
    told: dict[str, Any] = {
        "dataset": word,
        "at": time.time(),
        "gone": [
            {"kind": t.kind, "place": t.place, "bytes": t.bytes, "files": len(t.files), "aliases": t.aliases}
            for t in gone
        ],
        "looked_at_afterwards": {"outputs": len(known.things), "of_these_left": 0},
        "parts_that_another_version_names": kept,
    }
    where = store.join(root, "forgotten", f"{plain_name(word)}-{store.digest(told)}.json")
    store.create(where, store.canonical(told))
    return where


def _is_shared(thing: Thing) -> bool:
    """Whether all that is left of a version are parts that others name."""
    try:
        return thing.kind == "dataset" and {*thing.files} <= shared_parts(thing.place)
    except GenpipeError:
        return False
