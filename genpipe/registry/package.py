"""What is published of a generator: a local copy that names no folder of this machine, and its fingerprint.

A bundle is published as it is, but without its encoder unless the publisher allows what that is for
(`register --allow latent`): generating needs none, and it tells more of whom the generator learnt from. Of a
set of related tables, as `train_tables` left it:

    tables.json        the relations, with the bundles below by relative paths
    models/00-name/    a bundle for each table
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.folder import WEIGHTS, Origin, parse_json, read_folder, sha256, write_content
from genpipe.bundle.latent import encoders as encoders_of
from genpipe.bundle.weights import without
from genpipe.errors import DataError
from genpipe.registry.tracking import portable
from genpipe.schema import Schema
from genpipe.version import __version__

BUNDLE, TABLES = "bundle", "tables"
RELATIONS = "tables.json"
MAX_RELATIONS, MAX_TABLES = 64 * 2**20, 1000
FINGERPRINT = re.compile(r"[0-9a-f]{20}")  # what `store.digest` makes
PLACE = re.compile(r"models/[0-9]{2,4}-[a-z0-9][a-z0-9._-]{0,62}")  # of a bundle in a published set
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


def holds_tables(uri: str) -> bool:
    """Whether there is a set of related tables, and not a bundle."""
    return not uri.startswith("models:") and store.exists(store.join(uri, RELATIONS))


def relations(uri: str, *, published: bool = False) -> dict[str, Any]:
    """What tables.json says, checked as far as it names things: a stranger may have written it.

    A set that was published has no place of its own, and its bundles lie in the folder, behind no link; else
    they are where `train_tables` left them, at absolute places. Raises FileNotFoundError and DataError.
    """
    where = store.join(uri, RELATIONS)
    told = parse_json(store.read_limited(where, MAX_RELATIONS), where=where)
    if not isinstance(told, dict) or not {"name", "fingerprint", "nodes", "models"} <= set(told):
        expected = "a model that `genpipe train` made of a spec of tables"
        raise DataError("TABLES", where=where, found="no relations of trained tables", expected=expected)
    models, own = told["models"], told.get("uri", "")
    places = models.values() if isinstance(models, dict) else [None]
    texts = [told["name"], told["fingerprint"], own, *places]
    if not all(isinstance(text, str) for text in texts) or not 0 < len(models) <= MAX_TABLES:
        raise _wrong(where, "values of another kind", "text, and for each table the place of its bundle")
    if not store.is_name(told["name"]) or not FINGERPRINT.fullmatch(told["fingerprint"]):
        raise _wrong(where, "an impossible name or fingerprint", "those that `genpipe train` gave")
    if published and own:
        raise _wrong(where, "a set that lies elsewhere", "one that was published")
    for place in models.values():
        if own and not (place.startswith("/") or "://" in place):
            raise _wrong(where, f"the place {place[:80]!r}", "an absolute one")
        if not own and not (PLACE.fullmatch(place) and _inside(uri, place)):
            raise _wrong(where, f"the place {place[:80]!r}", "a folder such as models/00-name, and no link")
    return told


def _wrong(where: str, found: str, expected: str) -> DataError:
    return DataError("TABLES", where=where, found=found, expected=expected, fix="train and register again")


def _inside(uri: str, place: str) -> bool:
    """Whether a folder below `uri` is really there: no part of its path below is a link."""
    if store.scheme_of(uri) != "file":
        return True
    root = Path(store.path_of(uri)).resolve()
    return (root / place).resolve() == root / place


def name_of_tables(uri: str) -> tuple[str, str]:
    """(name, fingerprint) of a set of tables."""
    told = relations(uri)
    return told["name"], told["fingerprint"]


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
        asked={"rows": 100, "seed": 0, "conditions": "{}"},
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
        raise _wrong(store.join(uri, RELATIONS), "no tables with their columns", "nodes") from error
    bundles, recipes, plugins = dict[str, str](), dict[str, str](), dict[str, None]()
    for number, (name, where) in enumerate(told["models"].items()):
        bundles[name] = f"models/{number:02d}-{store.plain_name(name)}"
        where = store.join(uri, where) if not told["uri"] else where
        bundle = _portable(where, str(target / bundles[name]))
        recipes[name], plugins = bundle.recipe.name, plugins | dict.fromkeys(_plugins(bundle))
    try:
        flat = Schema.model_validate(told["panel"]["schema_"]) if told.get("panel") else None
    except (ValueError, KeyError, TypeError) as error:
        raise _wrong(store.join(uri, RELATIONS), "a flat table without its columns", "panel") from error
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
