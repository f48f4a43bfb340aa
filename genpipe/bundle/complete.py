"""A generator on rows that are partly or wholly there: fill what is missing, say how likely they are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from genpipe.bundle.generator import Bundle, one_thread
from genpipe.bundle.observed import (
    by_class,
    free,
    log_probability,
    log_share,
    partial_conditioning,
    put,
    replaced,
)
from genpipe.codecs.columns import Fixed
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.draws import Draws
from genpipe.errors import UsageError
from genpipe.seeds import numpy_rng
from genpipe.spec import UNOBSERVED

DRAWS = 200


def complete(
    bundle: Bundle, batch: pa.RecordBatch, *, seed: int = 0, block: int = 0, fill: bool = True
) -> pa.RecordBatch:
    """Rows of the ingest schema that agree with a batch of some of its columns, in their types: missing
    values are filled (without `fill` they stay, and shape the others), absent columns made, what is there
    is kept (imputation, seed rows).

    Rows that break a constraint because what is there decides a column only in part, or whose gaps came out
    missing again, are drawn anew, up to DRAWS times.
    """
    codec = partial_conditioning(bundle.family, bundle.codec)[1]
    observed, classes = _tokens(bundle, batch, fill=fill), _classes(codec, batch, fill=fill)
    settled, gaps = codec.relations.settled(batch), _gaps(codec, batch) if fill else []
    made: pa.RecordBatch | None = None
    rows = np.arange(batch.num_rows)
    for draw in range(DRAWS):
        path, given = (seed, "complete", block, draw), batch.take(pa.array(rows))
        draws, rng = Draws(*path, total=len(rows), device=bundle.device), numpy_rng(*path, "records")
        drawn = replaced(bundle.draw(classes[rows], observed[rows], draws, rng, given, fill=fill), given)
        made = drawn if made is None else put(made, rows, drawn)
        good = codec.holds(drawn) | settled[rows]
        for name in gaps:
            good &= drawn.column(name).is_valid().to_numpy(zero_copy_only=False)
        rows = rows[~good]
        if not len(rows):
            break
    assert made is not None
    return replaced(bundle.codec.identify(made, block * bundle.block_rows, seed), batch)


def _gaps(codec: ColumnCodec, batch: pa.RecordBatch) -> list[str]:
    """Columns with missing values for which the generator has others."""
    empty = {c.field.name for c in codec.columns if isinstance(c, Fixed) and c.value is None}
    return [name for name in batch.schema.names if batch.column(name).null_count and name not in empty]


def explain_rows(bundle: Bundle, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Nats of each learnt column of a batch: the log of the probability, for real numbers of the density per
    unit, that this generator gives the value there, given the target, if the batch has it, and the learnt
    columns before it.

    Their sum is the row's. What is given to every row (`given` of the family) has none. Minus infinity for a
    value that the generator never makes; see floor.py.
    """
    codec = partial_conditioning(bundle.family, bundle.codec)[1]
    tokens = torch.from_numpy(_tokens(bundle, batch, fill=False)).to(bundle.device)
    classes = torch.from_numpy(_classes(codec, batch, fill=False)).to(bundle.device)
    untold = (classes < 0).any(1)
    with one_thread(), torch.inference_mode():
        share = torch.where(untold, 0.0, log_share(codec.conditions, classes)).double().cpu().numpy()
        nats = _nats(bundle, tokens, classes, untold).double().cpu().numpy()
    out = {name: share for name in codec.conditions.names if name in batch.schema.names}
    told, given = codec.relations.told(batch), getattr(bundle.recipe.family, "given", 0)
    for column, start, stop in codec.positions:
        if start >= given and (name := column.field.name) in told:
            nats_of = nats[:, start:stop].sum(1) + column.log_density(told[name][0])
            owner = codec.relations.owner(name)
            out[owner] = out[owner] + nats_of if owner != name and owner in out else nats_of
    return pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in out.items()})


def _nats(bundle: Bundle, tokens: Tensor, classes: Tensor, untold: Tensor) -> Tensor:
    """(B, T) log-probabilities; in `untold` rows of the mixture over all classes, token by token."""
    family, codec = partial_conditioning(bundle.family, bundle.codec)
    nats = log_probability(family, bundle.nets, tokens, classes.clamp_min(0))
    rows = untold.nonzero().squeeze(1)
    if not len(rows):
        return nats
    cells = torch.tensor(codec.conditions.cells, device=tokens.device)
    prior = (cells[:, -1].double() / cells[:, -1].sum()).log()[:, None]
    pieces = by_class(family, bundle.nets, tokens[rows], cells[:, :-1])
    # log p(tokens so far), of all classes together
    upto = torch.cat([(prior + each.double().cumsum(2)).logsumexp(1) for each in pieces])
    return nats.double().index_put((rows,), upto.diff(dim=1, prepend=torch.zeros_like(upto[:, :1])))


def _classes(codec: ColumnCodec, batch: pa.RecordBatch, *, fill: bool) -> np.ndarray:
    """(B, K) classes that a batch has, UNOBSERVED where it has none; a missing one may be a class,
    unless filled.
    """
    table = codec.conditions
    told = free(batch.num_rows, len(table.names))
    if all(name in batch.schema.names for name in table.names):
        codes = table.codes(batch)
        for k, name in enumerate(table.names):
            there = batch.column(name).is_valid().to_numpy(zero_copy_only=False)
            observed = there if fill or None not in table.values[k] else np.ones(len(there), bool)
            told[:, k] = np.where(observed, codes[:, k], UNOBSERVED)
    return told


def _tokens(bundle: Bundle, batch: pa.RecordBatch, *, fill: bool) -> np.ndarray:
    """(B, T) tokens that a batch has; an error where the network cannot make the others fit them."""
    family, codec = partial_conditioning(bundle.family, bundle.codec)
    observed = codec.observed(batch, fill=fill)
    there = observed >= 0
    first = there.cumprod(1).astype(bool)
    if family.takes_observed != "any" and (first != there).any():
        of = codec.relations.owner
        owners = [of(c.field.name) for c, start, stop in codec.positions for _ in range(start, stop)]
        row, i = np.argwhere(first != there)[0]
        gap = owners[int(np.argmin(there[row]))]
        raise UsageError(
            "KNOWN",
            where=f"row {row + 1}",
            found=f"{owners[i]!r} given, {gap!r} not",
            expected="a generator that learnt the columns in any order",
            fix="train with recipe 'tabular_any_order'",
        )
    return observed
