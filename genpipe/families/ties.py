"""Which columns of a table of few rows hang together? Those of which nothing says so are learnt apart.

A network that sees every earlier column finds in few rows ties that are chance: they make no unseen row
likelier, and tell who was there. So each pair is tested for independence: the likelihood-ratio statistic G of
coarse ranks or options, beside that of the same rows in shuffled order (all pairs at once: rows of one side
are moved whole), whose mean and spread give a gamma law (Mielke & Berry, "Permutation methods", 2007, section
2.3). Of all pairs those stay whose expected share of false ones is at most `FALSE` (Benjamini & Hochberg,
"Controlling the false discovery rate", 1995): where nothing hangs together none does, and where nearly all
does, little is cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from genpipe.draws import Draws
from genpipe.spec import TensorSpec

FALSE = 0.05  # of the ties that stay, so many may be chance
LEVELS = (6, 24)  # a column's, in each test: coarse sees weak trends, fine sees who lives where
SHUFFLES = 40
WIDEST = 1024  # of all columns together; more columns have fewer
ROWS = 4096  # at most: of so many, every tie worth having shows


def tied(x: Tensor, condition: Tensor, spec: TensorSpec, rng: Draws) -> Tensor:
    """(T, T + K) bool: whether each position of x (N, T) hangs together with another, or with a class of
    condition (N, K). A position hangs together with itself.
    """
    steps = spec.shape[0]
    sides = torch.cat([x, condition], 1).cpu()
    chances = torch.ones(sides.shape[1], sides.shape[1], dtype=torch.float64)
    for most in LEVELS:
        levels = _levels(sides, spec, max(2, min(most, WIDEST // sides.shape[1])))
        chances = torch.minimum(chances, len(LEVELS) * _chances(levels, rng))
    pairs = torch.ones_like(chances, dtype=torch.bool).tril(-1)
    pairs[steps:] &= torch.arange(len(pairs)) < steps  # classes are given together
    found = torch.zeros_like(pairs)
    found[pairs] = _kept(chances[pairs])
    return (found | found.t() | torch.eye(len(found), dtype=torch.bool))[:steps].to(x.device)


def _kept(chances: Tensor) -> Tensor:
    """(P,) bool: below the largest chance that keeps the share of false ones."""
    ordered = chances.sort().values
    allowed = FALSE * torch.arange(1, len(ordered) + 1) / max(1, len(ordered))
    below = (ordered <= allowed).nonzero()
    return chances <= (ordered[int(below[-1])] if len(below) else -1.0)


def _levels(sides: Tensor, spec: TensorSpec, most: int) -> list[Tensor]:
    """(N, L) one-hot of each column, L at most `most`: neighbouring ranks together, or rare options."""
    found = []
    for t, codes in enumerate(sides.unbind(1)):
        counts = torch.bincount(codes)
        if t < len(spec.ordered) and spec.ordered[t]:
            middle = counts.cumsum(0) - counts / 2
            level = (middle * most / len(codes)).long().clamp(max=most - 1)
        else:
            level = counts.argsort(descending=True, stable=True).argsort().clamp(max=most - 1)
        found.append(one_hot(level.unique(return_inverse=True)[1][codes]).float())
    return found


def _chances(levels: Sequence[Tensor], rng: Draws) -> Tensor:
    """(S, S) how likely so large a statistic is where columns are independent."""
    rows, widths = len(levels[0]), [level.shape[1] for level in levels]
    table = torch.cat(list(levels), 1)
    of = one_hot(torch.arange(len(levels)).repeat_interleave(torch.tensor(widths))).t().double()
    own = of @ _n_log_n(table.sum(0).double())
    alone = own[:, None] + own - rows * math.log(rows)

    def statistic(other: Tensor) -> Tensor:
        cells = _n_log_n((table.t() @ other).double())
        return (of @ cells @ of.t() - alone).mul(2).clamp_min(0)

    shuffled = torch.stack([statistic(table[rng.order(rows).cpu()]) for _ in range(SHUFFLES)])
    mean, variance = shuffled.mean(0).clamp_min(1e-9), shuffled.var(0).clamp_min(1e-9)
    chances: Tensor = torch.special.gammaincc(mean.square() / variance, statistic(table) * mean / variance)
    return chances


def _n_log_n(counts: Tensor) -> Tensor:
    found: Tensor = torch.special.xlogy(counts, counts)
    return found
