"""Plain and residual multilayer perceptrons: they accept every layout of real numbers, flattened.

With residual connections the generator is that of CTGAN (Xu et al. 2019) with LayerNorm (Ba et al. 2016) in
the place of BatchNorm, which would tie rows of a batch together.

B batch · D flattened values · Z latent · S width of the one-hot condition
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genpipe.networks.base import NetworkConfig
from genpipe.spec import TensorSpec


class MLPConfig(NetworkConfig):
    """width: hidden units of each of `depth` layers. norm: LayerNorm before each activation of a generator or
    decoder. norm_all: of an encoder or a critic, too.
    """

    network: Literal["mlp"] = "mlp"
    width: int = Field(
        default=256, ge=1, le=16_384, json_schema_extra={"search": {"choices": [128, 256, 512]}}
    )
    depth: int = Field(default=2, ge=1, le=64, json_schema_extra={"search": {"low": 1, "high": 3}})
    norm: bool = True
    norm_all: bool = Field(default=False, exclude_if=lambda norm_all: not norm_all)
    residual: bool = True

    def held(self, spec: TensorSpec, rows: int) -> int:
        return rows * self.width * (self.depth if self.residual else 1)


class Block(nn.Module):
    def __init__(self, fan_in: int, width: int, *, norm: bool, residual: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(fan_in, width)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.leaky_relu(self.norm(self.linear(x)), 0.2)
        return torch.cat([h, x], 1) if self.residual else h


class Perceptron(nn.Module):
    """(B, fan_in) -> (B, fan_out)."""

    def __init__(self, fan_in: int, fan_out: int, config: MLPConfig, *, norm: bool, residual: bool) -> None:
        super().__init__()
        blocks, width = [], fan_in
        for _ in range(config.depth):
            blocks.append(Block(width, config.width, norm=norm, residual=residual))
            width = config.width + (width if residual else 0)
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Linear(width, fan_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(x))


class MLPGenerator(nn.Module):
    def __init__(self, spec: TensorSpec, config: MLPConfig, latent: int) -> None:
        super().__init__()
        self.shape = spec.shape
        fan_in = latent + sum(spec.conditions)
        self.net = Perceptron(
            fan_in, math.prod(spec.shape), config, norm=config.norm, residual=config.residual
        )

    @property
    def bias(self) -> Tensor:
        """(D,) of the raw output, to be changed in place."""
        return self.net.out.bias

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.net(torch.cat([z, c], 1)).unflatten(1, self.shape)


class Reader(nn.Module):
    """Critic (fan_out 0: a score a row) or encoder (fan_out 2Z)."""

    def __init__(self, spec: TensorSpec, config: MLPConfig, fan_out: int) -> None:
        super().__init__()
        fan_in = math.prod(spec.shape) + sum(spec.conditions)
        self.net = Perceptron(fan_in, max(fan_out, 1), config, norm=config.norm_all, residual=False)
        self.scalar = fan_out == 0

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        out = self.net(torch.cat([x.flatten(1), c], 1))
        return out.squeeze(1) if self.scalar else out


class MLP:
    Config: ClassVar[type[Any]] = MLPConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"vector", "grid", "sequence"})
    roles: ClassVar[frozenset[str]] = frozenset({"generator", "critic", "encoder", "decoder"})

    @staticmethod
    def build(role: str, spec: TensorSpec, config: MLPConfig, *, latent: int = 0) -> nn.Module:
        if role in ("generator", "decoder"):
            return MLPGenerator(spec, config, latent)
        return Reader(spec, config, 2 * latent if role == "encoder" else 0)
