"""A small U-Net of images and sequences of any size: what takes a noisy x, a time and a condition, and says
what is to be changed of it (Ronneberger et al. 2015; of diffusion: Ho et al. 2020, section 4).

Pixels enter in patches, as the full resolution costs most and tells least (Hoogeboom et al. 2023, "Simple
diffusion", section 3.2). Halvings follow down to less than 8 positions a side; there, most blocks stand. What
was at each size is added on the way back. A block is residual; the time and the condition set scale and shift
of its one normalisation (Dhariwal & Nichol 2021, section 3). All channels are one group: on a CPU that costs
a tenth of groups of 8 channels, which cost as much as a convolution. Images are kept channels-last.

B batch · C channels · E width of the embedding of time and condition · S width of the one-hot condition
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, silu

from genpipe.networks.base import NetworkConfig
from genpipe.networks.convolutional import CONV, arranged, channels_and_size, doublings
from genpipe.spec import TensorSpec

EMBEDDING = 128
FREQUENCIES, SLOWEST, FASTEST = 32, 0.1, 10.0  # of the time, turns from 0 to 1


class UNetConfig(NetworkConfig):
    """width: channels at the largest size; they double with each halving, up to `widest` times. patch:
    positions a side that enter as one; 1 for what is smaller than 16 a side. side: of what is larger a side
    patches are twice as large for each doubling beyond it, and the work stays what it was. blocks: at each
    size, down and up; `middle` at the smallest.
    """

    network: Literal["unet"] = "unet"
    width: int = Field(
        default=64, ge=8, le=2048, multiple_of=8, json_schema_extra={"search": {"choices": [32, 64, 96]}}
    )
    widest: int = Field(default=2, ge=1, le=64)
    patch: Literal[1, 2, 4, 8] = 2
    side: int | None = Field(default=None, ge=8, le=16_384, exclude_if=lambda side: side is None)
    blocks: int = Field(default=2, ge=1, le=64, json_schema_extra={"search": {"low": 1, "high": 2}})
    middle: int = Field(default=3, ge=1, le=64, json_schema_extra={"search": {"low": 2, "high": 4}})

    def held(self, spec: TensorSpec, rows: int) -> int:
        _, size = channels_and_size(spec)
        return rows * 4 * self.width * math.prod(n // patch_of(size, self) + 1 for n in size)


def patch_of(size: tuple[int, ...], config: UNetConfig) -> int:
    return config.patch * 2 ** doublings(size, config.side) if min(size) >= 16 else 1


def widths(size: tuple[int, ...], config: UNetConfig) -> list[int]:
    """Channels from the largest size to the smallest."""
    found, side = [config.width], min(size) // patch_of(size, config)
    while side >= 8:
        found.append(config.width * min(2 ** len(found), config.widest))
        side = -(-side // 2)
    return found


class Block(nn.Module):
    """x + convolutions of x; at the start it changes nothing."""

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        conv = CONV[dimensions]
        self.norm = nn.GroupNorm(1, channels, affine=False)
        self.modulate = nn.Linear(EMBEDDING, 2 * channels)
        self.first, self.last = (conv(channels, channels, 3, padding=1) for _ in range(2))
        self.broadcast = (1,) * dimensions
        nn.init.normal_(self.last.weight, std=1e-3)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulate(e).unflatten(1, (-1, *self.broadcast)).chunk(2, 1)
        h = self.first(silu(torch.addcmul(shift, self.norm(x), 1 + scale)))
        return x + self.last(silu(h))


class Level(nn.Module):
    """Blocks at one size, around all that happens at smaller ones."""

    def __init__(self, channels: list[int], config: UNetConfig, dimensions: int) -> None:
        super().__init__()
        conv, (own, *smaller) = CONV[dimensions], channels
        blocks = config.blocks if smaller else config.middle
        self.down = nn.ModuleList(Block(own, dimensions) for _ in range(blocks))
        self.inner: Level | None = None
        if smaller:
            self.halve, self.back = conv(own, smaller[0], 2, stride=2), conv(smaller[0], own, 1)
            self.inner = Level(smaller, config, dimensions)
            self.up = nn.ModuleList(Block(own, dimensions) for _ in range(blocks))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        for block in self.down:
            x = block(x, e)
        if self.inner is not None:
            x = x + interpolate(self.back(self.inner(self.halve(x), e)), scale_factor=2.0)
            for block in self.up:
                x = block(x, e)
        return x


class UNet(nn.Module):
    """net(x (B, *shape), t (B,) from 0 to 1, c (B, S)) -> (B, *shape)."""

    turns: Tensor

    def __init__(self, spec: TensorSpec, config: UNetConfig) -> None:
        super().__init__()
        channels, size = channels_and_size(spec)
        dimensions, patch, levels = len(size), patch_of(size, config), widths(size, config)
        self.sequence, self.patch = spec.layout == "sequence", patch
        whole = patch * 2 ** (len(levels) - 1)  # to be halved without a rest, edges are filled up
        self.fill = [n for side in reversed(size) for n in (0, -side % whole)]
        self.cut = (slice(None), slice(None), *map(slice, size))
        turns = torch.logspace(math.log10(SLOWEST), math.log10(FASTEST), FREQUENCIES) * 2 * math.pi
        self.register_buffer("turns", turns, persistent=False)
        conditions = sum(spec.conditions)
        self.time = nn.Linear(2 * FREQUENCIES, EMBEDDING)
        self.condition = nn.Linear(conditions, EMBEDDING, bias=False) if conditions else None
        if self.condition is not None:
            nn.init.normal_(self.condition.weight)
        self.embed = nn.Linear(EMBEDDING, EMBEDDING)
        conv = CONV[dimensions]
        self.stem = conv(channels, levels[0], max(patch, 3 if patch == 1 else 0), patch, int(patch == 1))
        self.levels = Level(levels, config, dimensions)
        self.norm = nn.GroupNorm(1, levels[0])
        self.out = conv(levels[0], channels * patch**dimensions, 3, padding=1)
        nn.init.normal_(self.out.weight, std=1e-3)

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        angles = t.unsqueeze(1) * self.turns
        e = self.time(torch.cat([angles.cos(), angles.sin()], 1))
        e = silu(self.embed(silu(e if self.condition is None else e + self.condition(c))))
        x = pad(x.transpose(1, 2) if self.sequence else x, self.fill)
        x = self.levels(self.stem(arranged(x)), e)
        x = self._unpatched(self.out(silu(self.norm(x))))[self.cut]
        return x.transpose(1, 2) if self.sequence else x

    def _unpatched(self, x: Tensor) -> Tensor:
        """(B, C·P, T) -> (B, C, T·P), and the same of two sides (Shi et al. 2016, sub-pixel convolution)."""
        if x.dim() == 4:
            return nn.functional.pixel_shuffle(x, self.patch)
        return x.unflatten(1, (-1, self.patch)).transpose(2, 3).flatten(2)


class UNetKind:
    Config: ClassVar[type[Any]] = UNetConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"grid", "sequence"})
    roles: ClassVar[frozenset[str]] = frozenset({"velocity"})

    @staticmethod
    def build(role: str, spec: TensorSpec, config: UNetConfig, *, latent: int = 0) -> nn.Module:
        return UNet(spec, config)
