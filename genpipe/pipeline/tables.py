"""The spec of related tables: one file that names the tables and how their rows belong together.

    name: shop
    tables:
      customers: {source: customers.csv, key: id}
      orders: {source: orders.csv, key: id, parent: customers, foreign_key: customer, order_by: date}
    gate: {relative: 0.8}
    generate: {rows: 10000}

A table of events without a table of who they happen to names its `entity` column instead of a parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from genpipe.errors import UsageError, closest
from genpipe.pipeline.reading import Path_, read_spec, schema_problems, spec_error
from genpipe.pipeline.spec import Column, Gate, Generate, Minutes, Name, Part, Place, Seed
from genpipe.recipe import FAMILIES, Recipe
from genpipe.recipes import parse_recipe


class TableSpec(Part):
    """One table. key: the column that tells its rows apart. parent, foreign_key: the table whose key stands
    in that column. entity: instead of both, the column that tells whose row it is. order_by: dates, times or
    numbers in whose order the rows of one parent follow each other (default: that of the file).
    """

    source: Place | tuple[Place, ...]
    key: Column | None = None
    parent: Name | None = None
    foreign_key: Column | None = None
    entity: Column | None = None
    order_by: Column | None = None
    schema_file: Annotated[Place | None, Field(alias="schema")] = None
    options: dict[str, Any] = Field(default_factory=dict)
    recipe: str | dict[str, Any] | None = None

    @property
    def link(self) -> str | None:
        """The column that says to whom a row belongs."""
        return self.foreign_key or self.entity


class TablesSpec(Part):
    """recipe: of every table that has none of its own. orphans: what becomes of rows whose parent is missing.

    holdout: share of the families, a row without a parent and all that descends from it, that is held out.
    gate, generate: as in a pipeline's spec, for `genpipe run`; generate.rows counts rows without parents.
    """

    name: Name
    tables: dict[Name, TableSpec] = Field(min_length=1)
    recipe: str | dict[str, Any] | None = None
    holdout: Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)] = 0.2
    orphans: Literal["fail", "drop"] = "fail"
    seed: Seed = 0
    minutes: Minutes | None = None
    gate: Gate = Gate()
    generate: Generate | None = None

    def recipe_of(self, name: str) -> Recipe:
        """How the rows of a table are learnt. Of a table with parents what is given comes first, so no column
        of it may be made from a later one, as dependencies found in the data would.
        """
        table = self.tables[name]
        recipe = parse_recipe(table.recipe if table.recipe is not None else self.recipe, "tabular")
        codec = recipe.codec.model_copy(update={"dependencies": False})
        return recipe.model_copy(update={"codec": codec}) if table.link else recipe


def load_tables(spec: str | Path | Mapping[str, Any] | TablesSpec) -> TablesSpec:
    """A checked spec from a YAML file, a mapping or a spec. Raises SpecError with every problem found."""
    if isinstance(spec, TablesSpec):
        spec = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    data, lines, where = (dict(spec), {}, "spec") if isinstance(spec, Mapping) else read_spec(Path(spec))
    try:
        found = TablesSpec.model_validate(data)
    except ValidationError as error:
        raise spec_error(schema_problems(error, TablesSpec), lines, where=where) from None
    problems = [p for name in found.tables for p in (*_links(found, name), *_recipe(found, name))]
    problems += _generate(found)
    try:
        list(TopologicalSorter({n: [t.parent] for n, t in found.tables.items() if t.parent}).static_order())
    except CycleError as error:
        circle = " -> ".join(map(str, error.args[1]))
        text = f"found a circle of parents: {circle}; expected a table without a parent at the top"
        problems.append((("tables", str(error.args[1][0]), "parent"), text))
    if problems:
        raise spec_error(problems, lines, where=where)
    return found


def _generate(spec: TablesSpec) -> list[tuple[Path_, str]]:
    """What is asked of the rows that related tables cannot give."""
    asked = spec.generate.model_fields_set if spec.generate else set()
    return [
        (("generate", key), "not for related tables; expected rows, seed, output and workers")
        for key in ("conditions", "temperature", "rows_per_part")
        if key in asked
    ]


def _links(spec: TablesSpec, name: str) -> list[tuple[Path_, str]]:
    """What is wrong with how a table is tied to another."""
    table, found = spec.tables[name], list[tuple[str, str]]()
    if table.parent is not None and table.parent not in spec.tables:
        others = [n for n in spec.tables if n != name]
        hint = closest(table.parent, others)
        text = f"found unknown table {table.parent!r}; expected one of {', '.join(others)}"
        found.append(("parent", text + (f"; {hint}" if hint else "")))
    elif table.parent is not None and spec.tables[table.parent].key is None:
        text = f"found {table.parent!r}, a table without a key; expected one with; add key: to that table"
        found.append(("parent", text))
    if table.parent and not table.foreign_key:
        text = f"missing; expected the column that holds the key of {table.parent!r}"
        found.append(("foreign_key", text))
    if table.foreign_key and not table.parent:
        found.append(("parent", "missing; expected the table whose key the foreign_key holds"))
    if table.entity and (table.parent or table.foreign_key):
        text = "found both 'entity' and 'parent'; expected one; entity is for rows without a parent table"
        found.append(("entity", text))
    if table.order_by and not table.link:
        found.append(("order_by", "found in a table of single rows; expected it beside parent or entity"))
    roles = {r: getattr(table, r) for r in ("key", "foreign_key", "entity", "order_by")}
    named = [(role, column) for role, column in roles.items() if column]
    for i, (role, column) in enumerate(named):
        for other, same in named[:i]:
            if column == same:
                found.append((role, f"found {column!r}, which is the {other}, too; expected another column"))
    return [(("tables", name, key), text) for key, text in found]


def _recipe(spec: TablesSpec, name: str) -> list[tuple[Path_, str]]:
    """What is wrong with the recipe of a table."""
    table = spec.tables[name]
    path: Path_ = ("tables", name, "recipe") if table.recipe is not None else ("recipe",)
    try:
        recipe = spec.recipe_of(name)
    except UsageError as error:
        return [(path, str(error))]
    if recipe.kind != "tabular":
        return [(path, f"found a recipe for {recipe.kind} data; expected one for tables")]
    if recipe.codec.rare_below:
        text = f"found codec.rare_below: {recipe.codec.rare_below}; expected 0: it counts rows, and one"
        return [(path, f"{text} parent may have many; leave rare values out of the files instead")]
    if table.link and not hasattr(FAMILIES[recipe.family.family], "log_probability"):
        text = f"found family {recipe.family.family!r} for a table with parents; expected one that makes a"
        return [(path, f"{text} row column by column, such as tabular_autoregressive or tabular_trees")]
    return []
