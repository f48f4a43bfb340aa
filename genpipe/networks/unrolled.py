"""Recurrent networks over whole sequences: one that makes a sequence from a code, one that reads it.

The generator's cell makes several steps at once, and its first numbers hold for all of them (batched
generation, attributes first: Lin et al. 2020, "Using GANs for sharing networked time series data",
DoppelGANger, section 4); the others come one after the other (RCGAN: Esteban et al. 2017). As the decoder and
the encoder of a VAE they are the recurrent VAE of Fabius & van Amersfoort 2015 (VRAE).

B batch · T steps · C channels · E width · Z latent · S width of the one-hot condition · N steps of the cell
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genpipe.spec import TensorSpec

AT_ONCE = 4  # steps that a cell makes
MOST = 64  # steps of the cell, beyond which it makes more at once


class Generator(nn.Module):
    """Half of a code is told at every step, the other half a piece a step. Also the decoder of a VAE."""

    piece: Tensor

    def __init__(self, spec: TensorSpec, cell: Any, width: int, depth: int, latent: int) -> None:
        super().__init__()
        steps, channels = self.shape = spec.shape
        self.at_once = max(AT_ONCE, -(-steps // MOST))
        number = -(-steps // self.at_once)
        rest = latent - latent // 2
        size = max(1, rest // number)
        first = torch.linspace(0, rest - size, number).round().long()
        self.register_buffer("piece", latent // 2 + first[:, None] + torch.arange(size), persistent=False)
        self.whole = nn.Linear(latent + sum(spec.conditions), width)
        self.told = nn.Linear(size, width)
        self.place = nn.Parameter(torch.randn(number, width) * 0.1)
        self.cell = cell(width, width, depth, batch_first=True)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.at_once * channels))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        inputs = self.whole(torch.cat([z, c], 1)).unsqueeze(1) + self.told(z[:, self.piece]) + self.place
        hidden, _ = self.cell(inputs)
        return self.out(hidden).unflatten(-1, (self.at_once, -1)).flatten(1, 2)[:, : self.shape[0]]


class Reader(nn.Module):
    """x (B, T, C) -> scores (B,) as the projection of a critic (Miyato & Koyama 2018), or (B, 2 * Z) as the
    encoder of a VAE. It reads each step and its change in both directions.
    """

    def __init__(self, spec: TensorSpec, cell: Any, width: int, depth: int, latent: int) -> None:
        """latent: 0 for a critic."""
        super().__init__()
        half, conditions = max(1, width // 2), sum(spec.conditions)
        self.inlet = nn.Linear(2 * spec.shape[-1], width)
        self.cell = cell(width, half, depth, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(4 * half + (conditions if latent else 0), width)
        self.out = nn.Linear(width, 2 * latent if latent else 1)
        self.project = nn.Linear(conditions, width, bias=False) if conditions and not latent else None
        self.latent = latent

    @property
    def compares(self) -> bool:
        return not self.latent

    def _read(self, x: Tensor) -> Tensor:
        change = torch.diff(x, dim=1, prepend=x[:, :1])
        inputs = self.inlet(torch.cat([x, 4.0 * change], -1))
        # a GPU's fused kernel has no second derivative, which penalties of a critic take
        with torch.backends.cudnn.flags(enabled=False):
            hidden, _ = self.cell(inputs)
        return torch.cat([hidden.mean(1), hidden.amax(1)], -1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        read = self._read(x)
        if self.latent:
            return self.out(nn.functional.leaky_relu(self.hidden(torch.cat([read, c], 1)), 0.2))
        h = nn.functional.leaky_relu(self.hidden(read), 0.2)
        score = self.out(h).squeeze(1)
        if c.dim() == 3:
            score, h = score.unsqueeze(1).expand(c.shape[:2]), h.unsqueeze(1)
        return score if self.project is None else score + (self.project(c) * h).sum(-1)
