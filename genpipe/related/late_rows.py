"""References that are chosen when all rows are there: to the own table, of a circle of tables, or mostly to
rows of the own family. A row is learnt with a description of what it names, as with other references; late.py
says how one is found.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from genpipe.fields import AnyField
from genpipe.related.crowded import crowded
from genpipe.related.flatten import Related, described, handed_fields, joined
from genpipe.related.foreign_keys import Links
from genpipe.related.keys import identifier
from genpipe.related.levels import levels_of
from genpipe.related.match_columns import COLUMNS, binned
from genpipe.related.named import NEAR, SURE, kinship, named_rows, root_of, several_of
from genpipe.related.nodes import Reference
from genpipe.related.spec import TablesSpec
from genpipe.schema import Schema

UNLIKE = 0.2  # of rows that are named from all: less may be chance


def with_late(spec: TablesSpec, name: str, links: Links, out: dict[str, Related], schema: Schema) -> Related:
    """A table with the references that it does not have yet, and their columns in its output."""
    related, table = out[name], spec.tables[name]
    known = {r.column for r in related.node.references}
    for label in table.references:
        if label not in known:
            related = _with_one(spec, name, label, links, out, related)
    node = related.node
    if node.schema_ is None or not (node.late or node.tree):
        return related
    fields = {f.name: f for f in node.schema_.fields}
    for reference in (r for r in node.references if r.late or r.levels):
        keys = out[reference.table].node.key
        for column, like in zip(reference.names, keys, strict=True):
            nullable = schema.field(column).nullable or (reference.nullable and not reference.itself)
            field = identifier(column, like, made=False)
            fields[column] = field.model_copy(update={"nullable": nullable})
    made = node.schema_.model_copy(update={"fields": tuple(fields.values())})
    return dataclasses.replace(related, node=node.model_copy(update={"schema_": made}))


def _with_one(
    spec: TablesSpec, name: str, label: str, links: Links, out: dict[str, Related], related: Related
) -> Related:
    """The table with one more reference, after all that it has."""
    node, table = related.node, spec.tables[name]
    to, nodes = out[table.references[label]], {n: r.node for n, r in out.items()}
    rows, own = named_rows(related, links, label, to), name == to.node.name
    loops, before = np.zeros(len(rows), bool), False
    if own:
        loops = rows == np.arange(len(rows))
        before = bool((levels_of(rows) >= 0).all())
    if before:
        rows = np.where(loops, -1, rows)
    near = 0.0
    if (not own or node.parent) and root_of(out, name) == root_of(out, to.node.name):
        near = kinship(rows, related.family, to)
    near = 0.0 if near < NEAR else 1.0 if near >= SURE else round(near, 2)
    handed = handed_fields(nodes, to.node)
    fields = [f for f in handed if not near or f.name.startswith(f"{to.node.name}.")]
    update = {"reason": "", "nullable": True}
    reference = Reference(
        column=label,
        columns=several_of(table, label),
        table=to.node.name,
        nullable=before or bool((rows < 0).any()),
        fields=tuple(f.model_copy(update=update | {"name": f"{label}.{f.name}"}) for f in fields),
        another=own and not loops.any(),
        itself=before and bool(loops.sum() * 2 > (rows < 0).sum()),
        likeness=_unlike(label, to, rows, fields) if near else (),
        late=True,
        near=near,
        before=before,
    )
    told = crowded(to, rows).select([f.name for f in fields])
    columns = described(reference, told, pa.array(np.arange(len(rows)), mask=rows < 0))
    node = node.model_copy(update={"references": (*node.references, reference)})
    return dataclasses.replace(related, node=node, described=joined(related.described, columns))


def _unlike(
    label: str, to: Related, rows: np.ndarray, fields: list[AnyField]
) -> tuple[tuple[str, float], ...]:
    """The columns in which rows that are named differ from all, the most telling first, with how much of the
    rows would have to change (total variation): among few rows of a family they tell which is meant.
    """
    handed, there = to.handed_down(), rows[rows >= 0]
    found = list[tuple[str, float]]()
    for field in fields:
        codes = binned(handed[field.name], field)
        every = np.bincount(codes) / len(codes)
        some = np.bincount(codes[there], minlength=len(every)) / len(there)
        found.append((f"{label}.{field.name}", round(float(np.abs(some - every).sum() / 2), 4)))
    found.sort(key=lambda pair: -pair[1])
    return tuple(pair for pair in found if pair[1] >= UNLIKE)[:COLUMNS]
