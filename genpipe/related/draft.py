"""relate: the keys of a database -> a draft of the spec of related tables (spec.py), to be edited.

A table's parent is the table its rows are a part of: of several foreign keys the one within its primary key,
or that is it, or else the first that is never empty. The others are references. What a spec cannot say, a
comment does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from genpipe.databases import Address, open_database
from genpipe.databases.base import DELIVERIES, Database, Link, Table
from genpipe.errors import DataError, UsageError
from genpipe.names import plain_name
from genpipe.redaction import visible
from genpipe.related.build import FEWEST
from genpipe.related.spec import check_tables

TIMES, BYTES = ("date", "timestamp", "datetime"), ("bytea", "blob", "binary", "varbinary")
WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
LOOKUP = "`kind: category` in a schema file has the column learnt as a choice"
HEAD = """# Tables of {place}
# and how their rows belong together, as the database declares it. Edit, then:
#   genpipe validate {file}
#   genpipe train {file}     or: genpipe run {file}
"""


@dataclass
class Draft:
    """What a table's part of the spec says. notes: what it does not say, and why."""

    said: dict[str, Any]
    links: list[Link]
    notes: list[str] = field(default_factory=list)


def relate(source: str | os.PathLike[str]) -> str:
    """The text of a spec, for a file. source: the URL of a database, see genpipe/databases. Of the rows
    nothing is read but how many there are, up to twenty. Raises as `open_database` does.
    """
    address = Address.parse(os.fspath(source))
    if address.table:
        found = f"a table, {address.table!r}"
        raise UsageError(
            "SOURCE", where=str(source), found=found, expected="a whole database: leave #table out"
        )
    with open_database(address) as database:
        tables = {n: t for n, t in database.tables().items() if not t.view and n != DELIVERIES}
        small = [name for name in tables if not _enough(database, name)]
    drafts = {name: _draft(address, name, tables, small) for name in tables if name not in small}
    if not drafts:
        raise DataError("FEWROWS", where=str(address), found=f"no table of {FEWEST} rows", expected="some")
    order = _tie(drafts, tables)
    names = _names(order)
    spec = {
        "name": plain_name(address.name),
        "tables": {names[n]: _named(drafts[n].said, names) for n in order},
    }
    check_tables(spec, {}, str(address))
    notes = {names[name]: draft.notes for name, draft in drafts.items()}
    return "".join(_lines(str(address), spec, notes, small))


def _names(tables: list[str]) -> dict[str, str]:
    """Table -> its name in the spec."""
    out = dict[str, str]()
    for table in tables:
        name = plain_name(table.replace(".", "-"))
        out[table] = name if name not in out.values() else f"{name}-{len(out)}"
    return out


def _enough(database: Database, name: str) -> bool:
    some = f"select 1 from {database.quoted(name)} limit {FEWEST}"
    return bool(database.one(f"select count(*) from ({some}) as t") >= FEWEST)


def _draft(address: Address, name: str, tables: Mapping[str, Table], small: list[str]) -> Draft:
    """A table with its key, and the foreign keys that a spec can have."""
    table, draft = tables[name], Draft({"source": str(address._replace(table=name))}, [])
    if table.key:
        draft.said["key"] = list(table.key) if len(table.key) > 1 else table.key[0]
    for link in table.links:
        told = f"{', '.join(link.columns)} -> {link.table}"
        if link.table in small:
            draft.notes.append(f"{told}: a table of fewer than {FEWEST} rows; {LOOKUP}")
        elif link.table not in tables:
            draft.notes.append(f"{told}: a table that is not among these")
        else:
            draft.links.append(link)
    dropped = [c for c, column in table.columns.items() if column.type.lower() in BYTES]
    if dropped:
        draft.said["options"] = {"drop": dropped}
        draft.notes.append(f"{', '.join(dropped)}: bytes, which are left out")
    return draft


def _tie(drafts: Mapping[str, Draft], tables: Mapping[str, Table]) -> list[str]:
    """Parents first, then references, as far as no table needs itself in the end. Returns the tables, each
    after those it needs.
    """
    needs: dict[str, list[str]] = {name: [] for name in drafts}
    left = dict[str, list[Link]]()
    for name, draft in drafts.items():
        table = tables[name]
        links = [k for k in draft.links if k.others == tables[k.table].key and _free(needs, name, k.table)]
        inside = [k for k in links if {*k.columns} <= {*table.key}]
        never_empty = [k for k in links if not any(table.columns[c].nullable for c in k.columns)]
        parent = next(iter([*inside, *never_empty]), None)
        if parent:
            needs[name].append(parent.table)
            draft.said |= {"parent": parent.table, "foreign_key": _one(parent.columns)}
            times = [c for c, column in table.columns.items() if column.type.lower().startswith(TIMES)]
            free = [c for c in times if c not in {*table.key, *parent.columns}]
            draft.said |= {"order_by": free[0]} if free else {}
        left[name] = [k for k in draft.links if k is not parent]
    for name, links in left.items():
        draft = drafts[name]
        for link in links:
            why = _not_a_reference(link, draft, tables, drafts, needs, name)
            if why:
                draft.notes.append(f"{', '.join(link.columns)} -> {link.table}: {why}")
                continue
            if link.table != name and _free(needs, name, link.table):
                needs[name].append(link.table)
            draft.said.setdefault("references", {})[", ".join(link.columns)] = link.table
    return list(TopologicalSorter(needs).static_order())


def _not_a_reference(
    link: Link,
    draft: Draft,
    tables: Mapping[str, Table],
    drafts: Mapping[str, Draft],
    needs: Mapping[str, list[str]],
    name: str,
) -> str:
    """Why a foreign key is a column like others; empty where it is none."""
    key, columns = {*tables[name].key}, {*link.columns}
    taken = {draft.said.get("order_by"), *_several(draft.said.get("foreign_key"))}
    taken |= {c for label in draft.said.get("references", {}) for c in label.split(", ")}
    if any("," in column for column in link.columns):
        return "a name with a comma, which a spec has between the columns of a reference"
    if link.others != tables[link.table].key or "key" not in drafts[link.table].said:
        return "it names no key of that table"
    if columns & taken:
        return "a column of another foreign key, or that orders the rows"
    if columns & key and (link.table == name or not _free(needs, name, link.table)):
        return "a part of the key that names a row made later"
    own = key - {*_several(draft.said.get("foreign_key"))}
    if columns & key and own <= columns and (own != columns or not draft.said.get("parent")):
        return "the whole key, which is made anew"
    return ""


def _free(needs: Mapping[str, list[str]], name: str, other: str) -> bool:
    """Whether one table may need another without a circle."""
    try:
        more = {n: [*o, *([other] if n == name else [])] for n, o in needs.items()}
        list(TopologicalSorter(more).static_order())
    except CycleError:
        return False
    return True


def _one(columns: tuple[str, ...]) -> str | list[str]:
    return columns[0] if len(columns) == 1 else list(columns)


def _several(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _named(said: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Tables by the names the spec has for them."""
    out = dict(said)
    if "parent" in out:
        out["parent"] = names[out["parent"]]
    if "references" in out:
        out["references"] = {c: names[t] for c, t in out["references"].items()}
    return out


def _lines(
    place: str, spec: dict[str, Any], notes: Mapping[str, list[str]], small: list[str]
) -> Iterator[str]:
    yield HEAD.format(place=place, file=f"{spec['name']}.yaml")
    yield f"name: {_yaml(spec['name'])}\n\ntables:\n"
    for name, said in spec["tables"].items():
        yield f"  {_yaml(name)}:\n"
        yield from (f"    {key}: {_yaml(value)}\n" for key, value in said.items())
        yield from (f"    # {visible(note)}\n" for note in notes[name])
        yield "\n"
    if small:
        yield f"# left out, of fewer than {FEWEST} rows: {visible(', '.join(small))}\n\n"
    yield "# generate:\n#   rows: 1000     # of tables without parents; the others follow\n"


def _yaml(value: Any) -> str:
    """A value in one line: JSON, which is YAML, with plain words as they are."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(k)}: {_yaml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", value) and value.lower() not in WORDS
    return value if plain else json.dumps(value)
