"""The rows of related tables as datasets: as they are, and flat."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.dataset import Dataset, Part, commit, new_attempt, write_part
from genpipe.errors import DataError
from genpipe.progress import Progress
from genpipe.related.flatten import Related, filled, flat_rows, flat_schema
from genpipe.related.nodes import Node
from genpipe.related.spec import TablesSpec
from genpipe.requests import Ingest
from genpipe.settings import read_settings
from genpipe.stages.ingest.verb import ingest

PART_ROWS = 2**20


def as_it_is(spec: TablesSpec, name: str, progress: Progress) -> Dataset:
    """A table as it is, all of its rows in their order."""
    table = spec.tables[name]
    builtin = str(table.source).startswith("builtin:")  # in which nothing is looked for
    asked = Ingest.of(
        source=table.source,
        name=store.plain_name(f"{spec.name}-{name}-rows"),
        kind="tabular",
        entity="none: keys of the spec say whom rows are about",
        schema_file=table.schema_file,
        holdout=0,
        min_rows=1,
        # what is found might speak of keys
        options={**({} if builtin else {"relations": False}), **(table.options or {})},
    )
    return ingest(asked, progress=progress)


def flat_of(spec: TablesSpec, related: Related, nodes: dict[str, Node], request: str) -> Dataset:
    """The flat rows of a table as a dataset: families in train, others in holdout."""
    name = store.plain_name(f"{spec.name}-{related.node.name}")
    uri = store.join(read_settings().store, "datasets", name, request)
    rows, schema = filled(flat_rows(related), flat_schema(nodes, related.node))
    rows = rows.select(schema.names).cast(schema.arrow())
    attempt, parts = new_attempt(), list[Part]()
    for split, mask in (("train", ~related.held), ("holdout", related.held)):
        if not mask.any():
            raise DataError(
                "SPLIT",
                where=related.node.name,
                found=f"none of {len(mask)} rows falls into {split}",
                expected="rows of several families in both",
                fix="add data, or change holdout",
            )
        mine = rows.filter(pa.array(mask))
        for start in range(0, mine.num_rows, PART_ROWS):
            piece = mine.slice(start, PART_ROWS)
            part = f"{split}-{start // PART_ROWS:05d}"
            parts.append(write_part(uri, piece, split=split, name=part, attempt=attempt))
    origin = {"stage": "train-tables", "table": related.node.name, "rows": int(np.size(related.held))}
    return commit(uri, name=name, schema=schema, parts=parts, origin=origin)
