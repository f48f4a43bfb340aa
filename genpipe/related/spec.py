"""The spec of related tables: one file that names the tables and how their rows belong together.

    name: shop
    tables:
      customers: {source: customers.csv, key: id}
      orders: {source: orders.csv, key: id, parent: customers, foreign_key: customer, order_by: date}
      products: {source: products.csv, key: id}
      items: {source: items.csv, key: [order, line], parent: orders, foreign_key: order,
              references: {product: products}}
    gate: {relative: 0.8}
    generate: {rows: 10000}

A table of events without a table of who they happen to names its `entity` column instead of a parent. The
parent decides how many rows there are; `references` name rows of other tables beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError

from genpipe.errors import GenpipeError, UsageError, closest, few
from genpipe.pipeline.headers import column_problems
from genpipe.pipeline.reading import given, spec_error
from genpipe.pipeline.spec import Gate, Generate, SomeHoldout
from genpipe.recipe import FAMILIES, Recipe
from genpipe.recipes import parse_recipe
from genpipe.requests import Part
from genpipe.requests.types import Column, Data, Minutes, Name, Place, Reason, Seed
from genpipe.requests.words import schema_problems
from genpipe.yaml_file import Lines, Path_

Columns = Column | Annotated[tuple[Column, ...], Field(min_length=1, max_length=100)]


class TableSpec(Part):
    """One table. key: the column, or columns together, that tell its rows apart. parent, foreign_key: the
    table whose key stands in that column, or these columns in the key's order. references: further columns
    in which the key of a table may stand. entity: instead of a parent, the column that tells whose row it is.
    order_by: dates, times or numbers in whose order the rows of one parent follow each other (default: that
    of the file).
    """

    source: Data | tuple[Place, ...]
    key: Columns | None = None
    parent: Name | None = None
    foreign_key: Columns | None = None
    references: dict[Column, Name] = Field(default_factory=dict)
    entity: Column | None = None
    order_by: Column | None = None
    schema_file: Annotated[Place | None, Field(alias="schema")] = None
    options: dict[str, Any] = Field(default_factory=dict)
    recipe: str | dict[str, Any] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of the key."""
        return _several(self.key)

    @property
    def link(self) -> tuple[str, ...]:
        """The columns that say to whom a row belongs."""
        return _several(self.foreign_key or self.entity)


def _several(columns: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else columns or ()


class TablesSpec(Part):
    """recipe: of every table that has none of its own. orphans: what becomes of rows whose parent is missing.

    holdout: share of the families, a row without a parent and all that descends from it, that is held out.
    References tie no families: a row of either split may refer to one of the other.
    gate, unchecked, generate: as in a pipeline's spec, for `genpipe run`; generate.rows counts rows without
    parents.
    """

    name: Name
    tables: dict[Name, TableSpec] = Field(min_length=1)
    recipe: str | dict[str, Any] | None = None
    holdout: SomeHoldout = 0.2
    orphans: Literal["fail", "drop"] = "fail"
    seed: Seed = 0
    minutes: Minutes | None = None
    gate: Gate = Gate()
    unchecked: Reason | None = None
    generate: Generate | None = None
    _checked: bool = PrivateAttr(default=False)  # whether `check_tables` has seen it

    def recipe_of(self, name: str) -> Recipe:
        """How the rows of a table are learnt."""
        table = self.tables[name]
        return parse_recipe(table.recipe if table.recipe is not None else self.recipe, "tabular")

    def needs(self) -> dict[str, list[str]]:
        """Table -> the tables that are to be made before it: its parent, and those it refers to, each once.
        No sets: their order is another in every process.
        """
        return {
            n: list(dict.fromkeys([*([t.parent] if t.parent else []), *t.references.values()]))
            for n, t in self.tables.items()
        }


def load_tables(spec: str | Path | Mapping[str, Any] | TablesSpec) -> TablesSpec:
    """A checked spec from a YAML file, a mapping or a spec. Raises SpecError with every problem found."""
    if isinstance(spec, TablesSpec):
        if spec._checked:
            return spec
        spec = plain(spec)
    data, lines, where = given(spec)
    if "source" in data and "tables" not in data:
        found, expected = "the spec of a pipeline", "one of related tables"
        raise UsageError("SPEC", where=where, found=found, expected=expected, fix=f"genpipe run {where}")
    return check_tables(data, lines, where)


def plain(spec: TablesSpec) -> dict[str, Any]:
    """A spec as a parameter of a step: Prefect walks through what it is given, and keeps it as JSON."""
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def trusted(spec: Mapping[str, Any]) -> TablesSpec:
    """The spec again of which `plain` was taken, after it was checked."""
    made = TablesSpec.model_validate(spec)
    made._checked = True
    return made


def check_tables(data: Mapping[str, Any], lines: Lines, where: str) -> TablesSpec:
    """A spec of related tables from a mapping, or a SpecError with all that is wrong with it."""
    try:
        found = TablesSpec.model_validate(data)
    except ValidationError as error:
        raise spec_error(schema_problems(error, TablesSpec), lines, where=where) from None
    problems = [p for name in found.tables for p in (*_links(found, name), *_recipe(found, name))]
    if problems := [*problems, *_generate(found), *_circle(found), *_columns(found)]:
        raise spec_error(problems, lines, where=where)
    found._checked = True
    return found


def _columns(spec: TablesSpec) -> Iterator[tuple[Path_, str]]:
    """Columns that are named and stand in no file."""
    from genpipe.sources import open_source

    for name, table in spec.tables.items():
        try:
            opened = open_source(table.source, kind="tabular", options=table.options)
        except (GenpipeError, TypeError, ValueError):
            continue  # it is told when it is ingested
        keys = ("key", "foreign_key", "entity", "order_by")
        asked = {("tables", name, key): getattr(table, key) for key in keys}
        yield from column_problems(opened, asked | {("tables", name, "references"): tuple(table.references)})


def _generate(spec: TablesSpec) -> list[tuple[Path_, str]]:
    """What is asked of the rows that related tables cannot give."""
    asked = spec.generate.model_fields_set if spec.generate else set()
    return [
        (("generate", key), "not for related tables; expected rows, seed, output and workers")
        for key in ("conditions", "temperature", "rows_per_part")
        if key in asked
    ]


def _circle(spec: TablesSpec) -> list[tuple[Path_, str]]:
    """Tables of which each needs the next; a table that refers to itself is told of in `_references`."""
    try:
        itself = {n for n, t in spec.tables.items() if t.parent != n}
        list(
            TopologicalSorter(
                {n: [o for o in t if o != n or n not in itself] for n, t in spec.needs().items()}
            ).static_order()
        )
    except CycleError as error:
        names = [str(n) for n in error.args[1]]
        tables = [spec.tables[n] for n in names[1:]]
        only = all(t.parent == n for t, n in zip(tables, names, strict=False))
        what = "parents" if only else "parents and references"
        key = "parent" if only or spec.tables[names[0]].parent in names else "references"
        expected = "a table without a parent at the top"
        if not only:
            expected = "tables that can be made one after the other; leave a reference out"
        text = f"found a circle of {what}: {' -> '.join(names)}; expected {expected}"
        return [(("tables", names[0], key), text)]
    return []


def _target(spec: TablesSpec, name: str, other: str) -> str | None:
    """What is wrong with a table that another one names."""
    if other not in spec.tables:
        others = [n for n in spec.tables if n != name]
        hint = closest(other, others)
        text = f"found unknown table {other!r}; expected one of {few(others)}"
        return text + (f"; {hint}" if hint else "")
    if spec.tables[other].key is None:
        return f"found {other!r}, a table without a key; expected one with; add key: to that table"
    return None


def _links(spec: TablesSpec, name: str) -> list[tuple[Path_, str]]:
    """What is wrong with how a table is tied to its parent."""
    table, found = spec.tables[name], list[tuple[str, str]]()
    if table.parent is not None and (text := _target(spec, name, table.parent)):
        found.append(("parent", text))
    elif table.parent and table.foreign_key and len(spec.tables[table.parent].keys) != len(table.link):
        keys = spec.tables[table.parent].keys
        text = f"found {_listed(table.link)}; expected {len(keys)}, for the key of {table.parent!r}"
        found.append(("foreign_key", f"{text}, {_listed(keys)}, in its order"))
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
    roles = {"key": table.keys, "entity" if table.entity else "foreign_key": table.link}
    roles |= {"references": tuple(table.references), "order_by": _several(table.order_by)}
    named = [(role, column) for role, columns in roles.items() for column in columns]
    inside = len({*table.keys} - {*table.link}) > 0  # a key of the parent's columns and others
    for i, (role, column) in enumerate(named):
        for other, same in named[:i]:
            if column == same and not (inside and other == "key" and role in ("foreign_key", "entity")):
                if other == "key" and role == "references" and _settled(table):
                    continue
                found.append((role, _clash(table, role, column, other)))
    return [
        *((("tables", name, key), text) for key, text in found),
        *((("tables", name, "references", c), text) for c, text in _references(spec, name)),
    ]


def _settled(table: TableSpec) -> bool:
    """Whether a key with references differs in every row: it has a column that is made anew, or one reference
    beside all columns of the parent's key, which no two rows of a parent share.
    """
    own = {*table.keys} - {*table.link}
    return bool(own - {*table.references}) or (
        len(own) == 1 and bool(table.link) and {*table.link} < {*table.keys}
    )


def _clash(table: TableSpec, role: str, column: str, other: str) -> str:
    """The complaint about a column of two roles."""
    if other == "key" and role == "references":
        text = f"found {column!r}, a part of a key that generated rows may share; expected the foreign_key's"
        return f"{text} columns and one reference, or a column more that is no reference"
    if other == "key" and role != "key" and len(table.keys) > 1:
        text = (
            f"found a key of {_listed(table.keys)}, all of the {role}; expected one with a column of its own"
        )
        return f"{text}, such as the number of a line"
    return f"found {column!r}, which is the {other}, too; expected another column"


def _listed(columns: tuple[str, ...]) -> str:
    """one column (id), two columns (shop, number)"""
    return f"{len(columns)} column{'s' if len(columns) > 1 else ''} ({', '.join(columns)})"


def _references(spec: TablesSpec, name: str) -> Iterator[tuple[str, str]]:
    """(column, what is wrong with the table it refers to)."""
    for column, other in spec.tables[name].references.items():
        if text := _target(spec, name, other):
            yield column, text
        elif other == name:
            text = f"found {other!r}, the table itself; expected another table: rows that refer to rows of"
            yield column, f"{text} their own table cannot be made; give the column kind: identifier instead"
        elif len(keys := spec.tables[other].keys) > 1:
            text = f"found {other!r}, whose key is {_listed(keys)}; expected a table with a key of one column"
            yield column, f"{text}; only parent and foreign_key take keys of several"


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
    if (table.link or table.references) and not hasattr(FAMILIES[recipe.family.family], "log_probability"):
        ties = "parents" if table.link else "references"
        text = f"found family {recipe.family.family!r} for a table with {ties}; expected one that makes a"
        return [(path, f"{text} row column by column, such as tabular_autoregressive or tabular_trees")]
    return []
