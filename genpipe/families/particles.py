"""Series with gaps, filled so that they fit what comes before and after: a particle filter (Gordon, Salmond &
Smith 1993, "Novel approach to nonlinear/non-Gaussian Bayesian state estimation").

A sequence model draws from left to right, and knows nothing of a value that is given later. So each row is
drawn as several particles, and wherever values are given after a gap, those particles go on that make them
likely. One is the row in the end.

B rows · P particles of a row · T steps · C channels
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genpipe.draws import Draws
from genpipe.families import steps
from genpipe.networks.in_turn import InTurn

PARTICLES = 32


def has_gaps(observed: Tensor) -> bool:
    """Whether of (B, T, C), NaN where nothing is given, something is given after something that is not; the
    channels of a step come one after the other.
    """
    given = observed.isfinite().flatten(1)
    missing_before = ((~given).cumsum(1) - (~given).long()) > 0
    return bool((given & missing_before).any())


def filled(
    net: Any, outlet: InTurn, told: Tensor, observed: Tensor, rng: Draws, temperature: float = 1.0
) -> Tensor:
    """(B, T, C) of rng's rows, which agree with what is observed. told: (B, S) conditions."""
    rows, wide = len(observed), len(observed) * PARTICLES
    rng = rng.of(wide)
    state = net.begin(told.repeat_interleave(PARTICLES, 0))
    known, previous, path = observed.repeat_interleave(PARTICLES, 0), None, list[Tensor]()
    first = torch.arange(rows, device=observed.device).unsqueeze(1) * PARTICLES
    for t in range(observed.shape[1]):
        predicted, state = net.step(previous, state)
        previous, weight = steps.draw(outlet, predicted, rng, temperature, known[:, t])
        path.append(previous)
        if observed[:, t].isfinite().any():
            which = (first + resampled(weight.view(rows, -1), rng)).flatten()
            state = state.take(which)
            path = [each[which] for each in path]
            previous = path[-1]
    one = (first.squeeze(1) + rng.integers(PARTICLES)[::PARTICLES]).flatten()
    return torch.stack(path, 1)[one]


def resampled(weight: Tensor, rng: Draws) -> Tensor:
    """(B, P) places of the particles that go on, of log-weights (B, P), by systematic resampling."""
    upto = weight.softmax(1).cumsum(1)
    at = torch.arange(weight.shape[1], device=weight.device) + rng.uniform()[:: weight.shape[1], None]
    found: Tensor = torch.searchsorted(upto, at / weight.shape[1])
    return found.clamp_max(weight.shape[1] - 1)
