"""What a person's word for a generator means: a name is looked up in the registry and among runs first.

people                  the champion of that name, or the run that ended last
people.csv, pics/       what was trained on the data from there
people@champion         models:/people@champion; so are people@3, people/3 and models:/people
a folder                of a model or a run
"""

from __future__ import annotations

import os
import re

from genpipe import store
from genpipe.dataset import Dataset
from genpipe.documents import parse_json
from genpipe.errors import DataError, UsageError, unknown
from genpipe.names import earlier_name, plain_name
from genpipe.registry.glance import glance
from genpipe.registry.promotion import CHAMPION
from genpipe.registry.relations import holds_tables
from genpipe.settings import read_settings
from genpipe.stages.named_data import MOST, Meant, dataset_name, from_source, name_of_source

MODEL = re.compile(r"(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]{1,18}))?")
RUN = re.compile(r"(?P<name>.+)-[0-9a-f]{10}(?:[0-9a-f]{10})?")


def model_meant(word: str, *, newest: bool = False) -> Meant:
    """The generator a word names. newest: the run trained last before the champion, for who judges a run."""
    word = os.path.expanduser(word)
    if word.startswith("models:/"):
        rest = word.removeprefix("models:/")
        return Meant(f"{word}@{CHAMPION}" if rest and not set("/@") & set(rest) else word)
    at = MODEL.fullmatch(word)
    if at and at["alias"] and not os.path.exists(word):
        alias = at["alias"]
        return Meant(f"models:/{at['name']}/{alias}" if alias.isdigit() else f"models:/{word}")
    if at and not at["version"] and (found := _by_name(word, newest)):
        return found
    if found := _at_place(word, newest):
        return found
    if at and at["version"]:
        return Meant(f"models:/{word}")
    if at and not os.path.exists(word):
        raise _unknown_model(word)
    return Meant(word)


def models_in_store(*names: str) -> dict[str, list[str]]:
    """Name -> the URIs of finished runs and of related tables, the one that ended last first. names: of no
    others, whose runs are then not looked at.
    """
    root, found = read_settings().store, dict[str, list[tuple[float, str]]]()
    for folder, end in (("runs", "result.json"), ("tables", "tables.json")):
        for child in store.names_in(store.join(root, folder)):
            uri = store.join(root, folder, child)
            match = RUN.fullmatch(child)
            if names and (not match or match["name"] not in names):
                continue
            if match and (when := store.written(store.join(uri, end))) is not None:
                found.setdefault(match["name"], []).append((when, uri))
    return {name: [uri for _, uri in sorted(some, reverse=True)] for name, some in sorted(found.items())}


def registered() -> dict[str, dict[str, str]]:
    """Registered name -> its aliases and their versions. Nothing is made where there is no registry yet."""
    if (seen := glance()) is not None:
        return {name: {a: str(v) for a, v in each.aliases.items()} for name, each in seen.items()}
    from genpipe.registry.tracking import client, reaching

    to, found = client(), dict[str, dict[str, str]]()
    with reaching():
        page = to.search_registered_models(max_results=1000)
        found |= {m.name: dict(m.aliases) for m in page}
        while page.token:
            page = to.search_registered_models(max_results=1000, page_token=page.token)
            found |= {m.name: dict(m.aliases) for m in page}
    return found


def _by_name(word: str, newest: bool) -> Meant | None:
    """A registered champion or a finished run of a name; a file's name means the data's."""
    names = dict.fromkeys((word, plain_name(word), name_of_source(word), earlier_name(word)))
    runs, entered = models_in_store(*names), registered()
    for name in names:
        run = [Meant(_bundle(uri), f"the run {uri}, the last of {name}") for uri in runs.get(name, [])[:1]]
        champion = list[Meant]()
        if version := entered.get(name, {}).get(CHAMPION):
            champion = [Meant(f"models:/{name}/{version}", f"models:/{name}/{version}, its champion")]
        if found := run + champion if newest else champion + run:
            return found[0]
    return None


def _at_place(word: str, newest: bool) -> Meant | None:
    """A bundle, a set of tables, a run's folder, or the models of data at a place."""
    try:
        if holds_tables(word):
            return Meant(word)
        if store.exists(store.join(word, "result.json")):
            return Meant(_bundle(word), f"the model of the run {word}")
        if Dataset.exists(word) and Dataset(word).name:
            return _by_name(Dataset(word).name, newest)
    except (DataError, UsageError):
        return None
    try:
        return _by_name(Dataset(from_source(word)).name, newest)
    except (DataError, UsageError):
        return None


def _bundle(run: str) -> str:
    where = store.join(run, "result.json")
    if not store.exists(where):
        return run
    told = parse_json(store.read_limited(where, MOST), where=where)
    return str(told["uri"]) if isinstance(told, dict) and "uri" in told else run


def _unknown_model(word: str) -> UsageError:
    names = {*models_in_store(), *registered()}
    if name := dataset_name(word):
        return UsageError(
            "NOMODEL",
            where=word,
            found="a dataset that nothing was trained on yet",
            expected="a model",
            fix=f"genpipe train {name}",
        )
    home = str(read_settings().home)
    if names:
        return unknown("model", word, names, where=home)
    return UsageError(
        "UNKNOWN",
        where=home,
        found=f"unknown model {word[:200]!r}",
        expected="one that was trained, and none was yet",
        fix="genpipe ingest FILE, then genpipe train NAME",
    )
