"""A generator on rows that are partly or wholly there: fill what is missing, say how likely they are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from genpipe.batch import Draws
from genpipe.bundle.generator import Bundle, one_thread
from genpipe.bundle.known import free, knowing, log_probability, log_share, put, replaced
from genpipe.codecs.base import Codec
from genpipe.errors import UsageError
from genpipe.seeds import numpy_rng
from genpipe.spec import FREE

DRAWS = 200


def complete(
    bundle: Bundle, batch: pa.RecordBatch, *, seed: int = 0, block: int = 0, fill: bool = True
) -> pa.RecordBatch:
    """Rows of the ingest schema that agree with a batch of some of its columns, in their types: missing
    values are filled (without `fill` they stay, and shape the others), absent columns made, what is there
    is kept (imputation, seed rows).

    Rows that break a constraint, because what is there decides a column only in part, are drawn again, up to
    DRAWS times; then they stay, for what is there may itself break it.
    """
    known, classes = _tokens(bundle, batch, fill=fill), _classes(bundle.codec, batch)
    relations = knowing(bundle.family, bundle.codec)[1].relations
    made: pa.RecordBatch | None = None
    rows = np.arange(batch.num_rows)
    for draw in range(DRAWS):
        path = (seed, "complete", block, draw)
        draws = Draws(*path, total=len(rows), device=bundle.device)
        drawn = bundle.draw(classes[rows], known[rows], draws, numpy_rng(*path, "records"))
        drawn = replaced(drawn, batch.take(pa.array(rows)))
        made = drawn if made is None else put(made, rows, drawn)
        held = [np.ones(len(rows), dtype=bool), *relations.holds(drawn).values()]
        rows = rows[~np.all(held, axis=0)]
        if not len(rows):
            break
    assert made is not None
    return replaced(bundle.codec.identify(made, block * bundle.block_rows, seed), batch)


def explain_rows(bundle: Bundle, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Nats of each learnt column of a batch: the log of the probability, for real numbers of the density per
    unit, that this generator gives the value there, given the target and the learnt columns before it.

    Their sum is the row's. Minus infinity for a value that the generator never makes.
    """
    family, codec = knowing(bundle.family, bundle.codec)
    tokens = torch.from_numpy(_tokens(bundle, batch, fill=False)).to(bundle.device)
    classes = torch.from_numpy(_classes(codec, batch)).to(bundle.device)
    with one_thread(), torch.inference_mode():
        share = log_share(codec.conditions, classes).double().cpu().numpy()
        nats = log_probability(family, bundle.nets, tokens, classes.clamp_min(0)).double().cpu().numpy()
    out = dict.fromkeys(codec.conditions.names, share)
    told = codec.relations.told(batch)
    for column, start, stop in codec.positions:
        if (name := column.field.name) in told:
            out[name] = nats[:, start:stop].sum(1) + column.log_density(told[name][0])
    return pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in out.items()})


def _classes(codec: Codec, batch: pa.RecordBatch) -> np.ndarray:
    """(B, K) classes that a batch has, FREE where it has none."""
    told = free(batch.num_rows, len(codec.conditions.names))
    if all(name in batch.schema.names for name in codec.conditions.names):
        codes = codec.conditions.codes(batch)
        for k, name in enumerate(codec.conditions.names):
            there = batch.column(name).is_valid().to_numpy(zero_copy_only=False)
            told[:, k] = np.where(there, codes[:, k], FREE)
    return told


def _tokens(bundle: Bundle, batch: pa.RecordBatch, *, fill: bool) -> np.ndarray:
    """(B, T) tokens that a batch has; an error where the network cannot make the others fit them."""
    family, codec = knowing(bundle.family, bundle.codec)
    known = codec.known(batch, fill=fill)
    there = known >= 0
    first = there.cumprod(1).astype(bool)
    if family.takes_known != "any" and (first != there).any():
        owners = [column.field.name for column, start, stop in codec.positions for _ in range(start, stop)]
        row, i = np.argwhere(first != there)[0]
        gap = owners[int(np.argmin(there[row]))]
        raise UsageError(
            "KNOWN",
            where=f"row {row + 1}",
            found=f"{owners[i]!r} given, {gap!r} not",
            expected="a generator that learnt the columns in any order",
            fix="train with recipe 'tabular_any_order'",
        )
    return known
