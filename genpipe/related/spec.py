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
from typing import Any

from pydantic import ValidationError

from genpipe.errors import GenpipeError, UsageError
from genpipe.pipeline.headers import column_problems
from genpipe.pipeline.reading import given, spec_error
from genpipe.related.spec_links import links, recipe
from genpipe.related.spec_tables import TableSpec, TablesSpec
from genpipe.requests.words import schema_problems
from genpipe.yaml_file import Lines, Path_

__all__ = ["TableSpec", "TablesSpec", "check_tables", "load_tables", "plain", "trusted"]


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
    problems = [p for name in found.tables for p in (*links(found, name), *recipe(found, name))]
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
        yield from column_problems(opened, asked | {("tables", name, "references"): table.naming})


def _generate(spec: TablesSpec) -> list[tuple[Path_, str]]:
    """What is asked of the rows that related tables cannot give."""
    asked = spec.generate.model_fields_set if spec.generate else set()
    return [
        (("generate", key), "not for related tables; expected rows, seed, output and workers")
        for key in ("conditions", "temperature", "top_k", "top_p", "no_repeat", "no_copies", "rows_per_part")
        if key in asked
    ]


def _circle(spec: TablesSpec) -> list[tuple[Path_, str]]:
    """Tables of which each is the next one's parent."""
    parents = {n: [t.parent] if t.parent else [] for n, t in spec.tables.items()}
    try:
        list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        names = [str(n) for n in error.args[1]]
        more = "; a table whose rows name others of it has that column under references"
        text = (
            f"found a circle of parents: {' -> '.join(names)}; expected a table without a parent at the top"
        )
        return [(("tables", names[0], "parent"), text + (more if len(names) == 2 else ""))]
    return []
