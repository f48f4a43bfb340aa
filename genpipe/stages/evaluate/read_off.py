"""Try every value of a column in rows whose other values are known: is the true one the likeliest?

Which columns a person wants kept secret is not known, so those of most values are tried first: there a guess
is worth most, and one that is remembered shows most. Rows times values are bounded, so the cost is, too.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from genpipe.bundle import Bundle
from genpipe.bundle.generator import one_thread
from genpipe.bundle.observed import log_probability, log_share, partial_conditioning
from genpipe.codecs.tabular.choice import Choice
from genpipe.evaluation.privacy.inference import Guesses
from genpipe.seeds import drawn, numpy_rng

VALUES = 64  # of a column, at most
COLUMNS = 12
TRIED = 120_000  # rows with a value in its place, of both sides together,
TOKENS = 2**23  # and their tokens
ROWS = 300  # of a side, at least: with fewer a column tells nothing


def read_off_guesses(
    bundle: Bundle,
    train: pa.Table,
    unseen: pa.Table,
    entities: tuple[np.ndarray | None, np.ndarray | None],
    seed: int,
) -> list[Guesses]:
    """One for each column tried. train, unseen: rows without gaps that the codec does not know (`_whole`)."""
    columns = _columns(bundle)
    if not columns:
        return []
    rows = _tried_rows(bundle) // (2 * sum(count for *_, count in columns))
    sides, whose = [], []
    for name, table, who in (("train", train, entities[0]), ("unseen", unseen, entities[1])):
        places = drawn(numpy_rng(seed, "read off", name), table.num_rows, rows)
        sides.append(_right(bundle, table.take(pa.array(places)), columns))
        whose.append(None if who is None else who[places])
    found = []
    for (name, *_), mine, theirs in zip(columns, *sides, strict=True):
        kept = [there for _, there in (mine, theirs)]
        of = [None if w is None else w[there] for w, there in zip(whose, kept, strict=True)]
        found.append(Guesses(name, mine[0][kept[0]], theirs[0][kept[1]], of[0], of[1]))
    return found


def _tried_rows(bundle: Bundle) -> int:
    return min(TRIED, TOKENS // bundle.spec.shape[0])


def _columns(bundle: Bundle) -> list[tuple[str, int, bool, int]]:
    """(name, its place among the tokens or classes, whether it is a class, how many values)."""
    codec = partial_conditioning(bundle.family, bundle.codec)[1]
    found = [
        (name, k, True, len(codec.conditions.values[k])) for k, name in enumerate(codec.conditions.names)
    ]
    for column, start, stop in codec.positions:
        if isinstance(column, Choice) and stop == start + 1:
            found.append((column.field.name, start, False, column.vocabulary))
    found = sorted((f for f in found if 2 <= f[3] <= VALUES), key=lambda f: (-f[3], f[0]))[:COLUMNS]
    while len(found) > 1 and _tried_rows(bundle) // (2 * sum(count for *_, count in found)) < ROWS:
        found.pop()
    return found


def _right(
    bundle: Bundle, table: pa.Table, columns: list[tuple[str, int, bool, int]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each column: (N,) how right the guess is, and (N,) whether the true value is one to guess."""
    codec = partial_conditioning(bundle.family, bundle.codec)[1]
    batch = table.combine_chunks().to_batches()[0]
    tokens = torch.from_numpy(codec.observed(batch, fill=False)).to(bundle.device)
    classes = torch.from_numpy(codec.conditions.codes(batch)).to(bundle.device).long()
    rare = {
        column.field.name: column.unseen
        for column in codec.learnt
        if isinstance(column, Choice) and (column.redrawn or column.label is not None)
    }
    found = []
    for name, place, is_class, count in columns:
        true = (classes if is_class else tokens)[:, place]
        nats = _tried(bundle, tokens, classes, place, is_class=is_class, count=count)
        best = nats >= nats.max(1, keepdim=True).values - 1e-9
        right = best.gather(1, true.clamp(0, count - 1)[:, None]).squeeze(1).double() / best.sum(1)
        there = (true >= 0) & (true < count) & (true != rare.get(name, -1))
        found.append((right.cpu().numpy(), there.cpu().numpy()))
    return found


def _tried(
    bundle: Bundle, tokens: Tensor, classes: Tensor, place: int, *, is_class: bool, count: int
) -> Tensor:
    """(N, count) log-likelihood of every row with every value in this place."""
    family, codec = partial_conditioning(bundle.family, bundle.codec)
    x, told = tokens.repeat_interleave(count, 0), classes.repeat_interleave(count, 0)
    (told if is_class else x)[:, place] = torch.arange(count, device=x.device).repeat(len(tokens))
    with one_thread(), torch.inference_mode():
        nats = log_probability(family, bundle.nets, x, told).double().sum(1)
        if is_class:
            nats = nats + log_share(codec.conditions, told).double()
    return nats.view(-1, count)
