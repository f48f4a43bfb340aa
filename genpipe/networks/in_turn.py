"""The channels of a step one after the other: each has a mixture of Gaussians given the step before, what the
network knows of all steps before, and the channels before it in the same step.

RNADE (Uria, Murray & Larochelle 2013, "RNADE: the real-valued neural autoregressive density-estimator",
section 3) as the outlet of a sequence model (Boulanger-Lewandowski et al. 2012, RNN-NADE). Half of the
components predict the change since the step before and not the value: most channels move little from step to
step, and what holds them together is linear in what is known of this step and the one before.

B batch · T steps · C channels · E width · H hidden units · M components · N steps of all rows
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from genpipe.spec import TensorSpec

HIDDEN = 64
STRETCH = 4.0  # changes are about so much smaller than values
FEATURES = 4  # of a value
Mixtures = tuple[Tensor, Tensor, Tensor]  # logits, means, log-scales


def features(x: Tensor, change: Tensor) -> list[Tensor]:
    """What is told of a value: itself, its change, and its place on a circle, as of hours and directions."""
    return [x, STRETCH * change, torch.cos(math.pi * x), torch.sin(math.pi * x)]


class Turn:
    """A step of B rows while its channels are drawn. active: (B, H) before the nonlinearity; before: (B, C)
    the values a step earlier; x: (B, C) the values drawn so far.
    """

    def __init__(self, active: Tensor, before: Tensor) -> None:
        self.active, self.before, self.x = active, before, torch.zeros_like(before)


class InTurn(nn.Module):
    def __init__(self, spec: TensorSpec, width: int, *, mixture: int) -> None:
        super().__init__()
        channels = self.channels = spec.shape[-1]
        self.linear = nn.Linear(width, HIDDEN)
        self.told = nn.Parameter(torch.randn(FEATURES, channels, HIDDEN) / math.sqrt(2 * channels))
        self.own = nn.Parameter(torch.randn(channels, HIDDEN) * 0.1)
        self.weight = nn.Parameter(torch.randn(channels, HIDDEN, 3 * mixture) * 0.1 / math.sqrt(HIDDEN))
        self.follow = nn.Parameter(torch.zeros(channels, channels))  # values of the step so far
        self.back = nn.Parameter(torch.zeros(channels, channels))  # values of the step before
        moving = torch.arange(mixture) % 2 == 0
        mean = torch.linspace(-0.8, 0.8, mixture).masked_fill(moving, 0.0)
        bias = torch.cat([torch.zeros(mixture), mean, torch.linspace(-1.0, -4.0, mixture)])
        self.bias = nn.Parameter(bias.expand(channels, 1, -1).clone())
        self.carry = nn.Parameter(moving.float().expand(channels, 1, -1).clone())

    def forward(self, h: Tensor, before: Tensor) -> Tensor:
        """h (..., E) and the values a step earlier, (..., C) -> (..., H + C), which says the densities."""
        return torch.cat([self.linear(h).float(), before.float()], -1)

    def _mixtures(self, active: Tensor, before: Tensor, along: Tensor, which: slice) -> Mixtures:
        """(K, N, M) each, of K channels. active: (K, N, H). before: (K, N). along: (K, N) what is linear in
        the channels before, and in all values of the step before.
        """
        raw = torch.baddbmm(self.bias[which], relu(active), self.weight[which])
        logits, offset, log_scale = raw.chunk(3, -1)
        return logits, offset + self.carry[which] * (before + along).unsqueeze(-1), log_scale

    def mixtures(self, x: Tensor, predicted: Tensor) -> Mixtures:
        """(C, B * T, M) each, of steps x (B, T, C) and what is predicted of them."""
        active, before = predicted.flatten(0, 1).float().split((HIDDEN, self.channels), -1)
        x = x.flatten(0, 1)
        change = x - before
        along = x @ self.follow.tril(-1).t() + before @ self.back.t()
        # one product with zeros for the channels that come later: sums over channels take five times as long
        ones = x.new_ones(self.channels, self.channels).tril(-1)
        told = torch.cat([*features(x, change), x.new_ones(len(x), 1)], 1).expand(self.channels, -1, -1)
        weight = (ones[:, None, :, None] * self.told).flatten(1, 2)
        active = active + torch.bmm(told, torch.cat([weight, self.own.unsqueeze(1)], 1))
        return self._mixtures(active, before.t(), along.t(), slice(None))

    def begin(self, predicted: Tensor) -> Turn:
        """predicted: (B, H + C) of one step."""
        return Turn(*predicted.float().split((HIDDEN, self.channels), -1))

    def at(self, c: int, turn: Turn) -> Mixtures:
        """(B, M) each, of channel c."""
        along, which = turn.x[:, :c] @ self.follow[c, :c] + turn.before @ self.back[c], slice(c, c + 1)
        active = (turn.active + self.own[c]).unsqueeze(0)
        logits, mean, log_scale = self._mixtures(active, turn.before[None, :, c], along[None], which)
        return logits[0], mean[0], log_scale[0]

    def tell(self, c: int, turn: Turn, values: Tensor) -> None:
        """What was drawn of channel c, (B,), to those after it."""
        turn.x[:, c] = values
        told = torch.stack(features(values, values - turn.before[:, c]), 1)
        turn.active = turn.active + told @ self.told[:, c]
