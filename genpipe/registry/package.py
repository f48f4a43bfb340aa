"""What is published of a generator: a local copy that names no folder of this machine, and its fingerprint.

A bundle is published as it is. Of a set of related tables, as `train_tables` left it:

    tables.json        the relations, with the bundles below by relative paths
    models/00-name/    a bundle for each table
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genpipe import __version__, store
from genpipe.bundle import Bundle
from genpipe.bundle.folder import parse_json, read_folder, sha256, write_content
from genpipe.errors import DataError
from genpipe.registry.tracking import portable
from genpipe.schema import Schema

BUNDLE, TABLES = "bundle", "tables"
RELATIONS = "tables.json"
BUNDLE_CODE = Path(__file__).with_name("pyfunc_model.py")


@dataclass(frozen=True)
class Package:
    """artifact: its name among MLflow's artifacts. lineage: tags. params: of the run that registers it.
    schema: of what predict returns. asked: the parameters of predict, with their defaults.
    """

    folder: Path
    artifact: str
    fingerprint: str
    lineage: dict[str, str]
    params: dict[str, Any]
    schema: Schema
    asked: dict[str, Any] = field(default_factory=dict)


def holds_tables(uri: str) -> bool:
    """Whether there is a set of related tables, and not a bundle."""
    return not uri.startswith("models:") and store.exists(store.join(uri, RELATIONS))


def _relations(uri: str) -> dict[str, Any]:
    where = store.join(uri, RELATIONS)
    told = parse_json(store.read_bytes(where), where=where)
    if not isinstance(told, dict) or not {"name", "fingerprint", "nodes", "models"} <= set(told):
        expected = "a model that `genpipe train-tables` made"
        raise DataError("TABLES", where=where, found="no relations of trained tables", expected=expected)
    return told


def name_of_tables(uri: str) -> tuple[str, str]:
    """(name, fingerprint) of a set of tables."""
    told = _relations(uri)
    return str(told["name"]), str(told["fingerprint"])


def pack(uri: str, scratch: Path) -> Package:
    """A verified copy without local folders: what is published leaves this machine."""
    return _pack_tables(uri, scratch / TABLES) if holds_tables(uri) else _pack_bundle(uri, scratch / BUNDLE)


def _pack_bundle(uri: str, target: Path) -> Package:
    bundle = _without_paths(uri, str(target))
    origin = {k: str(v) for k, v in bundle.origin.items() if isinstance(v, str | int | float)}
    about = {"recipe": bundle.recipe.name, "kind": bundle.schema.kind}
    return Package(
        folder=target,
        artifact=BUNDLE,
        fingerprint=bundle.fingerprint,
        lineage={**origin, "bundle_fingerprint": bundle.fingerprint, **about, "code": __version__},
        params=bundle.recipe.model_dump(mode="json"),
        schema=bundle.schema,
        asked={"rows": 100, "seed": 0, "conditions": "{}"},
    )


def _pack_tables(uri: str, target: Path) -> Package:
    told = _relations(uri)
    bundles, recipes = dict[str, str](), dict[str, str]()
    for number, (name, where) in enumerate(told["models"].items()):
        bundles[name] = f"models/{number:02d}-{store.plain_name(name)}"
        where = where if where.startswith("/") or "://" in where else store.join(uri, where)
        recipes[name] = _without_paths(where, str(target / bundles[name])).recipe.name
    store.create(str(target / RELATIONS), store.canonical({**told, "uri": "", "models": bundles}))
    tables = {n["name"]: Schema.model_validate(n["schema_"]) for n in told["nodes"] if n["schema_"]}
    first = next(iter(tables))
    fingerprint = fingerprint_of(str(target))
    return Package(
        folder=target,
        artifact=TABLES,
        fingerprint=fingerprint,
        lineage={
            "name": told["name"],
            "bundle_fingerprint": fingerprint,
            "model_fingerprint": told["fingerprint"],
            "recipe": ", ".join(sorted(set(recipes.values()))),
            "kind": TABLES,
            "tables": ", ".join(tables),
            "code": __version__,
        },
        params={"tables": recipes},
        schema=tables[first],
        asked={"table": first, "rows": 100, "seed": 0},
    )


def _without_paths(source: str, target: str) -> Bundle:
    found = Bundle.open(source)
    content = read_folder(source)
    origin = {
        k: portable(v) if isinstance(v, str) and v.startswith("/") else v for k, v in found.origin.items()
    }
    write_content(target, {**content, "origin.json": store.canonical(origin)})
    return Bundle.open(target)


def fingerprint_of(folder: str) -> str:
    """Of what was packed, the same wherever it lies; every file is compared with its manifest."""
    if not holds_tables(folder):
        return Bundle.open(folder).fingerprint
    content = {
        name: {file: sha256(data) for file, data in read_folder(store.join(folder, name)).items()}
        for name in _relations(folder)["models"].values()
    }
    return store.digest([sha256(store.read_bytes(store.join(folder, RELATIONS))), content])


def unpack(folder: str, target: str) -> None:
    """Copy what was packed to its place in the store; what tells that it is there comes last."""
    if not holds_tables(folder):
        return write_content(target, read_folder(folder))
    for name in _relations(folder)["models"].values():
        write_content(store.join(target, name), read_folder(store.join(folder, name)))
    store.create(store.join(target, RELATIONS), store.read_bytes(store.join(folder, RELATIONS)))
