"""Table columns one after the other: each column's distribution given all columns before it, in one masked
pass.

A MADE (Germain et al. 2015) with a block of units per column, as in TabularARGN (Tiwald et al. 2025): column
t's units see the embeddings of columns < t only, because the weight matrix is strictly lower block-
triangular; then every column has a hidden layer and a head of its own. One matrix product and one batched one
train all columns; sampling walks them and computes only the block it needs.

What a column is like is observed before the first step: heads start at its frequencies in the training split
(as in TabularARGN), embeddings of ordered values at cosines of their rank, so that near values look alike.

B batch · T columns · E embedding width · U units a column · S width of the one-hot condition
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag, silu

from genpipe.networks.base import NetworkConfig
from genpipe.networks.head import ColumnOutlet, Inlet, is_curve, rank_cosines
from genpipe.spec import TensorSpec

MOST_WEIGHTS = 2**25  # of the first layer: 128 MiB, and as much again for each of two moments
STAIRS = 6  # more save less than their matrix products cost
RAREST = 1e-4  # added to every share, so that no logit begins at minus infinity


class AutoregressiveConfig(NetworkConfig):
    """embed: width of a column's embedding, at most its number of values. width: units of a column in each of
    the two hidden layers.

    order: `fixed` learns the columns in their order; `any` also learns random orders, a new one every step,
    so that any columns may be given and the others made to fit them (imputation, conditions). That costs
    some fidelity at equal time.
    ties: `tested` lets a column see those it hangs together with by a test before the first step
    (families/ties.py), `all` every one. Without a word (null) `tested` for few rows, see `suited.fitted_to`.
    smooth: scale of the rank cosines that ordered embeddings begin with; 0 begins them at random. tails: how
    many of these, and of those that curves are made of, tell the rarest ranks apart.
    """

    network: Literal["autoregressive"] = "autoregressive"
    embed: int = Field(default=32, ge=1, le=1024, json_schema_extra={"search": {"choices": [16, 32, 48]}})
    width: int = Field(default=48, ge=1, le=4096, json_schema_extra={"search": {"choices": [32, 48, 64]}})
    order: Literal["fixed", "any"] = "fixed"
    ties: Literal["all", "tested"] | None = Field(default=None, exclude_if=lambda ties: ties is None)
    smooth: float = Field(default=2.0, ge=0, le=1000)
    tails: int = Field(default=0, ge=0, le=8, exclude_if=lambda tails: tails == 0)

    def held(self, spec: TensorSpec, rows: int) -> int:
        (embed, width), size = fitted(spec, self), sum(spec.vocabulary)
        looked_up = width * spec.shape[0] * (size + 2) if rows >= size else 0
        return looked_up + rows * sum(min(embed, own) for own in spec.vocabulary)


class Multiplied:
    """What a column's units get from the columns observed so far, and their bias: embeddings (B, sum of E),
    zero where nothing is observed, times the first layer. observed (B, T): see `Columns.begin`.
    """

    def __init__(self, net: Columns, rows: int, observed: Tensor | None) -> None:
        self.net, self.given, self.first = net, observed is not None, net.first()
        if observed is None:
            self.seen = net.before.new_zeros(rows, net.ends[-1])
        else:
            self.seen = net.embedded(observed.clamp_min(0)) * (observed >= 0)[:, net.source]

    def put(self, t: int, tokens: Tensor) -> None:
        begin, end = self.net.ends[t : t + 2]
        self.seen[:, begin:end] = self.net.inlet(tokens.unsqueeze(1), t)[:, 0, : end - begin]

    def units(self, t: int) -> Tensor:
        """(B, U) of column t."""
        net, upto = self.net, self.net.ends[t]
        weight = self.first[t * net.width : (t + 1) * net.width]
        if self.given:  # later columns may be observed, too; a column never sees itself
            weight, upto = weight * (net.source != t), net.ends[-1]
        return torch.addmm(net.bias.view(net.steps, -1)[t], self.seen[:, :upto], weight[:, :upto].t())


class LookedUp:
    """The same as sums of rows of a table, which holds what each option of each column gives: made once, a
    fifth of the time of a matrix product where rows outnumber options.
    """

    def __init__(self, net: Columns, rows: int, observed: Tensor | None) -> None:
        self.starts, self.given = net.inlet.starts, observed is not None
        options = net.inlet.embed.weight.split(net.sizes)  # type: ignore[union-attr, operator]
        size, first = sum(net.sizes), net.first()
        table = net.before.new_zeros(net.steps, size + 2, net.width)  # with a row for nothing, and the bias
        table[:, -1] = net.bias.view(net.steps, -1)
        for t, (option, (begin, end)) in enumerate(zip(options, pairwise(net.ends), strict=True)):
            own = slice(int(self.starts[t]), int(self.starts[t]) + net.sizes[t])
            given = option[:, : end - begin] @ first[:, begin:end].t()
            table[:, own] = given.unflatten(1, (net.steps, net.width)).transpose(0, 1)
            table[t, own] = 0.0
        self.table, self.places = table, self.starts.new_full((rows, net.steps + 1), size)
        self.places[:, 0] = size + 1
        if observed is not None:
            self.places[:, 1:] = torch.where(observed >= 0, observed + self.starts, size)

    def put(self, t: int, tokens: Tensor) -> None:
        self.places[:, t + 1] = tokens + self.starts[t]

    def units(self, t: int) -> Tensor:
        places = self.places if self.given else self.places[:, : t + 1]
        return embedding_bag(places, self.table[t], mode="sum")


class Staircase(torch.autograd.Function):
    """bias (N,) + x (B, D) times weight (N, D) transposed, where weight is lower block-triangular: `stairs`
    are (begin, end, upto), rows begin to end of weight with nothing in columns from upto on. What is zero is
    not multiplied, which is a seventh of a table's step. Differentiable once.
    """

    @staticmethod
    def forward(
        ctx: Any, bias: Tensor, x: Tensor, weight: Tensor, stairs: list[tuple[int, int, int]]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stairs = stairs
        parts = [torch.addmm(bias[a:b], x[:, :upto], weight[a:b, :upto].t()) for a, b, upto in stairs]
        return torch.cat(parts, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        outer = outer.to(x.dtype)
        for_x, for_weight = torch.zeros_like(x), torch.zeros_like(weight)
        for a, b, upto in ctx.stairs:
            for_x[:, :upto].addmm_(outer[:, a:b], weight[a:b, :upto])
            for_weight[a:b, :upto] = outer[:, a:b].t() @ x[:, :upto]
        return outer.sum(0), for_x, for_weight, None


@dataclass
class PrefixState:
    """before: what the columns observed so far give. t: the next column."""

    condition: Tensor
    before: Multiplied | LookedUp
    t: int = 0


def scaled(mask: Tensor) -> nn.Parameter:
    """Weights whose variance counts only the inputs the mask lets through."""
    return nn.Parameter(torch.randn_like(mask) * mask / mask.sum(1, keepdim=True).clamp_min(1).sqrt())


def fitted(spec: TensorSpec, config: AutoregressiveConfig) -> tuple[int, int]:
    """Widths of embedding and units: the config's, or fewer where the first layer, which grows with the
    square of the number of columns, would pass MOST_WEIGHTS.
    """
    inputs = sum(min(config.embed, size) for size in spec.vocabulary)
    room = min(1.0, math.sqrt(MOST_WEIGHTS / (spec.shape[0] * config.width * inputs)))
    return tuple(max(1, round(size * room)) for size in (config.embed, config.width))  # type: ignore[return-value]


class Columns(nn.Module):
    kept: Tensor
    mask: Tensor
    unit: Tensor
    source: Tensor
    field: Tensor
    tied: Tensor | None

    def __init__(self, spec: TensorSpec, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.steps, self.any_order = spec.shape[0], config.order == "any"
        self.sizes = list(spec.vocabulary)
        self.embed, self.width = fitted(spec, config)
        self.inlet = Inlet(spec, self.embed, scale=0.1)
        self.outlet = ColumnOutlet(spec, self.width, tails=config.tails)
        widths = [min(self.embed, size) for size in spec.vocabulary]
        self.ends = [0, *accumulate(widths)]
        kept = [t * self.embed + i for t, width in enumerate(widths) for i in range(width)]
        cuts = [round(k * self.steps / STAIRS) for k in range(STAIRS + 1)]
        self.stairs = [
            (begin * self.width, end * self.width, self.ends[end - 1])
            for begin, end in pairwise(cuts)
            if begin < end
        ]
        column = torch.arange(self.steps)
        # persistent=False: they follow from the sizes
        self.register_buffer("kept", torch.tensor(kept), persistent=False)
        self.register_buffer("unit", column.repeat_interleave(self.width), persistent=False)
        self.register_buffer("source", column.repeat_interleave(torch.tensor(widths)), persistent=False)
        self.register_buffer("mask", self._mask(column), persistent=False)
        others = (self.source != self.unit.unsqueeze(1)).float()
        self.before = scaled(others if self.any_order else self.mask)
        self.bias = nn.Parameter(torch.zeros(self.steps * self.width))
        self.within = nn.Parameter(torch.randn(self.steps, self.width, self.width) / math.sqrt(self.width))
        self.shift = nn.Parameter(torch.zeros(self.steps, 1, self.width))
        conditions = sum(spec.conditions)
        self.condition = nn.Linear(conditions, self.steps * self.width, bias=False) if conditions else None
        field = torch.arange(len(spec.conditions)).repeat_interleave(torch.tensor(spec.conditions).long())
        self.register_buffer("field", self.steps + field, persistent=False)
        everything = torch.ones(self.steps, self.steps + len(spec.conditions), dtype=torch.bool)
        self.register_buffer("tied", everything if config.ties == "tested" else None)
        if spec.frequencies:
            self._begin_at(spec, config)

    def _mask(self, order: Tensor) -> Tensor:
        """(T·U, sum of E) ones where a unit's column comes after the embedding's. order (T,): columns as
        drawn.
        """
        place = order.argsort()
        return (place[self.source] < place[self.unit].unsqueeze(1)).float()

    @torch.no_grad()
    def _begin_at(self, spec: TensorSpec, config: AutoregressiveConfig) -> None:
        """Heads at the marginals; embeddings of ordered columns at cosines of the rank."""
        at = 0
        for t, shares in enumerate(spec.frequencies):
            share = torch.tensor(shares)
            self.outlet.bias(t).copy_((share + RAREST).log())
            if is_curve(spec, t) and config.smooth:
                cosines = config.smooth * rank_cosines(shares, self.embed, power=0.5, tails=config.tails)
                self.inlet.embed.weight[at : at + len(share)] = cosines  # type: ignore[union-attr, operator, index]
            at += len(share)

    def first(self) -> Tensor:
        """(T·U, sum of E) the first layer, nothing where columns are not tied."""
        return self.before if self.tied is None else self.before * self.tied[self.unit][:, self.source]

    def given_by_classes(self, rows: slice = slice(None)) -> Tensor:
        """(T·U, S) what each class gives these units, nothing where column and class are not tied."""
        weight = self.condition.weight[rows]  # type: ignore[union-attr]
        return weight if self.tied is None else weight * self.tied[self.unit[rows]][:, self.field]

    def embedded(self, x: Tensor) -> Tensor:
        """(B, T) tokens -> (B, sum of E)"""
        return self.inlet(x).flatten(1).index_select(1, self.kept)

    def forward(
        self, x: Tensor, c: Tensor, order: Tensor | None = None, there: Tensor | None = None
    ) -> list[Tensor]:
        """order (T,): columns in the order in which they see each other; None is their own.
        there (B, T): which tokens are observed; None is all.
        """
        seen = self.embedded(x)
        if there is not None:
            seen = seen * there[:, self.source]
        if order is None:
            h = Staircase.apply(self.bias, seen, self.first() * self.mask, self.stairs)
        else:
            h = torch.addmm(self.bias, seen, (self.first() * self._mask(order)).t())
        if self.condition is not None:
            h = torch.addmm(h, c, self.given_by_classes().t())
        h = silu(h).unflatten(1, (self.steps, self.width)).transpose(0, 1).contiguous()
        return self.outlet((h + silu(torch.baddbmm(self.shift, h, self.within))).transpose(0, 1))

    def begin(self, c: Tensor, observed: Tensor | None = None) -> PrefixState:
        """observed (B, T): tokens given beforehand, negative where there is none; only where `any_order`."""
        before = LookedUp if len(c) >= sum(self.sizes) else Multiplied
        return PrefixState(c, before(self, len(c), observed))

    def step(self, previous: Tensor | None, state: PrefixState) -> tuple[Tensor, PrefixState]:
        t = state.t
        if previous is not None:
            state.before.put(t - 1, previous)
        rows = slice(t * self.width, (t + 1) * self.width)
        h = state.before.units(t)
        if self.condition is not None:
            h = torch.addmm(h, state.condition, self.given_by_classes(rows).t())
        h = silu(h)
        state.t += 1
        return self.outlet.at(h + silu(torch.addmm(self.shift[t], h, self.within[t])), t), state


class Autoregressive:
    Config: ClassVar[type[Any]] = AutoregressiveConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"columns"})
    roles: ClassVar[frozenset[str]] = frozenset({"model"})

    @staticmethod
    def build(role: str, spec: TensorSpec, config: AutoregressiveConfig, *, latent: int = 0) -> nn.Module:
        return Columns(spec, config)
