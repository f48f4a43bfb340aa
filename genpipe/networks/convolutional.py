"""Convolutional networks for images (conv2d) and sequences (conv1d) of any size from 8, class-conditional.

A stem of 4 to 7 positions a side, then one block a doubling: the generator after DCGAN (Radford et al. 2016)
with GroupNorm (Wu & He 2018) whose scale and shift the condition sets (de Vries et al. 2017); the critic is a
projection discriminator (Miyato & Koyama 2018). Sizes that are not powers of two are halved upwards (28, 14,
7) and cut on the way back. Images are kept channels-last, which the CPU's convolutions prefer.

B batch · C channels · size: (H, W) or (T,) · Z latent · S width of the one-hot condition
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from genpipe.networks.base import NetworkConfig
from genpipe.spec import TensorSpec

CONV: tuple[Any, ...] = (None, nn.Conv1d, nn.Conv2d)
UP: tuple[Any, ...] = (None, nn.ConvTranspose1d, nn.ConvTranspose2d)


class ConvConfig(NetworkConfig):
    """width: channels at full size; they double with each halving, up to `widest` times.

    side: of what is larger a side, it is the size of so many positions that has `width` channels, and each
    doubling beyond has half as many (8 at least): the work then grows with the side and not with the area
    (as in Karras et al. 2018, "Progressive growing of GANs", table 2). None: full size has them.
    """

    width: int = Field(
        default=32, ge=8, le=2048, multiple_of=8, json_schema_extra={"search": {"choices": [16, 32, 48]}}
    )
    widest: int = Field(default=4, ge=1, le=64)
    side: int | None = Field(default=None, ge=8, le=16_384, exclude_if=lambda side: side is None)

    def held(self, spec: TensorSpec, rows: int) -> int:
        return rows * max(channels * math.prod(size) for channels, size in pyramid(spec, self))


class Conv1dConfig(ConvConfig):
    network: Literal["conv1d"] = "conv1d"


class Conv2dConfig(ConvConfig):
    network: Literal["conv2d"] = "conv2d"


def channels_and_size(spec: TensorSpec) -> tuple[int, tuple[int, ...]]:
    """Images are (C, H, W), sequences (T, C)."""
    return (spec.shape[1], spec.shape[:1]) if spec.layout == "sequence" else (spec.shape[0], spec.shape[1:])


def halved(size: tuple[int, ...], times: int = 1) -> tuple[int, ...]:
    """A size after so many halvings, each rounded up."""
    return tuple(-(-n // 2**times) for n in size)


def pyramid(
    spec: TensorSpec, config: ConvConfig, halvings: int | None = None
) -> list[tuple[int, tuple[int, ...]]]:
    """(channels, size) from full size down to the stem, by so many halvings; without a number, these stop
    below 8 positions.
    """
    size = channels_and_size(spec)[1]
    beyond = doublings(size, config.side)
    levels = [(narrowed(config.width, beyond), size)]
    while min(size) >= 8 if halvings is None else len(levels) <= halvings:
        size, done = halved(size), len(levels) - beyond
        wider = narrowed(config.width, -done) if done < 0 else config.width * min(2**done, config.widest)
        levels.append((wider, size))
    return levels


def doublings(size: tuple[int, ...], side: int | None) -> int:
    """How many halvings bring the shorter side of a size to `side` or below."""
    return 0 if side is None else max(0, math.ceil(math.log2(min(size) / side)))


def narrowed(width: int, times: int) -> int:
    """Half of the channels so many times, in eights and never fewer than 8."""
    return max(8, width // 2**times // 8 * 8)


def arranged(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


class Modulated(nn.Module):
    """GroupNorm whose scale and shift are linear in the condition."""

    def __init__(self, channels: int, conditions: int, dimensions: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(max(channels // 8, 1), channels)
        self.modulate = nn.Linear(conditions, 2 * channels, bias=False) if conditions else None
        self.broadcast = (1,) * dimensions

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        x = self.norm(x)
        if self.modulate is not None:
            scale, shift = self.modulate(c).unflatten(1, (-1, *self.broadcast)).chunk(2, 1)
            x = torch.addcmul(shift, x, 1 + scale)
        return leaky_relu(x, 0.2)


class ConvolutionalGenerator(nn.Module):
    """Also the decoder of a VAE."""

    def __init__(
        self, spec: TensorSpec, config: ConvConfig, latent: int, halvings: int | None = None
    ) -> None:
        super().__init__()
        out, size = channels_and_size(spec)
        conditions, dimensions = sum(spec.conditions), len(size)
        levels = pyramid(spec, config, halvings)[::-1]
        self.sequence = spec.layout == "sequence"
        self.cuts = [(slice(None), slice(None), *map(slice, size)) for _, size in levels[1:]]
        channels, size = levels[0]
        self.stem_shape = (channels, *size)
        if halvings is None:
            self.stem: nn.Module = nn.Linear(latent + conditions, torch.Size(self.stem_shape).numel())
        else:
            self.stem = CONV[dimensions](latent, channels, 3, padding=1)
        self.ups, self.norms = nn.ModuleList(), nn.ModuleList([Modulated(channels, conditions, dimensions)])
        for wider, _ in levels[1:]:
            self.ups.append(UP[dimensions](channels, wider, 4, stride=2, padding=1))
            self.norms.append(Modulated(wider, conditions, dimensions))
            channels = wider
        self.out = CONV[dimensions](channels, out, 3, padding=1)

    def stemmed(self, z: Tensor, c: Tensor) -> Tensor:
        return self.stem(torch.cat([z, c], 1)).unflatten(1, self.stem_shape)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = self.stemmed(z, c)
        norms = iter(self.norms)
        x = next(norms)(arranged(x), c)
        for up, norm, cut in zip(self.ups, norms, self.cuts, strict=True):
            x = norm(up(x)[cut], c)
        x = self.out(x)
        return x.transpose(1, 2) if self.sequence else x


class MapDecoder(ConvolutionalGenerator):
    """z (B, Z, *size) -> raw output: as the generator, of a map in place of a vector."""

    def stemmed(self, z: Tensor, c: Tensor) -> Tensor:
        return self.stem(arranged(z))


class Trunk(nn.Module):
    """x -> features (B, F) at the size of the stem."""

    def __init__(self, spec: TensorSpec, config: ConvConfig, halvings: int | None = None) -> None:
        super().__init__()
        levels, (channels, size) = pyramid(spec, config, halvings), channels_and_size(spec)
        conv = CONV[len(size)]
        self.sequence = spec.layout == "sequence"
        layers: list[nn.Module] = [conv(channels, levels[0][0], 3, padding=1), nn.LeakyReLU(0.2)]
        for (narrow, _), (wide, _) in pairwise(levels):
            layers += [conv(narrow, wide, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.shape = (levels[-1][0], *levels[-1][1])
        self.features = torch.Size(self.shape).numel()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(arranged(x.transpose(1, 2) if self.sequence else x))


class Critic(nn.Module):
    """score = w·φ(x) + (V c)·φ(x), φ the last hidden layer: the projection discriminator. Of c (B, M, S), M
    conditions of each row, it makes (B, M) scores from one pass over x.
    """

    compares = True

    def __init__(self, spec: TensorSpec, config: ConvConfig) -> None:
        super().__init__()
        self.trunk = Trunk(spec, config)
        hidden = 4 * config.width
        self.hidden, self.score = nn.Linear(self.trunk.features, hidden), nn.Linear(hidden, 1)
        conditions = sum(spec.conditions)
        self.project = nn.Linear(conditions, hidden, bias=False) if conditions else None

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = leaky_relu(self.hidden(self.trunk(x)), 0.2)
        score = self.score(h).squeeze(1)
        if c.dim() == 3:
            score, h = score.unsqueeze(1).expand(c.shape[:2]), h.unsqueeze(1)
        return score if self.project is None else score + (self.project(c) * h).sum(-1)


class Encoder(nn.Module):
    def __init__(self, spec: TensorSpec, config: ConvConfig, latent: int) -> None:
        super().__init__()
        self.trunk = Trunk(spec, config)
        self.out = nn.Linear(self.trunk.features + sum(spec.conditions), 2 * latent)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.out(torch.cat([self.trunk(x), c], 1))


class MapEncoder(nn.Module):
    """x -> (B, Z, *size): each position of the map sees its neighbourhood, and the condition shifts it."""

    def __init__(self, spec: TensorSpec, config: ConvConfig, latent: int, halvings: int) -> None:
        super().__init__()
        self.trunk = Trunk(spec, config, halvings)
        channels, *size = self.trunk.shape
        self.out = CONV[len(size)](channels, latent, 1)
        conditions = sum(spec.conditions)
        self.shift = nn.Linear(conditions, latent, bias=False) if conditions else None

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        z = self.out(self.trunk(x).unflatten(1, self.trunk.shape))
        return z if self.shift is None else z + self.shift(c)[(..., *[None] * (z.dim() - 2))]


class Conv1d:
    Config: ClassVar[type[Any]] = Conv1dConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"sequence"})
    roles: ClassVar[frozenset[str]] = frozenset(
        {"generator", "critic", "encoder", "decoder", "map_encoder", "map_decoder"}
    )

    @staticmethod
    def build(
        role: str, spec: TensorSpec, config: ConvConfig, *, latent: int = 0, halvings: int = 0
    ) -> nn.Module:
        if role in ("map_encoder", "map_decoder"):
            kind = MapEncoder if role == "map_encoder" else MapDecoder
            return kind(spec, config, latent, halvings)
        if role in ("generator", "decoder"):
            return ConvolutionalGenerator(spec, config, latent)
        return Encoder(spec, config, latent) if role == "encoder" else Critic(spec, config)


class Conv2d(Conv1d):
    Config: ClassVar[type[Any]] = Conv2dConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"grid"})
