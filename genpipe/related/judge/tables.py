"""Related tables as evaluation sees them, and the ways to make one table of several.

    flat       a row of a child with the columns of its parents and of the row before it
    families   a row of a parent with the number of its children and what these are on average

Beside them, a row with the columns of a row of another table it names.

Columns here are those people know, without keys; who belongs to whom is a number of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as by

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.constraints import CHOICES, NUMBERS, SCALARS
from genpipe.evaluation.base import numbers
from genpipe.fields import AnyField, Integer, Number
from genpipe.schema import Schema

CHILDREN = "children of "  # what their number is called; no column of the data is (related/flatten.py)
COMMON = 3  # values of a choice whose shares among the children are told apart


@dataclass(frozen=True)
class Refers:
    """What the rows of a table name in one column. columns, fields: of the rows named and their parents,
    missing where none is. lost: (N,) whether a row names one that is not there.
    """

    columns: pa.Table
    fields: tuple[AnyField, ...]
    lost: np.ndarray


@dataclass(frozen=True)
class RelatedTable:
    """A table among its kin, its rows in the order of their parents and then of each other.

    rows: how many there are, also of a table without columns. above: (N,) the row of the parent, -1 where
    there is none, as there needs to be none for rows of `alone`. order: the column that never falls among the
    rows of a parent. refers: what is named in a column. named: (rows,) how many rows of a table name each in
    a column, by both. levels: of a column that names rows of this table, (N,) how many are above each, -1 in
    a circle, where there is to be none.
    """

    rows: int
    columns: pa.Table
    fields: tuple[AnyField, ...]
    parent: str | None = None
    above: np.ndarray | None = None
    order: str | None = None
    target: str | None = None
    refers: Mapping[str, Refers] = by(default_factory=dict)
    named: dict[tuple[str, str], np.ndarray] = by(default_factory=dict)
    alone: np.ndarray | None = None
    levels: dict[str, np.ndarray] = by(default_factory=dict)

    @property
    def schema(self) -> Schema:
        return Schema(kind="tabular", fields=self.fields, target=self.target)

    @property
    def parents(self) -> np.ndarray:
        assert self.above is not None
        return self.above


Tables = Mapping[str, RelatedTable]  # parents before children
Values = dict[tuple[str, str], list[str]]  # (table, choice column) -> its commonest values


def children_of(tables: Tables, name: str) -> list[str]:
    return [child for child, kin in tables.items() if kin.parent == name]


def is_lookup(tables: Tables, name: str) -> bool:
    """Whether rows of other tables name its rows, and nothing else belongs to them."""
    kin = tables[name]
    return kin.parent is None and bool(kin.named) and not kin.refers and not children_of(tables, name)


def counts(tables: Tables, child: str) -> np.ndarray:
    """(rows of the parent,) how many children each has."""
    kin = tables[child]
    return np.bincount(kin.parents[kin.parents >= 0], minlength=tables[str(kin.parent)].rows)


def firsts(above: np.ndarray) -> np.ndarray:
    """(N,) whether a row is its parent's first, or has none."""
    return np.concatenate([np.ones(min(1, len(above)), bool), above[1:] != above[:-1]]) | (above < 0)


def families(tables: Tables, rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Which rows of each table descend from `rows` of those at the top, or are one of them; of rows that
    could have parents and have none, as great a share.
    """
    kept: dict[str, np.ndarray] = {}
    for name, kin in tables.items():
        if kin.parent is None:
            mask = np.zeros(kin.rows, bool)
            mask[rng.permutation(kin.rows)[:rows]] = True
            kept[name] = mask
        else:
            kept[name] = (kin.parents >= 0) & kept[kin.parent][kin.parents]
            alone = np.flatnonzero(kin.parents < 0)
            share = min(1.0, rows / max(1, tables[top_of(tables, name)].rows))
            kept[name][alone[rng.random(len(alone)) < share] if len(alone) else alone] = True
    return kept


def top_of(tables: Tables, name: str) -> str:
    """The table at the top of a table's parents."""
    above = tables[name].parent
    return top_of(tables, above) if above else name


def lines(tables: Tables, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """The tables above one, the nearest first, and for each row of this one the row there."""
    kin, rows = tables[name], np.arange(tables[name].rows)
    while kin.parent is not None:
        rows = np.where(rows >= 0, kin.parents[rows], -1)
        yield kin.parent, rows
        kin = tables[kin.parent]


def family(tables: Tables, name: str) -> np.ndarray:
    """(rows,) the family each row of a table is of: the row at the top it descends from, or is. Of those that
    descend from a row without a parent, a number that no other has.
    """
    above = list(lines(tables, name))
    if not above:
        return np.arange(tables[name].rows)
    first = tables[above[-1][0]].rows
    found, first = first + np.arange(tables[name].rows), first + tables[name].rows
    for table, rows in above:
        begin, first = (0, first) if table == above[-1][0] else (first, first + tables[table].rows)
        found = np.where(rows >= 0, begin + rows, found)
    return found


@dataclass(frozen=True)
class Flat:
    """One table made of several. own, above, before: names of the row's own columns, of those of its
    parents and of those of the row before it.
    """

    columns: pa.Table
    schema: Schema
    own: list[str]
    above: list[str]
    before: list[str]


def flat(tables: Tables, name: str) -> Flat:
    """Every row of a child with what it may depend on."""
    kin, before = tables[name], list[str]()
    fields, columns = _upwards(tables, name)
    above = [f.name for f in fields[len(kin.fields) :]]
    index = pa.array(np.arange(kin.rows) - 1, mask=firsts(kin.parents))
    for field in kin.fields:
        before.append(f"previous {field.name}")
        fields.append(_renamed(field, before[-1]))
        columns[before[-1]] = kin.columns[field.name].take(index)
    schema = Schema(kind="tabular", fields=tuple(fields))
    return Flat(pa.table(columns), schema, [f.name for f in kin.fields], above, before)


def _upwards(tables: Tables, name: str) -> tuple[list[AnyField], dict[str, pa.ChunkedArray]]:
    """The columns of every row, and of its parents."""
    kin = tables[name]
    fields, columns = list(kin.fields), {f.name: kin.columns[f.name] for f in kin.fields}
    for parent, rows in lines(tables, name):
        index = pa.array(rows, mask=rows < 0)
        for field in tables[parent].fields:
            fields.append(_renamed(field, f"{parent}.{field.name}"))
            columns[fields[-1].name] = tables[parent].columns[field.name].take(index)
    return fields, columns


def beside(tables: Tables, name: str, column: str) -> Flat:
    """Every row, and its parents, with the row it names in a column: that one's columns are those above."""
    fields, columns = _upwards(tables, name)
    named = tables[name].refers[column]
    schema = Schema(kind="tabular", fields=(*fields, *named.fields))
    table = pa.table(columns | {f.name: named.columns[f.name] for f in named.fields})
    return Flat(table, schema, [f.name for f in fields], [f.name for f in named.fields], [])


def _renamed(field: AnyField, name: str) -> AnyField:
    return field.model_copy(update={"name": name, "nullable": True, "reason": ""})


def common_values(tables: Tables) -> Values:
    """The commonest values of each choice column."""
    found: Values = {}
    for name, kin in tables.items():
        for field in kin.fields:
            if field.kind in CHOICES:
                counted = kin.columns[field.name].cast(pa.string()).drop_null().value_counts().to_pylist()
                counted.sort(key=lambda c: (-c["counts"], c["values"]))
                found[name, field.name] = [c["values"] for c in counted[:COMMON]]
    return found


def aggregated(tables: Tables, name: str, values: Values) -> Flat:
    """Every row of a parent with the number, the means, the spread and the shares of its children."""
    kin = tables[name]
    fields, columns = list(kin.fields), {f.name: kin.columns[f.name] for f in kin.fields}
    number, others = list[str](), list[str]()
    for child in children_of(tables, name):
        many = counts(tables, child)
        number.append(f"{CHILDREN}{child}")
        fields.append(Integer(name=number[-1], minimum=0))
        columns[number[-1]] = pa.chunked_array([pa.array(many)])
        for word, column in _aggregates(tables[child], child, many, values):
            others.append(word)
            fields.append(Number(name=word, nullable=True))
            columns[word] = pa.chunked_array([pa.array(column, mask=np.isnan(column))])
    schema = Schema(kind="tabular", fields=tuple(fields), target=kin.target)
    return Flat(pa.table(columns), schema, number, [f.name for f in kin.fields], others)


def _aggregates(
    kin: RelatedTable, name: str, many: np.ndarray, values: Values
) -> Iterator[tuple[str, np.ndarray]]:
    """(what, (parents,) NaN where there is nothing to tell), for each column of the children."""
    there = kin.parents >= 0
    above, size = kin.parents[there], len(many)
    for field in kin.fields:
        column = kin.columns[field.name]
        if field.kind in NUMBERS:
            x = numbers(column, field.name)[there]
            known = ~np.isnan(x)
            at, x = above[known], x[known]
            count = np.bincount(at, minlength=size)
            mean = np.bincount(at, x, size) / np.where(count, count, np.nan)
            square = np.bincount(at, (x - mean[at]) ** 2, size) / np.where(count > 1, count - 1, np.nan)
            yield f"mean of {name}.{field.name}", mean
            yield f"spread of {name}.{field.name}", np.sqrt(square)
        elif field.kind in CHOICES:
            words = column.cast(pa.string())
            for value in values.get((name, field.name), ()):
                equal = pc.equal(words, value).fill_null(False).to_numpy()[there]
                share = np.bincount(above, equal, size) / np.where(many, many, np.nan)
                yield f"share of {name}.{field.name} = {value}", share


def in_order(kin: RelatedTable, rng: np.random.Generator | None = None) -> float:
    """Share of the rows that are not before the row before them of the same parent; rng: shuffled first."""
    ticks = numbers(kin.columns[str(kin.order)], str(kin.order))
    ticks = ticks if rng is None else rng.permutation(ticks)
    later = ~firsts(kin.parents)
    return float((ticks[1:] >= ticks[:-1])[later[1:]].mean()) if later.any() else 1.0


def learnable(fields: tuple[AnyField, ...]) -> tuple[AnyField, ...]:
    """Columns that can be compared: no identifiers, no free text."""
    return tuple(f for f in fields if f.kind in SCALARS)
