"""Recurrent models of tokens and of real-valued sequences: RNN (Elman 1990), LSTM (Hochreiter & Schmidhuber
1997), GRU (Cho et al. 2014); for values with a mixture-density output (Graves 2013). The same cells make
whole sequences from a code, and read them (unrolled.py).

The condition enters at every step, and the first input is a learnt start vector.

B batch · T steps · E width · S width of the one-hot condition · P predictions a step
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genpipe.networks.base import NetworkConfig
from genpipe.networks.head import Inlet
from genpipe.networks.outlets import density_numbers, make_outlet, outlet_at, outlet_of_all
from genpipe.networks.season import season_inlet
from genpipe.networks.unrolled import Generator, Reader
from genpipe.spec import TensorSpec

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentConfig(NetworkConfig):
    """mixture: components of the density of a real value (unused for tokens, generators and critics).

    channels: of a step of real values: one mixture for all, or each in turn given those before it
    (in_turn.py).
    positions: whether a learnt vector tells each step where it is, as the tokens of a map need: what lies
    above one came a row ago, and a cell cannot count rows as well as it can be told.
    """

    network: Literal["recurrent"] = "recurrent"
    cell: Literal["rnn", "gru", "lstm"] = Field(
        default="gru", json_schema_extra={"search": {"choices": ["gru", "lstm"]}}
    )
    width: int = Field(
        default=128, ge=1, le=8192, json_schema_extra={"search": {"choices": [64, 128, 192, 256]}}
    )
    depth: int = Field(default=1, ge=1, le=32, json_schema_extra={"search": {"low": 1, "high": 2}})
    mixture: int = Field(default=5, ge=1, le=1024)
    channels: Literal["together", "in turn"] = Field(
        default="together", exclude_if=lambda channels: channels == "together"
    )
    positions: bool = Field(default=False, exclude_if=lambda told: not told)

    def held(self, spec: TensorSpec, rows: int) -> int:
        densities = 0 if spec.layout == "tokens" else density_numbers(spec, self.mixture, self.channels)
        return rows * (2 * self.depth * self.width + densities)


class RecurrentState:
    """condition: (B, 1, E) what the condition adds to every input; memory: the cell's; t: positions read;
    begins: (B,) the place in a season, where there is one.
    """

    def __init__(self, condition: Tensor, begins: Tensor | None = None) -> None:
        self.condition, self.begins, self.memory, self.t = condition, begins, None, 0

    def take(self, rows: Tensor) -> RecurrentState:
        """Of these rows (N,), some of them several times."""
        taken = RecurrentState(self.condition[rows], None if self.begins is None else self.begins[rows])
        both = isinstance(self.memory, tuple)  # of an LSTM
        taken.memory = tuple(m[:, rows] for m in self.memory) if both else self.memory[:, rows]  # type: ignore
        taken.t = self.t
        return taken


class RecurrentModel(nn.Module):
    def __init__(self, spec: TensorSpec, config: RecurrentConfig) -> None:
        super().__init__()
        self.inlet = Inlet(spec, config.width, scale=1.0)  # of .1 the gates learn far slower
        self.start = nn.Parameter(torch.randn(config.width) * 0.1)
        self.season = season_inlet(spec, config.width)
        plain = sum(spec.conditions) - sum(spec.periods[:1])
        self.condition = nn.Linear(plain, config.width, bias=False) if plain else None
        told = torch.randn(spec.shape[0], config.width) if config.positions else None
        self.position = None if told is None else nn.Parameter(told)
        self.cell: Any = CELLS[config.cell](config.width, config.width, config.depth, batch_first=True)
        self.outlet = make_outlet(spec, config.width, mixture=config.mixture, channels=config.channels)

    def _condition(self, c: Tensor) -> Tensor:
        if self.condition is None:
            return self.start.new_zeros(len(c), 1, len(self.start))
        return self.condition(c).unsqueeze(1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor | list[Tensor]:
        start = self.start.expand(len(x), 1, -1)
        c, begins = self.season.split(c) if self.season else (c, None)
        inputs = torch.cat([start, self.inlet(x[:, :-1])], 1) + self._condition(c)
        if self.season is not None:
            inputs = inputs + self.season(begins, 0, x.shape[1])
        hidden, _ = self.cell(inputs if self.position is None else inputs + self.position)
        return outlet_of_all(self.outlet, hidden, x)

    def begin(self, c: Tensor) -> RecurrentState:
        c, begins = self.season.split(c) if self.season else (c, None)
        return RecurrentState(self._condition(c), begins)

    def step(self, previous: Tensor | None, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        if previous is None:
            inputs = self.start.expand(len(state.condition), 1, -1)
        else:
            inputs = self.inlet(previous.unsqueeze(1), state.t - 1)
        if self.position is not None:
            inputs = inputs + self.position[state.t]
        if self.season is not None:
            inputs = inputs + self.season(state.begins, state.t, 1)
        hidden, state.memory = self.cell(inputs + state.condition, state.memory)
        state.t += 1
        return outlet_at(self.outlet, hidden.squeeze(1), previous, state.t - 1), state


class Recurrent:
    Config: ClassVar[type[Any]] = RecurrentConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"tokens", "columns", "sequence"})
    roles: ClassVar[frozenset[str]] = frozenset({"model", "generator", "critic", "encoder", "decoder"})
    only: ClassVar[Mapping[str, frozenset[str]]] = dict.fromkeys(
        ("generator", "critic", "encoder", "decoder"), frozenset({"sequence"})
    )

    @staticmethod
    def build(role: str, spec: TensorSpec, config: RecurrentConfig, *, latent: int = 0) -> nn.Module:
        if role == "model":
            return RecurrentModel(spec, config)
        cell = CELLS[config.cell]
        if role in ("generator", "decoder"):
            return Generator(spec, cell, config.width, config.depth, latent)
        return Reader(spec, cell, config.width, config.depth, latent if role == "encoder" else 0)
