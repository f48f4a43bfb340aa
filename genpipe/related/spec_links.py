"""What is wrong with how the tables of a spec are tied: parents, keys, references, and recipes for them."""

from __future__ import annotations

from collections.abc import Iterator

from genpipe.errors import UsageError, closest, few
from genpipe.recipe import FAMILIES
from genpipe.related.spec_tables import TableSpec, TablesSpec, several
from genpipe.yaml_file import Path_


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


def links(spec: TablesSpec, name: str) -> list[tuple[Path_, str]]:
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
    roles |= {"references": table.naming, "order_by": several(table.order_by)}
    named = [(role, column) for role, columns in roles.items() for column in columns]
    inside = len({*table.keys} - {*table.link}) > 0  # a key of the parent's columns and others
    for i, (role, column) in enumerate(named):
        for other, same in named[:i]:
            if column == same and not (inside and other == "key" and role in ("foreign_key", "entity")):
                if other == "key" and role == "references" and _settled(table):
                    continue
                if other == "key" and role == "foreign_key" and table.single:
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
    own, named = {*table.keys} - {*table.link}, [{*columns} for columns in table.named.values()]
    return bool(own - {*table.naming}) or (
        own in named and bool(table.link) and {*table.link} < {*table.keys}
    )


def _clash(table: TableSpec, role: str, column: str, other: str) -> str:
    """The complaint about a column of two roles."""
    if other == "key" and role == "references" and {*table.keys} in map(set, table.named.values()):
        text = f"found {column!r}, which is the key, too; expected it as foreign_key, with that table as the"
        return f"{text} parent: then a row of it has one here, or none"
    if other == "key" and role == "references":
        text = f"found {column!r}, a part of a key that generated rows may share; expected the foreign_key's"
        return f"{text} columns and one reference, or a column more that is no reference"
    if other == "key" and role != "key" and len(table.keys) > 1:
        text = (
            f"found a key of {_listed(table.keys)}, all of the {role}; expected one with a column of its own"
        )
        all_ = "" if role == "entity" else f", or all {len(table.link)} columns of the foreign_key"
        return f"{text}, such as the number of a line{all_}"
    if other == "foreign_key" and role == "references":
        text = f"found {column!r}, which is the foreign_key, too; expected another column; or that table as"
        return f"{text} the parent, in whose rows the present parent is named"
    return f"found {column!r}, which is the {other}, too; expected another column"


def _listed(columns: tuple[str, ...]) -> str:
    """one column (id), two columns (shop, number)"""
    return f"{len(columns)} column{'s' if len(columns) > 1 else ''} ({', '.join(columns)})"


def _references(spec: TablesSpec, name: str) -> Iterator[tuple[str, str]]:
    """(reference, what is wrong with the table it refers to)."""
    for label, other in spec.tables[name].references.items():
        columns = spec.tables[name].named[label]
        if text := _target(spec, name, other):
            yield label, text
        elif len(columns) != len(keys := spec.tables[other].keys):
            text = f"found {_listed(columns)}; expected {len(keys)}, for the key of {other!r}"
            yield label, f"{text}, in its order: {', '.join(keys)}"
        elif (name, label) in spec.late() and {*columns} & {*spec.tables[name].keys}:
            text = f"found {label!r}, a part of the key that names a row made later; expected another key"
            yield label, f"{text}, or {other!r} as the parent"


def recipe(spec: TablesSpec, name: str) -> list[tuple[Path_, str]]:
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
