"""Relations that a sample showed, counted in all rows; those that all rows keep become constraints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from genpipe.codecs.tabular.days import offset
from genpipe.constraints import Reckoned, Within
from genpipe.derivations import reckoned
from genpipe.errors import few
from genpipe.schema import Schema
from genpipe.sources.relations import OFTEN, Relation
from genpipe.sources.schema_file import often

Kept = Counter[tuple[str, str]]  # (constraint, "rows" that have all of its columns, or "broken" among them)
SHOWN = 5
ALL, CODES = "all {} rows that have these columns keep it", "codes that go with few values of these columns"
WAY_OUT = "remove it from the schema file (--save-schema) if it is chance, or ingest with -o relations=false"


def count(constraints: Iterable[Reckoned], schema: Schema, batch: pa.RecordBatch) -> Kept:
    """How many rows of a batch keep what is reckoned."""
    columns, out = dict(zip(batch.schema.names, batch.columns, strict=True)), Kept()
    for c in constraints:
        made, sources = reckoned(c)
        made_of = offset(str(c), c, schema.field(made), tuple(schema.field(s) for s in sources))
        there = [columns[name].is_valid().to_numpy(zero_copy_only=False) for name in made_of.needs]
        out[str(c), "rows"] = int(np.all(there, axis=0).sum())
        out[str(c), "broken"] = int((~made_of.holds(columns)).sum())
    return out


def settle(
    schema: Schema, relations: Sequence[Relation], kept: Kept
) -> tuple[Schema, list[str], list[dict[str, Any]]]:
    """(the schema with what all rows keep, what to say of it, what nearly all keep: offered to the reader).

    Rows of an entity are learnt together, and constraints tie columns of one row: there all is but offered.
    """
    said, offered, shown = list[str](), list[dict[str, Any]](), list[str]()
    for relation in relations:
        c = relation.constraint
        if isinstance(c, Within):
            if not schema.entity and (more := _with(schema, c, CODES)):
                schema = more
                said.append(f"{c}: {CODES}, so no other pair is generated; {WAY_OUT}")
            continue
        rows, broken = kept[str(c), "rows"], kept[str(c), "broken"]
        if not rows or broken > (1 - OFTEN) * rows:
            continue
        if (
            relation.rule
            and not broken
            and not schema.entity
            and (more := _with(schema, c, ALL.format(rows)))
        ):
            schema = more
            said.append(f"{c} in all {rows} rows, so every generated row keeps it; {WAY_OUT}")
        else:
            offered.append({"constraint": c.model_dump(mode="json"), "rows": rows, "broken": broken})
            shown.append(f"{c} (in {often(rows, broken)} rows)")
    if shown:
        said.append(f"seen and not kept: {few(shown, SHOWN)}; the schema file has lines to keep them")
    return schema, said, offered


def _with(schema: Schema, constraint: Reckoned | Within, reason: str) -> Schema | None:
    """None: it contradicts those there are, or asks of the target what cannot be."""
    found = constraint.model_copy(update={"reason": f"found: {reason}"})
    try:
        return Schema.model_validate(schema.model_dump() | {"constraints": (*schema.constraints, found)})
    except ValidationError:
        return None
