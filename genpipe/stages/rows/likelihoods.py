"""How likely a generator finds rows it learnt and rows it never saw: what attacks on people start from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from genpipe.batch import to_batch
from genpipe.bundle import Bundle
from genpipe.bundle.complete import explain_rows
from genpipe.bundle.generator import one_thread
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.codecs.tabular.choice import Choice
from genpipe.codecs.tabular.numeric import Scale
from genpipe.dataset import Dataset
from genpipe.draws import Draws
from genpipe.evaluation.privacy.attacks import Evidence
from genpipe.evaluation.privacy.membership import Likelihoods
from genpipe.families.base import PartialConditioning
from genpipe.keys import entity_keys
from genpipe.schema import Schema
from genpipe.stages.evaluate.read_off import read_off_guesses

MOST = 10_000  # rows of either side
FEW, POSITIONS = 300, 2**17  # of those whose likelihood is computed one by one, and their positions
PIECE = 4096


def evidence(bundle: Bundle, dataset: Dataset, seed: int) -> Evidence:
    """Of rows of both splits; empty for a family without likelihood."""
    if not (isinstance(bundle.family, PartialConditioning) and isinstance(bundle.codec, ColumnCodec)):
        return Evidence(likelihoods=likelihoods(bundle, dataset, seed))
    train, unseen = _whole_sides(bundle.codec, dataset, seed)
    who = _entities(train, dataset.schema), _entities(unseen, dataset.schema)
    guesses = read_off_guesses(bundle, train, unseen, who, seed)
    return Evidence(likelihoods=_of_rows(bundle, train, unseen, dataset.schema), guesses=guesses)


def likelihoods(bundle: Bundle, dataset: Dataset, seed: int) -> Likelihoods | None:
    """Of rows of both splits, at most MOST each, FEW of texts and series; None for a family without
    likelihood, and for windows of series that nobody tells apart: they are not independent.
    """
    if isinstance(bundle.family, PartialConditioning) and isinstance(bundle.codec, ColumnCodec):
        return _of_rows(bundle, *_whole_sides(bundle.codec, dataset, seed), dataset.schema)
    if "nats_per_position" in bundle.family.metrics and (
        dataset.schema.kind == "text" or (dataset.schema.kind == "series" and dataset.schema.about)
    ):
        train, unseen = _sides(dataset, max(1, min(FEW, POSITIONS // bundle.spec.shape[0])), seed)
        nats = _each(bundle, train, seed), _each(bundle, unseen, seed)
    else:
        return None
    return Likelihoods(*nats, _entities(train, dataset.schema), _entities(unseen, dataset.schema))


def _of_rows(bundle: Bundle, train: pa.Table, unseen: pa.Table, schema: Schema) -> Likelihoods:
    nats = _nats(bundle, train), _nats(bundle, unseen)
    return Likelihoods(*nats, _entities(train, schema), _entities(unseen, schema))


def _whole_sides(codec: ColumnCodec, dataset: Dataset, seed: int) -> tuple[pa.Table, pa.Table]:
    train, unseen = _sides(dataset, MOST, seed)
    return _whole(codec, train), _whole(codec, unseen)


def _sides(dataset: Dataset, rows: int, seed: int) -> tuple[pa.Table, pa.Table]:
    return dataset.some("train", rows, seed), dataset.judging(rows, seed)


def _each(bundle: Bundle, table: pa.Table, seed: int) -> np.ndarray:
    """(N,) log-likelihood a position (a character) of each record, one at a time: networks of text and series
    give the mean of a batch alone.
    """
    found, layout = [], bundle.spec.layout
    with one_thread(), torch.inference_mode():
        for batch in _batches(table):
            arrays = bundle.codec.encode(batch, layout)
            for i in range(batch.num_rows):
                one = to_batch({k: a[i : i + 1] for k, a in arrays.items()}, bundle.spec, bundle.device)
                told = bundle.family.holdout_loss(bundle.nets, one, Draws(seed, "likelihood", total=1))
                found.append(-float(told["nats_per_position"]))
    return np.array(found)


def _whole(codec: ColumnCodec, rows: pa.Table) -> pa.Table:
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
