"""What is published of a generator: a local copy that names no folder of this machine, and its fingerprint.

A bundle is published as it is, but without its encoder unless the publisher allows what that is for
(`register --allow latent`): generating needs none, and it tells more of whom the generator learnt from. Of a
set of related tables, as `train_tables` left it:

    tables.json        the relations, with the bundles below by relative paths
    models/00-name/    a bundle for each table
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.folder import WEIGHTS, Origin, read_folder, sha256, write_content
from genpipe.bundle.latent import encoders as encoders_of
from genpipe.bundle.weights import without
from genpipe.registry.relations import MAX_RELATIONS, RELATIONS, holds_tables, relations, wrong
from genpipe.registry.tracking import portable
from genpipe.schema import Schema
from genpipe.version import __version__

BUNDLE, TABLES = "bundle", "tables"
BUNDLE_CODE = Path(__file__).with_name("pyfunc_model.py")


@dataclass(frozen=True)
class Package:
    """artifact: its name among MLflow's artifacts. lineage: tags. params: of the run that registers it.
    schema: of what predict returns. asked: the parameters of predict, with their defaults.
    plugins: requirements of the plug-ins whose entries it uses, such as `genpipe-spectral==0.2`.
    """

    folder: Path
    artifact: str
    fingerprint: str
    lineage: dict[str, str]
    params: dict[str, Any]
    schema: Schema
    asked: dict[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()


def pack(uri: str, scratch: Path, *, encoders: bool = False) -> Package:
    """A verified copy without local folders: what is published leaves this machine. encoders: with them."""
    if holds_tables(uri):
        return _pack_tables(uri, scratch / TABLES)
    return _pack_bundle(uri, scratch / BUNDLE, encoders=encoders)


def _pack_bundle(uri: str, target: Path, *, encoders: bool) -> Package:
    bundle = _portable(uri, str(target), encoders=encoders)
    said = bundle.origin.items() if isinstance(bundle.origin, dict) else ()
    # tags of MLflow's own say who made a run, and what it is part of
    origin = {k: str(v) for k, v in said if isinstance(v, str | int | float) and not k.startswith("mlflow.")}
    about = {"recipe": bundle.recipe.name, "kind": bundle.schema.kind}
    return Package(
        folder=target,
        artifact=BUNDLE,
        fingerprint=bundle.fingerprint,
        lineage={**origin, "bundle_fingerprint": bundle.fingerprint, **about, "code": __version__},
        params=bundle.recipe.model_dump(mode="json"),
        schema=bundle.schema,
        asked={"rows": 100, "seed": 0, "conditions": "{}", "sampling": "{}"},
        plugins=_plugins(bundle),
    )


def _plugins(bundle: Bundle) -> tuple[str, ...]:
    return tuple(map(str, Origin.model_validate(bundle.origin).plugins.values()))


def _pack_tables(uri: str, target: Path) -> Package:
    told = relations(uri)
    try:
        tables = {n["name"]: Schema.model_validate(n["schema_"]) for n in told["nodes"] if n["schema_"]}
        first = next(iter(tables))
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise wrong(store.join(uri, RELATIONS), "no tables with their columns", "nodes") from error
    bundles, recipes, plugins = dict[str, str](), dict[str, str](), dict[str, None]()
    for number, (name, where) in enumerate(told["models"].items()):
        bundles[name] = f"models/{number:02d}-{store.plain_name(name)}"
        where = store.join(uri, where) if not told["uri"] else where
        bundle = _portable(where, str(target / bundles[name]))
        recipes[name], plugins = bundle.recipe.name, plugins | dict.fromkeys(_plugins(bundle))
    try:
        flat = Schema.model_validate(told["panel"]["schema_"]) if told.get("panel") else None
    except (ValueError, KeyError, TypeError) as error:
        raise wrong(store.join(uri, RELATIONS), "a flat table without its columns", "panel") from error
    store.create(str(target / RELATIONS), store.canonical({**told, "uri": "", "models": bundles}))
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
        schema=flat or tables[first],
        asked={**({} if flat else {"table": first}), "rows": 100, "seed": 0},
        plugins=tuple(plugins),
    )


def _portable(source: str, target: str, *, encoders: bool = False) -> Bundle:
    """A copy that names no local folder and, unless they are wanted, makes no codes of rows."""
    found = Bundle.open(source)
    content = read_folder(source)
    origin = {
        k: portable(v) if isinstance(v, str) and v.startswith("/") else v for k, v in found.origin.items()
    }
    if not encoders:
        content[WEIGHTS] = without(content[WEIGHTS], encoders_of(found.family), where=source)
    write_content(target, {**content, "origin.json": store.canonical(origin)})
    return Bundle.open(target)


def fingerprint_of(folder: str) -> str:
    """Of what was packed, the same wherever it lies; every file is compared with its manifest."""
    if not holds_tables(folder):
        return Bundle.open(folder).fingerprint
    content = {
        name: {file: sha256(data) for file, data in read_folder(store.join(folder, name)).items()}
        for name in relations(folder, published=True)["models"].values()
    }
    return store.digest([sha256(store.read_limited(store.join(folder, RELATIONS), MAX_RELATIONS)), content])


def unpack(folder: str, target: str) -> None:
    """Copy what was packed to its place in the store; what tells that it is there comes last."""
    if not holds_tables(folder):
        return write_content(target, read_folder(folder))
    for name in relations(folder, published=True)["models"].values():
        write_content(store.join(target, name), read_folder(store.join(folder, name)))
    store.create(
        store.join(target, RELATIONS), store.read_limited(store.join(folder, RELATIONS), MAX_RELATIONS)
    )
