"""Between raw network numbers and data: the output heads of all networks, and the inlets of those that read.

B batch · D columns of a vector · S categorical spans of up to V options · T positions · E width

A vector mixes scalars and one-hot choices. Choices of similar size are padded to one rectangle, so a table of
fifty columns costs a handful of tensor operations instead of fifty loops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from genpipe.networks.base import form
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


def alike(vocabulary: Sequence[int]) -> list[list[int]]:
    """Positions whose vocabularies are of similar size (within a factor of eight), to be padded together."""
    groups: dict[int, list[int]] = {}
    for t, size in enumerate(vocabulary):
        groups.setdefault((size - 1).bit_length() // 3, []).append(t)
    return [groups[room] for room in sorted(groups)]


class ColumnOutlet(nn.Module):
    """(B, T, E) -> logits of each position over a vocabulary of its own.

    Padding all to the largest would make one wide column the price of every column, so positions are
    computed in groups of similar size (`alike`): a list of (T_g, B, V_g), -inf where there is no such token.
    """

    def __init__(self, spec: TensorSpec, width: int) -> None:
        super().__init__()
        self.vocabulary, self.groups = spec.vocabulary, alike(spec.vocabulary)
        self.place = {t: (k, i) for k, group in enumerate(self.groups) for i, t in enumerate(group)}
        for k, group in enumerate(self.groups):
            sizes = torch.tensor([spec.vocabulary[t] for t in group])
            widest = int(sizes.max())
            weight = torch.randn(len(group), width, widest) * 0.1 / math.sqrt(width)
            self.register_parameter(f"weight_{k}", nn.Parameter(weight))
            self.register_parameter(f"bias_{k}", nn.Parameter(torch.zeros(len(group), widest)))
            options = torch.arange(widest) < sizes.unsqueeze(1)
            missing = torch.zeros(len(group), widest).masked_fill(~options, -math.inf)
            self.register_buffer(f"missing_{k}", missing, persistent=False)
            self.register_buffer(f"columns_{k}", torch.tensor(group), persistent=False)

    def forward(self, h: Tensor) -> list[Tensor]:
        by_position = h.transpose(0, 1)
        return [
            torch.baddbmm(
                (self.get_parameter(f"bias_{k}") + self.get_buffer(f"missing_{k}")).unsqueeze(1),
                by_position.index_select(0, self.get_buffer(f"columns_{k}")),
                self.get_parameter(f"weight_{k}"),
            )
            for k in range(len(self.groups))
        ]

    def at(self, h: Tensor, position: int) -> Tensor:
        """(B, E) -> (B, V): one position's logits."""
        k, i = self.place[position]
        size = self.vocabulary[position]
        weight = self.get_parameter(f"weight_{k}")[i, :, :size]
        return torch.addmm(self.bias(position), h, weight)

    def bias(self, position: int) -> Tensor:
        """(V,) the biases of one position, to be changed in place."""
        k, i = self.place[position]
        return self.get_parameter(f"bias_{k}")[i, : self.vocabulary[position]]


def make_outlet(spec: TensorSpec, width: int, *, mixture: int = 1) -> Outlet | ColumnOutlet:
    """The outlet for these tensors: see `networks.base.form`."""
    return ColumnOutlet(spec, width) if form(spec) == "columns" else Outlet(spec, width, mixture=mixture)
