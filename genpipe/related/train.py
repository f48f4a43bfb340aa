"""train_tables: a spec of related tables -> one generator a table, and how they belong together.

Writes <store>/datasets/<name>-<table>/<request id>/, the flat rows of each table (flatten.py), a run of
`train` for each, and <store>/tables/<name>-<request id>/tables.json, created last. The same request is the
same result, done once; interrupted, it goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from genpipe import store
from genpipe.bundle.folder import read_document
from genpipe.dataset import (
    FEWEST_FOLDED,
    MIN_HOLDOUT,
    MOST_FOLDED,
    Dataset,
)
from genpipe.errors import DataError
from genpipe.progress import Event, Progress, silent
from genpipe.recipe import Recipe
from genpipe.registry import Resolved, holds_tables, resolve
from genpipe.registry.relations import relations
from genpipe.registry.tracking import placed
from genpipe.related.build import relate
from genpipe.related.flatten import Related
from genpipe.related.nodes import Node
from genpipe.related.one_table import best_of, given_first, together
from genpipe.related.panel import Panel
from genpipe.related.rows import as_it_is, flat_of
from genpipe.related.spec import TablesSpec, load_tables
from genpipe.requests import Train
from genpipe.settings import read_settings
from genpipe.stages.checked import NOTHING
from genpipe.stages.train.process import TrainedModel
from genpipe.stages.train.verb import train_as
from genpipe.version import __version__

REVISION = 6  # of flat rows and of how they are learnt; part of every request id
ENTITIES = 2.0  # times the penalty where what is usual of rows tells of each entity, too


class TrainedTables(BaseModel):
    """A generator of related tables. `str(model)` is the URI of its folder.

    nodes: the tables and entities, parents before children. models: the bundle of each.
    fingerprint: of all models and relations. panel: how the one flat table was taken apart, if it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    uri: str
    name: str
    nodes: tuple[Node, ...]
    models: dict[str, str]
    metrics: dict[str, dict[str, float]]
    fingerprint: str
    panel: Annotated[Panel | None, Field(exclude_if=lambda panel: panel is None)] = None

    @model_validator(mode="after")
    def _kin(self) -> TrainedTables:
        """Names that can be folders; parents and tables that are referred to before those that name them."""
        if not any(node.schema_ for node in self.nodes):
            raise ValueError("no table")
        before = dict[str, Node]()
        for node in self.nodes:
            above = {*([node.parent] if node.parent else []), *(r.table for r in node.matched)}
            if node.name in before or not above <= before.keys() or node.name not in self.models:
                raise ValueError(f"table {node.name[:80]!r} twice, without its model, or before its parents")
            if not node.parent and node.rows < 1:
                raise ValueError(f"table {node.name[:80]!r} of {node.rows} rows")
            before[node.name] = node
        for name, node in before.items():
            if (node.schema_ or name in self.referred) and not store.is_name(name):
                raise ValueError(f"a table called {name[:80]!r}")
            made = {
                *node.link,
                *(f.name for f in (*node.key, *node.own)),
                *(name for r in node.references for name in r.names),
            }
            made |= {node.order.field.name} if node.order else set()
            if node.schema_ and not {*node.schema_.names} <= made:
                raise ValueError(f"table {name[:80]!r} with columns that nothing makes")
            if missing := {*node.children} - before.keys():
                raise ValueError(
                    f"table {name[:80]!r} with children {sorted(missing)[:3]} that are not there"
                )
        return self

    def __str__(self) -> str:
        return self.uri

    @cached_property
    def note(self) -> str:
        """What is to be said where too few entities are held out to judge by; else empty."""
        named = {r.table for n in self.nodes for r in n.references}
        roots = [n for n in self.nodes if n.parent is None]
        lookup = [n.name in named and not n.children and not n.references for n in roots]
        root = next((n.name for n, one in zip(roots, lookup, strict=True) if not one), roots[0].name)
        data = Dataset(placed(str(read_document(self.models[root], "origin")["dataset_uri"])))
        held = data.rows("holdout")
        if held >= MIN_HOLDOUT:
            return ""
        if self.panel and FEWEST_FOLDED <= held + data.rows("train") <= MOST_FOLDED:
            return f"NOT CHECKED YET: {held} held-out entities are too few, `genpipe evaluate` will cross-fit"
        return f"{NOTHING.upper()}, and nothing can be: {held} held-out entities (it takes {MIN_HOLDOUT})"

    @property
    def shape(self) -> list[tuple[Any, ...]]:
        """Tables, whose children they are and what is learnt of them: equal where two can be compared."""
        return [(n.name, n.parent, [(f.name, f.kind) for f in n.own]) for n in self.nodes]

    def family(self, root: str) -> list[Node]:
        """A table without parents and all that descends from it, parents before children."""
        found = {root}
        for node in self.nodes:
            if node.parent in found:
                found.add(node.name)
        return [n for n in self.nodes if n.name in found]

    @property
    def referred(self) -> set[str]:
        """Tables whose rows are looked for by what they are like."""
        return {r.table for n in self.nodes for r in (*n.matched, *n.late)}

    def node(self, name: str) -> Node:
        return next(n for n in self.nodes if n.name == name)

    @cached_property
    def rounds(self) -> dict[str, int]:
        """Table -> the round in which it is made: with its parent if it can be, after all it refers to. One
        without parents is made as late as may be, so that few have to be drawn again for their children.
        """
        first, out = dict[str, int](), dict[str, int]()
        for n in self.nodes:
            first[n.name] = max([0, *_after(n, first)])
        latest = dict.fromkeys(first, max(first.values()))
        for n in reversed(self.nodes):
            for other, sooner in ((n.parent, 0), *((r.table, 1) for r in n.matched)):
                if other:
                    latest[other] = min(latest[other], latest[n.name] - sooner)
        for n in self.nodes:
            out[n.name] = max([*([] if n.parent else [latest[n.name]]), *_after(n, out)])
        return out

    def needed(self, root: str, round_: int) -> list[Node]:
        """The tables of a family that are made in a round, and those above them; parents before children."""
        found = set[str | None]()
        for node in reversed(self.family(root)):
            if self.rounds[node.name] == round_ or node.name in found:
                found |= {node.name, node.parent}
        return [n for n in self.nodes if n.name in found]


def _after(node: Node, rounds: Mapping[str, int]) -> list[int]:
    """The least rounds that the parent and the references of a table allow."""
    above = [rounds[node.parent]] if node.parent else []
    return above + [rounds[r.table] + 1 for r in node.matched]


@lru_cache(maxsize=8)
def open_tables(uri: str) -> TrainedTables:
    """What `train_tables` made, by its URI."""
    where = store.join(uri.rstrip("/"), "tables.json")
    try:
        made = TrainedTables.model_validate(relations(uri.rstrip("/")))
    except FileNotFoundError:
        found, expected = "no tables.json", "a folder `genpipe train` made of a spec of tables"
        raise DataError("NOTABLES", where=uri, found=found, expected=expected) from None
    except ValueError as error:
        found, fix = str(error).splitlines()[0], "train again with this genpipe"
        raise DataError("TABLES", where=where, found=found, fix=fix) from error
    if made.uri:
        return made
    beside = {name: store.join(uri, path) for name, path in made.models.items()}  # as it is published
    return made.model_copy(update={"uri": uri.rstrip("/"), "models": beside})


def find_tables(model: object) -> tuple[Resolved, TrainedTables]:
    """What `train_tables` returned, its URI, or "models:/name@champion" -> where it is, and what."""
    uri = str(model)
    if not uri.startswith("models:") and not holds_tables(uri):
        open_tables(uri)  # says what is missing
    resolved = resolve(uri)
    return resolved, open_tables(resolved.uri)


def train_tables(
    spec: str | Path | Mapping[str, Any] | TablesSpec,
    *,
    workers: int = 0,
    progress: Progress = silent,
) -> TrainedTables:
    """Learn related tables from one spec: a YAML file, a mapping or a TablesSpec (related/spec.py).

    workers: of each training, see `train`. Raises SpecError for a spec that is wrong in itself, DataError
    where rows and keys do not agree, both before anything is trained.
    """
    spec = load_tables(spec)
    terms = {"seed": spec.seed, "workers": workers, "minutes": spec.minutes}
    data = {name: as_it_is(spec, name, progress) for name in spec.tables}
    recipes = {name: spec.recipe_of(name) for name in spec.tables}
    asked = {
        "data": {name: d.fingerprint for name, d in data.items()},
        "spec": spec.model_dump(mode="json", exclude={"recipe", "gate", "generate", "unchecked"}),
        "recipes": {name: r.model_dump(mode="json") for name, r in recipes.items()},
        "code": [__version__, REVISION],
    }
    uri = store.join(read_settings().store, "tables", f"{spec.name}-{store.digest(asked)}")
    if store.exists(store.join(uri, "tables.json")):
        return open_tables(uri)
    recipes = {name: together(recipe) for name, recipe in recipes.items()}
    return learn(uri, spec, recipes, relate(spec, data), asked, terms, progress)


def learn(
    uri: str,
    spec: TablesSpec,
    recipes: Mapping[str, Recipe],
    related: list[Related],
    asked: Mapping[str, Any],
    terms: Mapping[str, Any],
    progress: Progress,
    panel: Panel | None = None,
    *,
    again: bool = False,
) -> TrainedTables:
    """Tables that are tied by their keys, each by its recipe, into `uri`. asked: what the bytes depend on.
    terms: of each training, see `train`. again: by recipes of bundles, in which nothing is left to the data.
    """
    nodes = {r.node.name: r.node for r in related}
    flat = {r.node.name: flat_of(spec, r, nodes, store.digest([uri, "flat"])) for r in related}
    made: dict[str, TrainedModel] = {}
    for done, (name, node) in enumerate(nodes.items()):
        progress(Event("train-tables", done, len(nodes), "tables", note=name))
        recipe = given_first(recipes[name if name in recipes else node.children[0]], flat[name], node)
        if again:
            made[name] = train_as(
                flat[name], recipe, Train.of(dataset=flat[name].uri, **terms), progress=progress
            )
            continue
        times = ENTITIES if panel and not node.parent else 1.0
        made[name] = best_of(flat[name], recipe, terms, progress, times)
    result = TrainedTables(
        uri=uri,
        name=spec.name,
        nodes=tuple(nodes.values()),
        models={name: m.uri for name, m in made.items()},
        metrics={name: dict(m.metrics) for name, m in made.items()},
        fingerprint=store.digest([asked, [m.uri.rsplit("/", 1)[1] for m in made.values()]]),
        panel=panel,
    )
    store.create(store.join(uri, "tables.json"), result.model_dump_json(indent=1).encode())
    return result
