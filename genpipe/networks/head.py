"""Between raw network numbers and data: the output heads of all networks, and the inlets of those that read.

B batch · D columns of a vector · S categorical spans of up to V options · T positions · E width

A vector mixes scalars and one-hot choices. Choices of similar size are padded to one rectangle, so a table of
fifty columns costs a handful of tensor operations instead of fifty loops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor, nn

from genpipe.spec import TensorSpec

GROUP = 64  # options a position may be padded by rather than open another group
MOST_SIZES = 64  # different sizes a group may hold: bounds the search
WAVES = 24  # cosines a curve over ordered options is made of
RAREST = 1e-6  # ranks are at least so far from 0 and 1, where their odds have no logarithm


class Head(nn.Module):
    """Raw generator or decoder output -> x: tanh for values, a softmax for every choice of a vector."""

    continuous: Tensor
    back: Tensor

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.width = spec.shape[0]
        spans = [s for s in spec.spans if s.kind == "categorical"]
        values = [i for s in spec.spans if s.kind == "continuous" for i in range(s.start, s.start + s.size)]
        self.register_buffer("continuous", torch.tensor(values, dtype=torch.long), persistent=False)
        sizes: dict[int, list[list[int]]] = {}
        for span in spans:  # groups of up to 2, 4, 8, ... options; column D stands for "no such option"
            room = 2 ** math.ceil(math.log2(max(span.size, 2)))
            columns = list(range(span.start, span.start + span.size))
            sizes.setdefault(room, []).append(columns + [self.width] * (room - span.size))
        self.groups = len(sizes)
        order = list(values)
        for k, group in enumerate(sizes.values()):
            index = torch.tensor(group)
            self.register_buffer(f"index_{k}", index, persistent=False)
            self.register_buffer(
                f"real_{k}", (index.flatten() < self.width).nonzero().flatten(), persistent=False
            )
            order += [c for columns in group for c in columns if c < self.width]
        back = torch.tensor(order, dtype=torch.long).argsort()
        self.register_buffer("back", back, persistent=False)

    def padded(self, x: Tensor, *, missing: float) -> list[Tensor]:
        """The categorical spans of x: (B, D) as rectangles (B, S, V), `missing` where an option does not
        exist.
        """
        if not self.groups:
            return []
        wide = torch.cat([x, x.new_full((len(x), 1), missing)], 1)
        parts = [self.get_buffer(f"index_{k}") for k in range(self.groups)]
        return [wide.index_select(1, index.flatten()).unflatten(1, index.shape) for index in parts]

    def _join(self, values: Tensor, choices: list[Tensor]) -> Tensor:
        parts = [
            choice.flatten(1).index_select(1, self.get_buffer(f"real_{k}"))
            for k, choice in enumerate(choices)
        ]
        return torch.cat([values, *parts], 1).index_select(1, self.back)

    def forward(self, raw: Tensor, noise: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
        """x of raw (B, *shape). noise (B, D): Gumbel numbers; then choices are relaxed draws, else
        probabilities.

        Gumbel-softmax: Jang et al. 2017; Maddison et al. 2017.
        """
        if not self.groups:
            return torch.tanh(raw)
        logits = raw if noise is None else raw + noise
        soft = [(group / temperature).softmax(-1) for group in self.padded(logits, missing=-math.inf)]
        return self._join(torch.tanh(raw[:, self.continuous]), soft)

    def harden(self, x: Tensor) -> Tensor:
        """x with every choice one-hot at its largest entry."""
        if not self.groups:
            return x
        groups = self.padded(x, missing=-math.inf)
        hard = [torch.zeros_like(g).scatter_(-1, g.argmax(-1, keepdim=True), 1.0) for g in groups]
        return self._join(x[:, self.continuous], hard)


def gumbel(uniform: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) -> standard Gumbel numbers."""
    return -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))


class Inlet(nn.Module):
    """Positions -> vectors: x (B, T) tokens or (B, T, C) values -> (B, T, E)."""

    starts: Tensor

    def __init__(self, spec: TensorSpec, width: int, *, scale: float) -> None:
        """scale: the standard deviation of embeddings at the start."""
        super().__init__()
        self.tokens = spec.layout == "tokens"
        if self.tokens:
            self.embed: nn.Module = nn.Embedding(sum(spec.vocabulary), width)
            nn.init.normal_(self.embed.weight, std=scale)  # type: ignore[arg-type]
            own = len(spec.vocabulary) == spec.shape[0]
            starts = [0, *accumulate(spec.vocabulary)][:-1] if own else [0] * spec.shape[0]
            self.register_buffer("starts", torch.tensor(starts), persistent=False)
        else:
            self.embed = nn.Linear(spec.shape[-1], width)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """start: the position of x's first entry, for reading a piece of the whole."""
        if self.tokens:
            x = x + self.starts[start : start + x.shape[1]]
            # as embed(x), but its backward pass on a CPU takes a third of the time
            return self.embed.weight.index_select(0, x.flatten()).unflatten(0, x.shape)  # type: ignore[union-attr, operator]
        return self.embed(x)


class Outlet(nn.Module):
    """(B, T, E) -> predictions (B, T, P) of each position.

    tokens: logits, P = the vocabulary; where positions have their own, a ColumnOutlet is the one to take.
    sequence: a mixture of M diagonal Gaussians over channels, P = M * (1 + 2C); see
    `likelihood.gaussian_mixture`.
    """

    def __init__(self, spec: TensorSpec, width: int, *, mixture: int = 1) -> None:
        super().__init__()
        size = spec.vocabulary[0] if spec.layout == "tokens" else mixture * (1 + 2 * spec.shape[-1])
        self.linear = nn.Linear(width, size)
        if spec.layout != "tokens":
            spread = torch.linspace(-0.8, 0.8, mixture).repeat_interleave(1 + 2 * spec.shape[-1])
            means = torch.arange(size) % (1 + 2 * spec.shape[-1])
            inside = (means >= 1) & (means <= spec.shape[-1])
            self.linear.bias.data = torch.where(inside, spread, -1.0 * (means > spec.shape[-1]))

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(h)

    def at(self, h: Tensor, position: int) -> Tensor:
        """(B, E) -> (B, P): one position's predictions."""
        return self.linear(h)


@lru_cache(maxsize=64)
def alike(vocabulary: tuple[int, ...]) -> list[list[int]]:
    """Positions in groups whose vocabularies are padded to their largest, so that padding and the number of
    groups, each worth `GROUP` options, cost least together: shortest path over the sorted sizes.
    """
    sizes = sorted(set(vocabulary))
    upto = [sum(v <= size for v in vocabulary) for size in sizes]
    best: list[tuple[int, int]] = [(0, 0)]  # cost of the first k sizes, and where the last group begins
    for k, size in enumerate(sizes):
        costs = [
            (best[i][0] + size * (upto[k] - (upto[i - 1] if i else 0)) + GROUP, i)
            for i in range(max(0, k + 1 - MOST_SIZES), k + 1)
        ]
        best.append(min(costs))
    groups, end = list[list[int]](), len(sizes)
    while end:
        begin = best[end][1]
        low, high = sizes[begin], sizes[end - 1]
        groups.append([t for t, size in enumerate(vocabulary) if low <= size <= high])
        end = begin
    return groups[::-1]


def rank_cosines(shares: Sequence[float], waves: int, *, power: float, tails: int = 0) -> Tensor:
    """(V, waves) cosines of each option's rank, wave k over k ** power: functions that are alike for near
    options of an ordered position. shares: (V,) in the training split; a rank is the middle of its share.

    tails: so many of the waves, at most a quarter, are of the rank's log-odds: the last hundredth of the
    rows has nearly one rank, and to cosines, flat at both ends, it is one option.
    """
    share = torch.tensor(shares)
    rank = share.cumsum(0) - share / 2
    tails = min(tails, waves // 4)
    odds = torch.logit(rank.clamp(RAREST, 1 - RAREST))
    places = ((rank, waves - tails), ((1 + odds / odds.abs().max().clamp_min(1e-9)) / 2, tails))
    found = []
    for place, count in places:
        wave = torch.arange(1, count + 1)
        found.append(torch.cos(math.pi * place[:, None] * wave) / wave**power)
    return torch.cat(found, 1)


class ColumnOutlet(nn.Module):
    """(B, T, E) -> logits of each position over a vocabulary of its own.

    Padding all to the largest would make one wide column the price of every column, so positions are
    computed in groups of similar size (`alike`): a list of (T_g, B, V_g), -inf where there is no such token.

    The logits of an ordered position are a free weight for each option plus a smooth curve over the options,
    a learnt mixture of `rank_cosines`: what is seen of one number tells of those near it. On the housing
    table that is worth 0.2 nats a row; see the lab notes.
    """

    order: Tensor

    def __init__(self, spec: TensorSpec, width: int, *, tails: int = 0) -> None:
        """tails: waves of curves beside WAVES, see `rank_cosines`."""
        super().__init__()
        self.tails = tails
        self.vocabulary, self.groups = spec.vocabulary, alike(spec.vocabulary)
        self.place = {t: (k, i) for k, group in enumerate(self.groups) for i, t in enumerate(group)}
        self.register_buffer("order", torch.tensor([t for g in self.groups for t in g]), persistent=False)
        for k, group in enumerate(self.groups):
            sizes = torch.tensor([spec.vocabulary[t] for t in group])
            widest = int(sizes.max())
            weight = torch.randn(len(group), width, widest) * 0.1 / math.sqrt(width)
            self.register_parameter(f"weight_{k}", nn.Parameter(weight))
            self.register_parameter(f"bias_{k}", nn.Parameter(torch.zeros(len(group), widest)))
            options = torch.arange(widest) < sizes.unsqueeze(1)
            missing = torch.zeros(len(group), widest).masked_fill(~options, -math.inf)
            self.register_buffer(f"missing_{k}", missing, persistent=False)
            self._add_curves(spec, k, weight)

    def _add_curves(self, spec: TensorSpec, k: int, weight: Tensor) -> None:
        """The smooth part of group k, where it has ordered positions; their free part begins small."""
        curved = [i for i, t in enumerate(self.groups[k]) if spec.frequencies and is_curve(spec, t)]
        number = WAVES + self.tails
        waves = torch.zeros(len(self.groups[k]), number, weight.shape[-1])
        for i in curved:
            shares = spec.frequencies[self.groups[k][i]]
            cosines = rank_cosines(shares, number, power=1.5, tails=self.tails)
            waves[i, :, : len(cosines)] = cosines.t()
        weight[curved] *= 0.1
        mixture = torch.randn(len(waves), weight.shape[1], number) * 0.1 / math.sqrt(weight.shape[1])
        self.register_parameter(f"curve_{k}", nn.Parameter(mixture) if curved else None)
        self.register_buffer(f"waves_{k}", waves, persistent=False)

    def _weight(self, k: int, own: slice = slice(None)) -> Tensor:
        """(T_g, E, V_g) of a group, or of some of its positions."""
        weight, curve = self.get_parameter(f"weight_{k}")[own], getattr(self, f"curve_{k}")
        if curve is None:
            return weight
        return torch.baddbmm(weight, curve[own], self.get_buffer(f"waves_{k}")[own])

    def forward(self, h: Tensor) -> list[Tensor]:
        by_group = h.transpose(0, 1).index_select(0, self.order).split([len(g) for g in self.groups])
        return [
            torch.baddbmm(
                (self.get_parameter(f"bias_{k}") + self.get_buffer(f"missing_{k}")).unsqueeze(1),
                each,
                self._weight(k),
            )
            for k, each in enumerate(by_group)
        ]

    def at(self, h: Tensor, position: int) -> Tensor:
        """(B, E) -> (B, V): one position's logits, those of an option side by side (`batch.cumulated`)."""
        k, i = self.place[position]
        weight = self._weight(k, slice(i, i + 1))[0, :, : self.vocabulary[position]]
        return torch.addmm(self.bias(position).unsqueeze(1), weight.t(), h.t()).t()

    def bias(self, position: int) -> Tensor:
        """(V,) the biases of one position, to be changed in place."""
        k, i = self.place[position]
        return self.get_parameter(f"bias_{k}")[i, : self.vocabulary[position]]


def is_curve(spec: TensorSpec, position: int) -> bool:
    """Whether a position's options are ranks, enough of them for a curve to say something."""
    return spec.ordered[position] and spec.vocabulary[position] > 2
