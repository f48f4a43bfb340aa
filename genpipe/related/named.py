"""References of rows as they are built: which row each names, and of what family that is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.related.flatten import Related, described, handed_fields, joined
from genpipe.related.foreign_keys import Links
from genpipe.related.nodes import Reference
from genpipe.related.spec import TableSpec

NEAR = 0.5  # share of references within the family, from which on they are chosen there
SURE = 0.95  # from which on all are


def referred(
    name: str,
    table: TableSpec,
    links: Links,
    order: np.ndarray,
    family: np.ndarray,
    others: dict[str, Related],
) -> tuple[tuple[Reference, ...], pa.Table]:
    """The references of a table to rows of others that are made before it, and the columns of these; the
    other references are late (late_rows.py). order: of the rows of `links`.
    """
    nodes = {n: r.node for n, r in others.items()}
    references, columns = list[Reference](), [pa.table({})]
    for label, other in table.references.items():
        if other not in others:
            continue
        there, place = links.named[label][order], others[other].place
        rows = np.where(there >= 0, place[there], -1)
        kin = table.parent is not None and root_of(others, table.parent) == root_of(others, other)
        if kin and kinship(rows, family, others[other]) >= NEAR:
            continue
        fields = (
            f.model_copy(update={"name": f"{label}.{f.name}", "reason": "", "nullable": True})
            for f in handed_fields(nodes, nodes[other])
        )
        none = rows < 0
        reference = Reference(
            column=label,
            columns=several_of(table, label),
            table=other,
            nullable=bool(none.any()),
            fields=tuple(fields),
            distinct={*table.keys} - {*table.link} == {*table.named[label]},
            another=table.parent == other and not nodes[other].parent and not (rows == family).any(),
        )
        references.append(reference)
        columns.append(described(reference, others[other].handed_down(), pa.array(rows, mask=none)))
    return tuple(references), joined(*columns)


def several_of(table: TableSpec, label: str) -> tuple[str, ...]:
    """The columns of a reference, if it has more than one."""
    columns = table.named[label]
    return columns if len(columns) > 1 else ()


def named_rows(related: Related, links: Links, label: str, other: Related) -> np.ndarray:
    """(N,) the row of the other table that each row here names, -1 where it names none."""
    out = np.full(related.node.rows, -1)
    there = links.named[label]
    out[related.place[links.rows]] = np.where(there >= 0, other.place[there], -1)
    return out


def kinship(rows: np.ndarray, family: np.ndarray, other: Related) -> float:
    """The share of the rows named that are of the family of who names them."""
    there = rows >= 0
    return float((other.family[rows[there]] == family[there]).mean()) if there.any() else 0.0


def root_of(others: dict[str, Related], name: str) -> str:
    above = others[name].node.parent
    return root_of(others, above) if above else name


def alone_from(table: int) -> int:
    """The first family of rows without a parent in a table of that number: none other has it."""
    return (table + 1) << 40
