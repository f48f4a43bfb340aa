"""The last step of generation: references that are chosen when the rows of all tables are there.

The rows of a table that has some are kept aside with a description of what each names (write.py), and are
written once more with the keys of rows like it (match.py): of the own family where the data names these, and
only of rows before where no circle of rows may arise. Memory is a batch, and the table that is referred to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.dataset import Dataset
from genpipe.related.match import Chooser
from genpipe.related.nodes import Node, Reference
from genpipe.related.shelf import KIN, open_shelf
from genpipe.seeds import derive, numpy_rng

ROWS = 2**16  # in a batch: what is chosen depends on it


class Late:
    """One reference of a table. uri: of the described rows it names."""

    def __init__(self, node: Node, reference: Reference, uri: str, seed: int) -> None:
        self.reference, self.table = reference, node.name
        self.key = [f.name for f in node.key]
        own = derive(seed, "late", node.name, reference.column)
        self.rng = numpy_rng(own, "near")
        shares = {True: reference.near, False: 1 - reference.near}
        self.choosers = {
            kin: Chooser(open_shelf(uri, reference, node.name, kin=kin), derive(own, int(kin)))
            for kin, share in shares.items()
            if share
        }

    def keys(self, rows: pa.Table, start: int) -> list[pa.ChunkedArray]:
        """The columns of the reference. rows: start, start + 1, .. of the table, with their descriptions."""
        reference, count = self.reference, rows.num_rows
        near, own = self.rng.random(count) < reference.near, start + np.arange(count)
        found = np.full(count, -1)
        described = rows.rename_columns(
            [f"{reference.column}.{KIN}" if n == KIN else n for n in rows.column_names]
        )
        for kin, chooser in self.choosers.items():
            mine = np.flatnonzero(near == kin)
            if not len(mine):
                continue
            if reference.another:
                chooser.forbid(own[mine])
            before = own[mine] if reference.before else None
            chosen = chooser.choose(described.take(pa.array(mine)), np.arange(len(mine)), before)
            found[mine] = chosen.fill_null(-1).to_numpy(zero_copy_only=False)
        shelf = next(iter(self.choosers.values())).shelf
        there = shelf.keys.take(pa.array(found, mask=found < 0))
        if not reference.itself:
            return list(there.itercolumns())
        itself = rows.select(self.key).itercolumns()
        return [pc.coalesce(a, b.cast(a.type)) for a, b in zip(there.itercolumns(), itself, strict=True)]


def finished(node: Node, aside: str, referred: Mapping[str, str], seed: int) -> Iterator[pa.Table]:
    """The rows of a table as they are delivered. aside: the URI of those that were kept."""
    assert node.schema_ is not None
    late = {r.column: Late(node, r, referred[r.table], seed) for r in node.late}
    names, start, data = node.schema_.names, 0, Dataset(aside)
    for part in data.parts("generated"):
        for batch in data.part_batches(part, rows=ROWS):
            rows = pa.Table.from_batches([batch])
            out = {n: rows[n] for n in names}
            for one in late.values():
                out |= dict(zip(one.reference.names, one.keys(rows, start), strict=True))
            start += rows.num_rows
            yield pa.table(out).select(names).cast(node.schema_.arrow())
