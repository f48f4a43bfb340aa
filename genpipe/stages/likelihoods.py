"""How likely a generator finds rows it learnt and rows it never saw, for the membership attack."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.bundle import Bundle
from genpipe.bundle.complete import explain_rows
from genpipe.codecs.choice import Choice
from genpipe.codecs.numeric import Scale
from genpipe.codecs.tabular import TabularCodec
from genpipe.dataset import Dataset
from genpipe.evaluation.membership import Likelihoods
from genpipe.families.base import Knowing
from genpipe.keys import entity_keys
from genpipe.schema import Schema

MOST = 10_000  # rows of either side
PIECE = 4096


def likelihoods(bundle: Bundle, dataset: Dataset, seed: int) -> Likelihoods | None:
    """Of rows of both splits, at most MOST each; None for a family without likelihood."""
    if not (isinstance(bundle.family, Knowing) and isinstance(bundle.codec, TabularCodec)):
        return None
    both = dataset.some("train", MOST, seed), dataset.judging(MOST, seed)
    train, unseen = (_whole(bundle.codec, rows) for rows in both)
    schema = dataset.schema
    return Likelihoods(
        _nats(bundle, train), _nats(bundle, unseen), _entities(train, schema), _entities(unseen, schema)
    )


def _whole(codec: TabularCodec, rows: pa.Table) -> pa.Table:
    """Rows without a gap where the codec knows of none, as too few had one: those have no likelihood."""
    for column in codec.columns:
        name = column.field.name
        if name in rows.column_names and isinstance(column, Choice | Scale) and not column.missing:
            rows = rows.filter(pc.is_valid(rows[name]))
    return rows


def _nats(bundle: Bundle, table: pa.Table) -> np.ndarray:
    """(N,) log-likelihood of whole rows."""
    found = [np.zeros(0)]
    for batch in _batches(table):
        by_column = explain_rows(bundle, batch)
        found.append(np.sum([c.to_numpy() for c in by_column.columns], axis=0))
    return np.concatenate(found)


def _entities(table: pa.Table, schema: Schema) -> np.ndarray | None:
    if not schema.about:
        return None
    keys = (entity_keys(batch, schema.about) for batch in _batches(table))
    return np.concatenate([np.zeros(0, np.uint64), *keys])


def _batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    return iter(table.combine_chunks().to_batches(max_chunksize=PIECE))
