"""train of a flat table of several rows an entity: taken apart (panel_apart.py), learnt as two related
tables.

Writes what train.py writes, and before it the two tables as datasets. What was learnt knows that it was one
table (`TrainedTables.panel`), so the same verbs deliver and judge it in the columns it came in (panel.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset, commit, new_attempt, write_part
from genpipe.errors import UsageError
from genpipe.families import FAMILIES
from genpipe.progress import Progress, silent
from genpipe.recipe import Recipe
from genpipe.recipes import parse_recipe
from genpipe.registry.tracking import portable
from genpipe.related.build import relate
from genpipe.related.panel import ENTITY, ROWS
from genpipe.related.panel_apart import apart, several_rows
from genpipe.related.rows import PART_ROWS
from genpipe.related.spec import TablesSpec, load_tables
from genpipe.related.train import REVISION, TrainedTables, learn, open_tables
from genpipe.requests import Train
from genpipe.schema import Schema
from genpipe.settings import read_settings
from genpipe.version import __version__

FLAT = "table.json"  # beside tables.json: which dataset it was; never published


def by_entity(asked: Train) -> bool:
    """Whether a training learns entities with their rows: it does unless it is told not to, or cannot."""
    if asked.by == "row":
        return False
    dataset = Dataset(asked.dataset)
    why = _not_by_entity(dataset, asked)
    if why and asked.by == "entity":
        fix = "say entity=COLUMN when it is ingested" if not dataset.schema.entity else "leave `by` out"
        raise UsageError("ENTITY", where="by", found=f"entity, but {why}", expected="row", fix=fix)
    return not why


def _not_by_entity(dataset: Dataset, asked: Train) -> str:
    if dataset.schema.kind != "tabular" or not dataset.schema.entity:
        return "the dataset knows of no entity"
    recipe = parse_recipe(asked.recipe, "tabular")
    if not hasattr(FAMILIES[recipe.family.family], "log_probability"):
        return f"recipe {recipe.name!r} draws all columns of a row at once"
    return several_rows(dataset)


def train_panel(asked: Train, *, progress: Progress = silent) -> TrainedTables:
    """Learn a dataset's entities and their rows, as `by_entity` says it can be."""
    dataset, recipe = Dataset(asked.dataset), parse_recipe(asked.recipe, "tabular")
    if asked.final != "train":
        found, fix = f"{asked.final!r} for a table learnt by entity", "leave it out, or say by: row"
        raise UsageError("FINAL", where="final", found=found, expected="'train'", fix=fix)
    name = store.check_name(asked.name or dataset.name)
    request = {
        "data": dataset.fingerprint,
        "recipe": recipe.model_dump(mode="json"),
        **asked.identity(),
        "code": [__version__, REVISION],
    }
    uri = store.join(read_settings().store, "tables", f"{name}-{store.digest(request)}")
    if store.exists(store.join(uri, "tables.json")):
        return open_tables(uri)
    return _learnt(uri, name, dataset, asked, request, progress)


def train_fold(
    fold: Dataset, trained: TrainedTables, number: int, *, progress: Progress = silent
) -> TrainedTables:
    """Some entities of the table that was learnt, by the recipes and terms of it."""
    bundles = {name: Bundle.open(uri) for name, uri in trained.models.items()}
    recipes = {name: bundle.recipe for name, bundle in bundles.items()}
    origin = bundles[ROWS].origin
    asked = Train.of(
        dataset=fold.uri,
        recipe=recipes[ROWS],
        seed=int(origin.get("seed", 0)),
        minutes=origin.get("minutes"),
        name=f"{trained.name[:48]}-fold-{number}",
    )
    request = {
        "data": fold.fingerprint,
        "recipes": {n: r.model_dump(mode="json") for n, r in recipes.items()},
        **asked.identity(),
        "code": [__version__, REVISION],
    }
    name = str(asked.name)
    uri = store.join(read_settings().store, "tables", f"{name}-{store.digest(request)}")
    if store.exists(store.join(uri, "tables.json")):
        return open_tables(uri)
    return _learnt(uri, name, fold, asked, request, progress, recipes)


def _learnt(
    uri: str,
    name: str,
    dataset: Dataset,
    asked: Train,
    request: Mapping[str, Any],
    progress: Progress,
    again: Mapping[str, Recipe] | None = None,
) -> TrainedTables:
    """again: the recipes of bundles, by which it is learnt once more."""
    store.write_bytes(store.join(uri, FLAT), json.dumps({"dataset": portable(dataset.uri)}).encode())
    found = apart(dataset)
    spec = _spec(name, dataset, found.panel.key, found.panel.order, asked)
    data = {
        ENTITY: _written(spec, ENTITY, uri, found.entities, found.about),
        ROWS: _written(spec, ROWS, uri, found.rows, found.schema),
    }
    recipes = again or {n: spec.recipe_of(n) for n in spec.tables}
    related = relate(spec, data, {ENTITY: found.root})
    terms = {"seed": asked.seed, "workers": asked.workers, "minutes": asked.minutes, "tag": asked.tag}
    return learn(uri, spec, recipes, related, request, terms, progress, found.panel, again=again is not None)


def _spec(name: str, dataset: Dataset, key: str, order: str | None, asked: Train) -> TablesSpec:
    """The spec of related tables that a person would have written of the two."""
    recipe = parse_recipe(asked.recipe, "tabular").model_dump(mode="json")
    rows = {"source": dataset.uri, "parent": ENTITY, "foreign_key": key, "order_by": order}
    tables = {ENTITY: {"source": dataset.uri, "key": key}, ROWS: rows}
    return load_tables({"name": name, "recipe": recipe, "seed": asked.seed, "tables": tables})


def _written(spec: TablesSpec, table: str, uri: str, rows: pa.Table, schema: Schema) -> Dataset:
    """One of the two tables as a dataset, all of its rows in order."""
    name = store.plain_name(f"{spec.name}-{table}-rows")
    place = store.join(read_settings().store, "datasets", name, store.digest([uri, table]))
    rows, attempt = rows.select(schema.names).cast(schema.arrow()), new_attempt()
    parts = [
        write_part(place, rows.slice(at, PART_ROWS), split="train", name=f"train-{i:05d}", attempt=attempt)
        for i, at in enumerate(np.arange(0, rows.num_rows, PART_ROWS).tolist())
    ]
    origin = {"stage": "train", "table": table, "rows": rows.num_rows, "notices": []}
    return commit(place, name=name, schema=schema, parts=parts, origin=origin)
