"""A small GPT: causal self-attention over tokens or real values (Vaswani et al. 2017; Radford et al. 2019).

Pre-norm blocks, no dropout (early stopping does its work and every draw stays the caller's). Positions are
learnt vectors, or rotations of queries and keys: then these are of one length, units are squared and branches
begin at nothing, which learns a text in fewer steps. Sampling keeps keys and values of past positions, so a
step costs one position.

B batch · T positions · E width · N heads · S width of the one-hot condition
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, rms_norm, scaled_dot_product_attention

from genpipe.networks.base import NetworkConfig
from genpipe.networks.head import Inlet
from genpipe.networks.outlets import density_numbers, make_outlet, outlet_at, outlet_of_all
from genpipe.networks.season import season_inlet
from genpipe.spec import TensorSpec

SHORT = 256
SLOWEST = 1024.0  # positions a radian of the slowest rotation takes
SHARP = 0.3  # of attention between queries and keys of one length


class TransformerConfig(NetworkConfig):
    """mixture: components of the density of a real value (unused for tokens). channels: of a step of real
    values: one mixture for all, or each in turn given those before it (in_turn.py).

    positions: learnt, as of GPT-2 (Radford et al. 2019), or rotary (Su et al. 2021, RoFormer, section 3.2);
    then with normed queries and keys (Henry et al. 2020), squared units (So et al. 2021, Primer) and residual
    branches that begin at zero (Bachlechner et al. 2021).
    """

    network: Literal["transformer"] = "transformer"
    width: int = Field(default=128, ge=8, le=8192, json_schema_extra={"search": {"choices": [64, 128, 192]}})
    depth: int = Field(default=3, ge=1, le=96, json_schema_extra={"search": {"low": 2, "high": 4}})
    heads: int = Field(default=4, ge=1, le=256)
    mixture: int = Field(default=5, ge=1, le=1024)
    positions: Literal["learnt", "rotary"] = Field(default="learnt", exclude_if=lambda kind: kind == "learnt")
    channels: Literal["together", "in turn"] = Field(
        default="together", exclude_if=lambda channels: channels == "together"
    )

    def held(self, spec: TensorSpec, rows: int) -> int:
        densities = 0 if spec.layout == "tokens" else density_numbers(spec, self.mixture, self.channels)
        return rows * (2 * self.depth * self.width * spec.shape[0] + densities)

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(f"rotary positions need heads of an even width, not {self.width // self.heads}")
        return self


class KeyValueCache:
    """condition: (B, 1, E); keys and values by block: (B, N, T, E/N), filled up to t; begins: (B,) the place
    in a season, where there is one.
    """

    def __init__(self, condition: Tensor, depth: int, begins: Tensor | None = None) -> None:
        self.condition, self.begins, self.t = condition, begins, 0
        self.cache: list[tuple[Tensor, Tensor] | None] = [None] * depth

    def take(self, rows: Tensor) -> KeyValueCache:
        """Of these rows (N,), some of them several times."""
        begins = None if self.begins is None else self.begins[rows]
        taken = KeyValueCache(self.condition[rows], len(self.cache), begins)
        taken.t = self.t
        taken.cache = [each and (each[0][rows], each[1][rows]) for each in self.cache]
        return taken


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Of each position to those before it and itself; all (B, N, T, E/N). Short ones in bfloat16 are written
    out: on a CPU the backward pass of torch's kernel takes ten times as long for 49 positions, three for 256.
    """
    steps = q.shape[2]
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or steps > SHORT:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    later = q.new_full((steps, steps), -math.inf).triu(1)
    return (q @ k.transpose(2, 3) * scale + later).softmax(-1).to(v.dtype) @ v


class Rotation(nn.Module):
    """Turns pairs of entries of (B, N, T, E/N) by angles that grow with the position, the slowest by one over
    `SLOWEST` a step, so that the product of two depends on how far they are apart.
    """

    turns: Tensor

    def __init__(self, steps: int, size: int) -> None:
        super().__init__()
        speeds = (1 / SLOWEST) ** torch.linspace(0, 1, size // 2)
        angles = torch.outer(torch.arange(steps).float(), speeds)
        self.register_buffer("turns", torch.stack([angles.cos(), angles.sin()]), persistent=False)

    def forward(self, x: Tensor, start: int) -> Tensor:
        """start: the position of x's first entry."""
        x = rms_norm(x, x.shape[-1:])
        cos, sin = self.turns[:, start : start + x.shape[2]].to(x.dtype)
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos + b * sin, b * cos - a * sin], -1)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, depth: int, rotation: Rotation | None = None) -> None:
        super().__init__()
        self.heads, self.rotation = heads, rotation
        self.scale = SHARP if rotation else 1 / math.sqrt(width // heads)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for linear in (self.qkv, self.up):
            nn.init.normal_(linear.weight, std=0.6 / math.sqrt(width))
        for linear in (
            self.mix,
            self.down,
        ):  # residual branches start small: Radford et al. 2019, section 2.3
            nn.init.normal_(linear.weight, std=0.6 / math.sqrt(linear.in_features * 2 * depth))
            if rotation:
                nn.init.zeros_(linear.weight)

    def project(self, x: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, E) of positions from `start` on -> queries, keys, values (B, N, T, E/N)."""
        heads = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        if self.rotation is None:
            return q, k, v
        return self.rotation(q, start), self.rotation(k, start), v

    def feed_forward(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.mix(attended.transpose(1, 2).flatten(2))
        units = self.up(self.norm2(x))
        return x + self.down(relu(units) ** 2 if self.rotation else gelu(units, approximate="tanh"))

    def forward(self, x: Tensor) -> Tensor:
        return self.feed_forward(x, causal_attention(*self.project(x), self.scale))

    def after(self, x: Tensor, keys: Tensor, values: Tensor, queries: Tensor) -> Tensor:
        """(B, 1, E) of the last position, from keys and values (B, N, t, E/N) of all up to it."""
        return self.feed_forward(x, scaled_dot_product_attention(queries, keys, values, scale=self.scale))


class Transformer(nn.Module):
    def __init__(self, spec: TensorSpec, config: TransformerConfig) -> None:
        super().__init__()
        width, self.steps = config.width, spec.shape[0]
        turns = config.positions == "rotary"
        rotation = Rotation(self.steps, width // config.heads) if turns else None
        # as large as learnt positions, beside which those of 1 learn slower
        self.inlet = Inlet(spec, width, scale=1.0 if turns else 0.1)
        self.start = nn.Parameter(torch.randn(width) * (1.0 if turns else 0.1))
        self.position = None if turns else nn.Parameter(torch.randn(self.steps, width) * 0.1)
        self.season = season_inlet(spec, width)
        plain = sum(spec.conditions) - sum(spec.periods[:1])
        self.condition = nn.Linear(plain, width, bias=False) if plain else None
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.depth, rotation) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.outlet = make_outlet(spec, width, mixture=config.mixture, channels=config.channels)

    def _condition(self, c: Tensor) -> Tensor:
        if self.condition is None:
            return self.start.new_zeros(len(c), 1, len(self.start))
        return self.condition(c).unsqueeze(1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor | list[Tensor]:
        start = self.start.expand(len(x), 1, -1)
        c, begins = self.season.split(c) if self.season else (c, None)
        h = torch.cat([start, self.inlet(x[:, :-1])], 1) + self._condition(c)
        h = h if self.position is None else h + self.position[: x.shape[1]]
        h = h if self.season is None else h + self.season(begins, 0, x.shape[1])
        for block in self.blocks:
            h = block(h)
        return outlet_of_all(self.outlet, self.norm(h), x)

    def begin(self, c: Tensor) -> KeyValueCache:
        c, begins = self.season.split(c) if self.season else (c, None)
        return KeyValueCache(self._condition(c), len(self.blocks), begins)

    def step(self, previous: Tensor | None, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        t = state.t
        if previous is None:
            h = self.start.expand(len(state.condition), 1, -1)
        else:
            h = self.inlet(previous.unsqueeze(1), t - 1)
        h = h + state.condition if self.position is None else h + self.position[t] + state.condition
        h = h if self.season is None else h + self.season(state.begins, t, 1)
        for i, block in enumerate(self.blocks):
            q, k, v = block.project(h, t)  # type: ignore[operator]
            cache = state.cache[i]
            if cache is None:
                cache = tuple(new.new_zeros(*new.shape[:2], self.steps, new.shape[-1]) for new in (k, v))  # type: ignore
                state.cache[i] = cache
            keys, values = cache  # type: ignore[misc]
            keys[:, :, t], values[:, :, t] = k[:, :, 0], v[:, :, 0]
            h = block.after(h, keys[:, :, : t + 1], values[:, :, : t + 1], q)  # type: ignore[operator]
        state.t = t + 1
        return outlet_at(self.outlet, self.norm(h).squeeze(1), previous, t), state


class GPT:
    Config: ClassVar[type[Any]] = TransformerConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"tokens", "columns", "sequence"})
    roles: ClassVar[frozenset[str]] = frozenset({"model"})

    @staticmethod
    def build(role: str, spec: TensorSpec, config: TransformerConfig, *, latent: int = 0) -> nn.Module:
        return Transformer(spec, config)
