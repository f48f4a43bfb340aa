"""After training: the choices of a table's rows come as often as in the training split.

A decoder or generator learns how columns hang together long before its marginals are exact; a shift of the
last biases mends these in a second (calibration in the large: Steyerberg 2009, chapter 15; per option, as for
the heads of `sequence`, which take `shift_to` as well).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genpipe.networks.head import Head

ROWS = 2**15  # of the training split; as many are drawn from the model
ROUNDS = 4
SMALLEST = 1e-6


def shift_to(
    wanted: Tensor, raw: Tensor, shares: Callable[[Tensor], Tensor], *, rounds: int = ROUNDS
) -> Tensor:
    """(D,) what to add to raw (B, D) so that the mean of `shares` of it becomes `wanted` (D,)."""
    shift = torch.zeros_like(raw[0])
    for _ in range(rounds):
        have = shares(raw + shift).mean(0) + SMALLEST
        shift += ((wanted + SMALLEST) / have).log().clamp(-2, 2)
    return shift


@torch.no_grad()
def calibrate(head: Head, bias: Tensor, raw: Tensor, x: Tensor) -> None:
    """Shift `bias` (D,) in place until the choices drawn with it have the shares they have in x.

    raw: (B, D) what the network makes of its own latent draws; x: (N, D) encoded training rows.
    """
    shift = shift_to(x.mean(0), raw, head)
    shift[head.continuous] = 0.0  # a logarithm of scalars means nothing; every choice is shifted by itself
    bias.add_(shift)
