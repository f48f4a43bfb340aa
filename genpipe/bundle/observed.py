"""What is observed of rows before they are drawn: the target's odds given it, and how likely whole rows are.

The target travels beside a table's tokens, so a network answers p(tokens | target); Bayes' rule with the
shares of the training split turns that round.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from genpipe.codecs.base import Codec
from genpipe.codecs.conditions import ConditionTable
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.draws import Draws, cumulated
from genpipe.errors import UsageError
from genpipe.families.base import Family, Nets, PartialConditioning
from genpipe.spec import UNOBSERVED

CHUNK = 8192  # rows given to a network at a time


def partial_conditioning(family: Family, codec: Codec) -> tuple[PartialConditioning, ColumnCodec]:
    """Both, if they are of the kind that can be given some of a row."""
    if isinstance(family, PartialConditioning) and isinstance(codec, ColumnCodec):
        return family, codec
    raise UsageError(
        "KNOWN",
        found=f"a {type(family).__name__} of {codec.kind} data",
        expected="a generator that makes a table column by column",
        fix="train with recipe 'tabular_any_order'",
    )


def log_probability(family: PartialConditioning, nets: Nets, observed: Tensor, condition: Tensor) -> Tensor:
    """(B, T) of `family.log_probability`, in pieces that fit memory."""
    parts = zip(observed.split(CHUNK), condition.split(CHUNK), strict=True)
    return torch.cat([family.log_probability(nets, x, c) for x, c in parts])


def by_class(family: PartialConditioning, nets: Nets, observed: Tensor, classes: Tensor) -> Iterator[Tensor]:
    """(b, C, T) log p(token | class, tokens before it) under each of `classes` (C, K), piece by piece."""
    num = len(classes)
    for some in observed.split(max(1, CHUNK // num)):
        nats = family.log_probability(nets, some.repeat_interleave(num, 0), classes.repeat(len(some), 1))
        yield nats.unflatten(0, (len(some), num))


def log_share(table: ConditionTable, condition: Tensor) -> Tensor:
    """(B,) log of the share of each row's classes in the training split; minus infinity where never seen."""
    cells = torch.tensor(table.cells).view(-1, len(table.names) + 1)
    same = (condition.cpu().unsqueeze(1) == cells[:, :-1]).all(-1)
    counts = torch.where(same, cells[:, -1].double(), 0.0).sum(1)
    return (counts / cells[:, -1].sum()).log().float().to(condition.device)


def draw_condition(
    family: PartialConditioning,
    nets: Nets,
    table: ConditionTable,
    observed: Tensor,
    told: Tensor,
    rng: Draws,
    *,
    fill: bool = False,
) -> Tensor:
    """(B, K) classes drawn given each row's observed tokens, and `told` (B, K) where that is not negative.
    fill: none that stands for a missing value, if there is another.

    observed (B, T) as in `PartialConditioning.sample`. Rows of which the same is observed are drawn evenly
    (`Draws.systematic`).
    """
    if not table.names:
        return told
    cells = torch.tensor(table.cells, device=observed.device)
    classes, prior = cells[:, :-1], cells[:, -1].double().log().float()
    asked, back = torch.cat([told, observed], 1).unique(dim=0, return_inverse=True)
    wanted, tokens = asked[:, : len(table.names)], asked[:, len(table.names) :]
    fits = ((wanted.unsqueeze(1) < 0) | (wanted.unsqueeze(1) == classes)).all(-1)
    if fill:
        there = [all(table.values[k][c] is not None for k, c in enumerate(cell[:-1])) for cell in table.cells]
        fits = fits & torch.tensor(there, device=fits.device) if any(there) else fits
    log_odds = prior + torch.where(fits, 0.0, -1e4)  # a combination never seen is better than none
    if bool((tokens >= 0).any()):
        evidence = [nats.sum(2) for nats in by_class(family, nets, tokens, classes)]
        log_odds = log_odds + torch.cat(evidence)
    drawn = classes[rng.systematic(cumulated(log_odds)[:, back], back)]
    return torch.where(told >= 0, told, drawn)


def free(rows: int, columns: int) -> np.ndarray:
    """(rows, columns) of nothing observed."""
    return np.full((rows, columns), UNOBSERVED, dtype=np.int64)


def put(into: pa.RecordBatch, rows: np.ndarray, some: pa.RecordBatch) -> pa.RecordBatch:
    """`into` with `some` in place of these rows."""
    order = np.arange(into.num_rows)
    order[rows] = into.num_rows + np.arange(len(rows))
    return pa.concat_batches([into, some]).take(pa.array(order))


def replaced(made: pa.RecordBatch, given: pa.RecordBatch) -> pa.RecordBatch:
    """`made` with the values of `given`, where it has any."""
    for name in given.schema.names:
        at = made.schema.get_field_index(name)
        column = pc.coalesce(given.column(name), made.column(name))
        made = made.set_column(at, made.schema.field(at), column)
    return made
