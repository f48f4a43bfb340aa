"""Between raw network numbers and data: the output heads of all networks, and the inlets of those that read.

B batch · D columns of a vector · S categorical spans of up to V options · T positions · E width

A vector mixes scalars and one-hot choices. Choices of similar size are padded to one rectangle, so a table of
fifty columns costs a handful of tensor operations instead of fifty loops.
"""

from __future__ import annotations

import math
from itertools import accumulate

import torch
from torch import Tensor, nn

from genpipe.spec import TensorSpec


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

    def __init__(self, spec: TensorSpec, width: int) -> None:
        super().__init__()
        self.tokens = spec.layout == "tokens"
        if self.tokens:
            self.embed: nn.Module = nn.Embedding(sum(spec.vocabulary), width)
            nn.init.normal_(self.embed.weight, std=0.1)  # type: ignore[arg-type]
            own = len(spec.vocabulary) == spec.shape[0]
            starts = [0, *accumulate(spec.vocabulary)][:-1] if own else [0] * spec.shape[0]
            self.register_buffer("starts", torch.tensor(starts), persistent=False)
        else:
            self.embed = nn.Linear(spec.shape[-1], width)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """start: the position of x's first entry, for reading a piece of the whole."""
        if self.tokens:
            x = x + self.starts[start : start + x.shape[1]]
        return self.embed(x)


class Outlet(nn.Module):
    """(B, T, E) -> predictions (B, T, P) of each position.

    tokens: logits, P = the vocabulary; where positions have their own, P is the largest and the rest is -inf.
    sequence: a mixture of M diagonal Gaussians over channels, P = M * (1 + 2C); see
    `likelihood.gaussian_mixture`.
    """

    missing: Tensor

    def __init__(self, spec: TensorSpec, width: int, *, mixture: int = 1) -> None:
        super().__init__()
        self.own = spec.layout == "tokens" and len(spec.vocabulary) == spec.shape[0]
        if self.own:
            size, steps = max(spec.vocabulary), spec.shape[0]
            self.weight = nn.Parameter(torch.randn(steps, width, size) * 0.1 / math.sqrt(width))
            self.bias = nn.Parameter(torch.zeros(steps, size))
            options = torch.arange(size) < torch.tensor(spec.vocabulary).unsqueeze(1)
            self.register_buffer(
                "missing", torch.zeros(steps, size).masked_fill(~options, -math.inf), persistent=False
            )
        else:
            size = spec.vocabulary[0] if spec.layout == "tokens" else mixture * (1 + 2 * spec.shape[-1])
            self.linear = nn.Linear(width, size)
            if spec.layout != "tokens":
                spread = torch.linspace(-0.8, 0.8, mixture).repeat_interleave(1 + 2 * spec.shape[-1])
                means = torch.arange(size) % (1 + 2 * spec.shape[-1])
                inside = (means >= 1) & (means <= spec.shape[-1])
                self.linear.bias.data = torch.where(inside, spread, -1.0 * (means > spec.shape[-1]))

    def forward(self, h: Tensor, start: int = 0) -> Tensor:
        if not self.own:
            return self.linear(h)
        stop = start + h.shape[1]
        bias = (self.bias[start:stop] + self.missing[start:stop]).unsqueeze(1)
        return torch.baddbmm(bias, h.transpose(0, 1), self.weight[start:stop]).transpose(0, 1)
