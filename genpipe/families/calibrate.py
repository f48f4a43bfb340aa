"""After training: the choices of a table's rows come as often as in the training split.

A decoder or generator learns how columns hang together long before its marginals are exact; a shift of the
last biases mends these in a second (calibration in the large: Steyerberg 2009, chapter 15; per option, as for
the heads of `sequence`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from genpipe.networks.head import Head

ROWS = 2**15  # of the training split; as many are drawn from the model
ROUNDS = 4
SMALLEST = 1e-6


@torch.no_grad()
def calibrate(head: Head, bias: Tensor, raw: Tensor, x: Tensor) -> None:
    """Shift `bias` (D,) in place until the choices drawn with it have the shares they have in x.

    raw: (B, D) what the network makes of its own latent draws; x: (N, D) encoded training rows.
    """
    wanted, shift = x.mean(0) + SMALLEST, torch.zeros_like(bias)
    for _ in range(ROUNDS):
        have = head(raw + shift).mean(0) + SMALLEST
        step = (wanted / have).log().clamp(-2, 2)
        step[head.continuous] = 0.0
        shift += step
    bias.add_(shift)
