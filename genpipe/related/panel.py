"""A flat table of several rows an entity as two related ones, and flat again.

| column of the flat table | becomes |
|---|---|
| the same in all rows of every entity | a column of the entity |
| dates, times or numbers that never fall | the order of its rows: the first of them that rises most |
| others that mostly rise by one step (a year and an age) | a first value, of the entity, and steps |
| any other | a column of its rows; beside the entity stands what is `usual` there |

What is made up to learn from (first and usual values, steps) is never delivered: `Panel.flat` and
`Panel.seen` give the user's columns again. An entity's own level beside the row before it is the "random
intercept" of models of panel data (Laird & Ware, "Random-effects models for longitudinal data", Biometrics
38, 1982).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from genpipe.codecs.tabular.lookups import Lookup
from genpipe.fields import AnyField
from genpipe.related.flatten import firsts
from genpipe.related.judge.tables import RelatedTable, Tables, learnable
from genpipe.related.nodes import Order
from genpipe.schema import Schema

ENTITY, ROWS = "entity", "rows"  # what the two tables are called
KEY = "number of entity"  # the key between them, where the table has no number of its entity
ABSENT = "entity is missing"  # whether a row names nobody


class Panel(BaseModel):
    """How a flat table was taken apart. schema_: of the table. key: the column that tells entities apart.
    held: columns that an entity determines. order: the column its rows are in order of. steps: columns learnt
    as a first value and steps. usual: columns of rows whose usual value is told beside. absent: whether some
    rows name no entity. dataset: the fingerprint of the table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_: Schema
    key: str
    held: tuple[str, ...]
    order: str | None = None
    steps: tuple[Order, ...] = ()
    usual: tuple[str, ...] = ()
    absent: bool = False
    dataset: str = ""

    @property
    def varying(self) -> tuple[AnyField, ...]:
        """The fields that differ between the rows of an entity."""
        return tuple(f for f in self.schema_.fields if f.name not in (self.key, *self.held))

    def flat(
        self, entities: pa.Table, rows: pa.Table, above: np.ndarray, lookups: Sequence[Lookup] = ()
    ) -> pa.Table:
        """The table in its columns. entities, rows: as they were learnt, with keys; above: (N,) the entity of
        each row, in order. lookups: of the codec of the rows, whose sources may be reckoned here.
        """
        at = pa.array(above)
        columns = {n: rows[n] for n in rows.column_names}
        columns |= self._values(entities, rows, above, lookups)
        columns |= {name: entities[name].take(at) for name in self.held}
        if self.key in self.schema_.names:
            columns[self.key] = entities[self.key].take(at)
            if self.absent:
                nobody = entities[ABSENT].take(at).combine_chunks()
                named = columns[self.key].combine_chunks()
                columns[self.key] = pa.chunked_array([pc.if_else(nobody, None, named)])
        return pa.table({f.name: columns[f.name].cast(f.arrow()) for f in self.schema_.fields})

    def _values(
        self, entities: pa.Table, rows: pa.Table, above: np.ndarray, lookups: Sequence[Lookup]
    ) -> dict[str, pa.Array]:
        """The columns that were learnt as steps, and what these decide."""
        found, first = dict[str, pa.Array](), firsts(above)
        begin = np.maximum.accumulate(np.where(first, np.arange(len(above)), 0))
        for order in self.steps:
            step = np.where(first, 0, rows[order.gap].fill_null(0).to_numpy())
            total = np.cumsum(step)
            start = order.ticks(entities[first_of(order)].cast(order.field.arrow()))[above]
            found[order.field.name] = order.values(order.rounded(start + total - total[begin]))
        if self.order and copy_of(self.order) in rows.column_names:
            found[copy_of(self.order)] = rows[self.order].combine_chunks()
        for lookup in lookups:
            sources, made = [s.name for s in lookup.sources], lookup.field.name
            if made in found and len(sources) == 1 and sources[0] not in found:
                known = lookup.reverse(found[made])
                found[sources[0]] = pc.coalesce(known, rows[sources[0]].combine_chunks())
            elif {*sources} & found.keys() and made not in found:
                known = {n: found[n] if n in found else rows[n].combine_chunks() for n in sources}
                found[made] = lookup.restore(known)[made]
        return found

    def seen(self, tables: Tables, lookups: Sequence[Lookup] = ()) -> dict[str, RelatedTable]:
        """The two tables of a judge in the user's columns. lookups: see `flat`; none of real rows."""
        entities, rows = tables[ENTITY], tables[ROWS]
        columns = {n: rows.columns[n] for n in rows.columns.column_names}
        columns |= self._values(entities.columns, rows.columns, rows.parents, lookups)
        held = learnable(tuple(f for f in self.schema_.fields if f.name in self.held))
        varying = learnable(self.varying)
        target = self.schema_.target
        return {
            ENTITY: RelatedTable(
                rows=entities.rows,
                columns=entities.columns.select([f.name for f in held]),
                fields=held,
                target=target if target in self.held else None,
            ),
            ROWS: RelatedTable(
                rows=rows.rows,
                columns=pa.table({f.name: columns[f.name] for f in varying}),
                fields=varying,
                parent=ENTITY,
                above=rows.above,
                order=self.order,
                target=target if target in [f.name for f in varying] else None,
            ),
        }


def copy_of(order: str) -> str:
    """The column of rows that is the one they are ordered by once more, where others follow from it."""
    return f"{order} itself"


def first_of(order: Order) -> str:
    return f"first {order.field.name}"


def usual_of(name: str) -> str:
    """The column of an entity that tells its rows what is usual."""
    return f"usual {name}"
