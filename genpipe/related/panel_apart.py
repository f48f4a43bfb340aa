"""Take a flat table apart: what an entity determines, in what order its rows are, what rises by steps.

The whole table is held in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from genpipe.codecs.tabular.dependencies import observe_dependencies
from genpipe.constraints import NUMBERS, SCALARS
from genpipe.dataset import Dataset
from genpipe.fields import AnyField, Boolean, Identifier, Integer, Number
from genpipe.keys import column_keys, entity_keys
from genpipe.related.build import FEWEST
from genpipe.related.flatten import Root, firsts, picked
from genpipe.related.nodes import Order
from genpipe.related.order import limited
from genpipe.related.panel import ABSENT, KEY, Panel, copy_of, first_of, usual_of
from genpipe.schema import Schema

EVENLY = 0.5  # share of steps of one size, from which on a column is learnt by steps
FEW = 20  # values of a column, up to which the commonest is what is usual
TIMES = ("date", "timestamp")


@dataclass(frozen=True)
class Apart:
    """A flat table in two. entities, rows: the tables to learn, rows in the order of their entities; about,
    schema: their columns. root: which entities are held out, and of what their rows are told nothing.
    """

    panel: Panel
    entities: pa.Table
    about: Schema
    rows: pa.Table
    schema: Schema
    root: Root


@dataclass(frozen=True)
class _Sorted:
    """The rows by entity, and in each as the file has them. of: (N,) 0, 1, .. ascending."""

    table: pa.Table
    of: np.ndarray
    held: np.ndarray

    @property
    def first(self) -> np.ndarray:
        return firsts(self.of)

    def constant(self, name: str) -> bool:
        keys = column_keys(self.table[name].combine_chunks())
        return bool((keys[1:] == keys[:-1])[~self.first[1:]].all())


def several_rows(dataset: Dataset) -> str:
    """Why the rows of a table are not learnt by entity; empty where they can be."""
    schema = dataset.schema
    if schema.kind != "tabular" or not schema.entity:
        return "its rows are about nobody who has several"
    if schema.constraints:
        return "constraints tie columns of a row, which may be the entity's and its rows'"
    batches = [b for s in ("train", "holdout") for b in dataset.batches(s, columns=[*schema.entity])]
    keys = np.concatenate([np.zeros(0, np.uint64), *(entity_keys(b, schema.entity) for b in batches)])
    entities = len(np.unique(keys))
    if entities < FEWEST:
        return f"{entities} entities are too few to learn from (it takes {FEWEST})"
    return "" if entities < len(keys) else "no entity has more than one row"


def apart(dataset: Dataset) -> Apart:
    """A dataset of which `several_rows` has nothing to say, in two tables."""
    data, schema = _sorted(dataset), dataset.schema
    key = schema.entity[0] if len(schema.entity) == 1 else ""
    key = key if key and schema.field(key).kind == "identifier" else KEY
    held = tuple(
        f.name for f in schema.fields
        if f.name != key and (f.name in schema.entity or data.constant(f.name))
    )  # fmt: skip
    own = [f for f in schema.fields if f.name not in (key, *held)]
    rising = _rising(data, [f for f in own if f.name != schema.target])
    order = rising[0] if rising else None
    steps = tuple(s for f in own if f.name not in (order, schema.target) and (s := _steps(data, f)))
    usual = tuple(
        f for f in own
        if f.kind in SCALARS and f.name not in (order, *(s.field.name for s in steps))
    )  # fmt: skip
    absent = key != KEY and data.table[key].null_count > 0
    panel = Panel(
        schema_=schema, key=key, held=held, order=order, steps=steps,
        usual=tuple(f.name for f in usual), absent=absent, dataset=dataset.fingerprint,
    )  # fmt: skip
    at = pa.array(np.flatnonzero(data.first))
    told = [(_renamed(s.field, first_of(s)), data.table[s.field.name].take(at)) for s in steps]
    told += [_usual(data, f) for f in usual]
    if absent:
        told.append((Boolean(name=ABSENT), data.table[key].take(at).is_null()))
    entities, about = _entities(panel, data, told)
    rows, fields = _rows(panel, data, own)
    untold = tuple(n for n in held if len(data.table[n].unique()) > FEW)
    return Apart(panel, entities, about, rows, fields, Root(data.held[data.first], untold))


def _sorted(dataset: Dataset) -> _Sorted:
    schema = dataset.schema
    tables = {s: dataset.table(s) for s in ("train", "holdout") if dataset.parts(s)}
    table = pa.concat_tables(tables.values()).combine_chunks()
    keys = entity_keys(table.to_batches()[0], schema.entity)
    first, of = np.unique(keys, return_index=True, return_inverse=True)[1:]
    of = np.argsort(np.argsort(first))[of]  # by who comes first
    at = of.argsort(kind="stable")
    held = np.repeat([s == "holdout" for s in tables], [t.num_rows for t in tables.values()])
    return _Sorted(picked(table, pa.array(at)), of[at], held[at])


def _bare(field: AnyField) -> Order:
    return Order(field=field, gap=f"step of {field.name}", low=0, high=0)


def _differences(data: _Sorted, field: AnyField) -> np.ndarray | None:
    """From one row of an entity to the next; None where a value is missing."""
    if field.kind not in NUMBERS or data.table[field.name].null_count:
        return None
    order = _bare(field)
    return order.rounded(np.diff(order.ticks(data.table[field.name]))[~data.first[1:]])


def _rising(data: _Sorted, fields: list[AnyField]) -> list[str]:
    """The columns that never fall within an entity, and rise: times before numbers, then those that rise
    most.
    """
    found = []
    for place, field in enumerate(fields):
        steps = _differences(data, field)
        if steps is not None and (steps >= 0).all() and (steps > 0).mean() > EVENLY:
            found.append((field.kind not in TIMES, -float((steps > 0).mean()), place, field.name))
    return [name for *_, name in sorted(found)]


def _steps(data: _Sorted, field: AnyField) -> Order | None:
    """How a column is learnt by steps, if these are mostly the same and something."""
    steps = _differences(data, field)
    if steps is None:
        return None
    sizes, times = np.unique(steps, return_counts=True)
    often = times.argmax()
    if sizes[often] == 0 or times[often] < EVENLY * len(steps):
        return None
    bare = _bare(field)
    return limited(bare, bare.ticks(data.table[field.name]), data.of)


def _usual(data: _Sorted, field: AnyField) -> tuple[AnyField, pa.Array]:
    """What is usual in a column over the rows of each entity, missing where all of these are: the mean of
    numbers of many values, the commonest of few.
    """
    column, size = data.table[field.name], int(data.of[-1]) + 1
    known = column.is_valid().to_numpy()
    of, there = data.of[known], column.drop_null().combine_chunks()
    none = np.bincount(of, minlength=size) == 0
    codes = there.dictionary_encode()
    if field.kind in NUMBERS and len(codes.dictionary) > FEW:
        whole = field.kind in ("integer", "number")
        values = there.to_numpy() if whole else _bare(field).ticks(column)[known]
        mean = np.bincount(of, values, size) / np.maximum(np.bincount(of, minlength=size), 1)
        return Number(name=usual_of(field.name), nullable=True), pa.array(mean, mask=none)
    many = max(1, len(codes.dictionary))
    cells, times = np.unique(of * many + codes.indices.to_numpy(), return_counts=True)
    order = np.lexsort((-times, cells // many))
    first = order[firsts((cells // many)[order])]
    mode = np.zeros(size, np.int64)
    mode[cells[first] // many] = cells[first] % many
    usual = _renamed(field, usual_of(field.name)).model_copy(update={"nullable": True})
    return usual, codes.dictionary.take(pa.array(mode, mask=none))


def _renamed(field: AnyField, name: str) -> AnyField:
    return field.model_copy(update={"name": name, "reason": ""})


def _entities(panel: Panel, data: _Sorted, told: list[tuple[AnyField, pa.Array]]) -> tuple[pa.Table, Schema]:
    """The table of entities. Their names are made up anew, so numbers stand in their place."""
    first = pa.array(np.flatnonzero(data.first))
    number = pa.array(np.arange(len(first)))
    key: AnyField = Identifier(name=panel.key, storage="integer", minimum=1)
    if panel.key in panel.schema_.names:
        key = panel.schema_.field(panel.key).model_copy(update={"nullable": False})
    fields = [key, *(panel.schema_.field(name) for name in panel.held), *(f for f, _ in told)]
    columns = {panel.key: number.cast(key.arrow())}
    columns |= {name: data.table[name].take(first) for name in panel.held}
    columns |= {f.name: column for f, column in told}
    target = panel.schema_.target
    schema = Schema(kind="tabular", fields=tuple(fields), target=target if target in panel.held else None)
    return pa.table(columns), schema


def _rows(panel: Panel, data: _Sorted, own: list[AnyField]) -> tuple[pa.Table, Schema]:
    """The table of rows: their key, their order, what is learnt by steps and its steps, and all other
    columns.
    """
    key: AnyField = Identifier(name=panel.key, storage="integer")
    if panel.key in panel.schema_.names:
        key = panel.schema_.field(panel.key).model_copy(update={"nullable": False})
    columns: list[tuple[AnyField, pa.Array]] = [(key, pa.array(data.of.astype(np.int64)).cast(key.arrow()))]
    order = next((f for f in own if f.name == panel.order), None)
    if order is not None:
        columns.append((order, data.table[order.name]))
        if _decides(data, order.name, [f.name for f in own]):
            columns.append((_renamed(order, copy_of(order.name)), data.table[order.name]))
    for steps in panel.steps:
        ticks = steps.ticks(data.table[steps.field.name])
        size = steps.rounded(np.where(data.first, 0, np.diff(ticks, prepend=ticks[:1])))
        field: AnyField = Integer(name=steps.gap)
        if isinstance(steps.field, Number):
            field = Number(name=steps.gap, decimals=steps.field.decimals)
        columns += [(field, pa.array(size)), (steps.field, data.table[steps.field.name])]
    there = {field.name for field, _ in columns}
    columns += [(f, data.table[f.name]) for f in own if f.name not in there]
    names, target = [f.name for f, _ in columns], panel.schema_.target
    schema = Schema(
        kind="tabular", fields=tuple(f for f, _ in columns), target=target if target in names else None
    )
    return pa.table({f.name: column for f, column in columns}), schema


def _decides(data: _Sorted, name: str, others: list[str]) -> bool:
    """Whether some other column follows from one."""
    columns = {
        n: data.table[n].combine_chunks() for n in others if data.table.schema.field(n).type != pa.null()
    }
    return any(source == name for source, _ in observe_dependencies(columns, others))
