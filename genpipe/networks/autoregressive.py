"""Table columns one after the other: each column's distribution given all columns before it, in one masked
pass.

A MADE (Germain et al. 2015) with a block of units per column, as in TabularARGN (Tiwald et al. 2025): column
t's units see the embeddings of columns < t only, because the weight matrix is strictly lower block-
triangular; then every column has a hidden layer and a head of its own. One matrix product and one batched one
train all columns; sampling walks them and computes only the block it needs.

What a column is like is known before the first step: heads start at its frequencies in the training split
(as in TabularARGN), embeddings of ordered values at cosines of their rank, so that near values look alike.

B batch · T columns · E embedding width · U units a column · S width of the one-hot condition
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import silu

from genpipe.networks.base import NetworkConfig
from genpipe.networks.head import Inlet, Outlet
from genpipe.spec import TensorSpec

RAREST = 1e-4  # added to every share, so that no logit begins at minus infinity


class AutoregressiveConfig(NetworkConfig):
    """embed: width of a column's embedding, at most its number of values. width: units of a column in each of
    the two hidden layers.

    smooth: scale of the rank cosines that ordered embeddings begin with; 0 begins them at random.
    """

    network: Literal["autoregressive"] = "autoregressive"
    embed: int = Field(default=32, ge=1, json_schema_extra={"search": {"choices": [16, 32, 48]}})
    width: int = Field(default=32, ge=1, json_schema_extra={"search": {"choices": [32, 64]}})
    smooth: float = Field(default=2.0, ge=0)


@dataclass
class State:
    """condition (B, S); the embeddings of the columns drawn so far."""

    condition: Tensor
    seen: list[Tensor] = field(default_factory=list)


def block_mask(rows: int, widths: Sequence[int]) -> Tensor:
    """(T·rows, sum of widths) of zeros and ones: block (t, s), `widths[s]` wide, is one where s < t."""
    steps = len(widths)
    earlier = torch.ones(steps, steps).tril(-1).repeat_interleave(rows, 0)
    return earlier.repeat_interleave(torch.tensor(widths), 1)


def scaled(mask: Tensor) -> nn.Parameter:
    """Weights whose variance counts only the inputs the mask lets through."""
    return nn.Parameter(torch.randn_like(mask) * mask / mask.sum(1, keepdim=True).clamp_min(1).sqrt())


class Columns(nn.Module):
    mask: Tensor
    kept: Tensor

    def __init__(self, spec: TensorSpec, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.steps, self.embed, self.width = spec.shape[0], config.embed, config.width
        self.inlet, self.outlet = Inlet(spec, config.embed), Outlet(spec, config.width)
        widths = [min(config.embed, size) for size in spec.vocabulary]
        self.ends = [0, *accumulate(widths)]
        kept = [t * config.embed + i for t, width in enumerate(widths) for i in range(width)]
        # persistent=False: they follow from the sizes
        self.register_buffer("kept", torch.tensor(kept), persistent=False)
        self.register_buffer("mask", block_mask(self.width, widths), persistent=False)
        self.before = scaled(self.mask)
        self.bias = nn.Parameter(torch.zeros(self.steps * self.width))
        self.within = nn.Parameter(torch.randn(self.steps, self.width, self.width) / math.sqrt(self.width))
        self.shift = nn.Parameter(torch.zeros(self.steps, 1, self.width))
        conditions = sum(spec.conditions)
        self.condition = nn.Linear(conditions, self.steps * self.width, bias=False) if conditions else None
        if spec.frequencies:
            self._begin_at(spec, config.smooth)

    @torch.no_grad()
    def _begin_at(self, spec: TensorSpec, smooth: float) -> None:
        """Heads at the marginals; embeddings of ordered columns at cosines of the rank."""
        at = 0
        for t, shares in enumerate(spec.frequencies):
            share = torch.tensor(shares)
            self.outlet.bias[t, : len(share)] = (share + RAREST).log()
            if spec.ordered[t] and smooth and len(share) > 2:
                rank = share.cumsum(0) - share / 2
                wave = torch.arange(1, self.embed + 1)
                cosines = torch.cos(math.pi * rank[:, None] * wave) / wave.sqrt()
                self.inlet.embed.weight[at : at + len(share)] = smooth * cosines  # type: ignore[union-attr, operator, index]
            at += len(share)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = torch.addmm(
            self.bias, self.inlet(x).flatten(1).index_select(1, self.kept), (self.before * self.mask).t()
        )
        if self.condition is not None:
            h = h + self.condition(c)
        return self._predict(h.unflatten(1, (self.steps, self.width)), slice(None))

    def _predict(self, h: Tensor, columns: slice) -> Tensor:
        """(B, t, U) units of these columns -> their logits; every column has a second layer of its own."""
        first = silu(h).transpose(0, 1).contiguous()  # (t, B, U): from here on every column for itself
        deeper = torch.baddbmm(self.shift[columns], first, self.within[columns])
        return self.outlet((first + silu(deeper)).transpose(0, 1), columns.start or 0)

    def begin(self, c: Tensor) -> State:
        return State(c)

    def step(self, previous: Tensor | None, state: State) -> tuple[Tensor, State]:
        if previous is not None:
            t = len(state.seen)
            seen = self.inlet(previous.unsqueeze(1), t).squeeze(1)
            state.seen.append(seen[:, : self.ends[t + 1] - self.ends[t]])
        t = len(state.seen)
        rows = slice(t * self.width, (t + 1) * self.width)
        h = self.bias[rows].expand(len(state.condition), -1)
        if t:
            h = torch.addmm(h, torch.cat(state.seen, 1), self.before[rows, : self.ends[t]].t())
        if self.condition is not None:
            h = h + state.condition @ self.condition.weight[rows].t()
        return self._predict(h.unsqueeze(1), slice(t, t + 1)).squeeze(1), state


class Autoregressive:
    Config: ClassVar[type[Any]] = AutoregressiveConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"columns"})
    roles: ClassVar[frozenset[str]] = frozenset({"model"})

    @staticmethod
    def build(role: str, spec: TensorSpec, config: AutoregressiveConfig, *, latent: int = 0) -> nn.Module:
        return Columns(spec, config)
