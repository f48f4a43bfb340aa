"""Muon: of a hidden matrix the momentum's directions count, all of them alike, and not their sizes.

After Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". The other weights
(embeddings, outlets, vectors) are AdamW's. torch.optim.Muon iterates in bfloat16, which takes fifteen times
as long on a CPU as float32 does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genpipe.training.optim import AdamW

MOMENTUM = 0.95
FASTER = 5.0  # than AdamW's learning rate: an update has singular values of one, whatever the gradient's size
# of the quintic iteration: singular values between .7 and 1.2 after ITERATIONS
COEFFICIENTS, ITERATIONS = (3.4445, -4.775, 2.0315), 5
# parts of the names of matrices that stand at the border of a network, where rows or columns are data
BORDERS = ("inlet", "outlet", "embed", "condition", "position")


class Muon(AdamW):
    """The optimizer of one role; see AdamW for its parameters and state."""

    def __init__(
        self, net: nn.Module, *, betas: tuple[float, float], weight_decay: float, l2: float = 0.0
    ) -> None:
        super().__init__(net, betas=betas, weight_decay=weight_decay, l2=l2)
        named = zip(self.names, self.parameters, strict=True)
        self.hidden = [p.ndim == 2 and not any(b in name for b in BORDERS) for name, p in named]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        found: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
        for hidden, p, momentum in zip(self.hidden, self.parameters, self.first, strict=True):
            if hidden and p.grad is not None:
                if self.l2:
                    p.grad.add_(p, alpha=self.l2)
                momentum.lerp_(p.grad, 1 - MOMENTUM)
                found.setdefault(p.shape, []).append((p, p.grad.lerp(momentum, MOMENTUM)))
                p.grad = None  # nothing is left for AdamW
        for (rows, columns), pairs in found.items():
            updates = orthogonal(torch.stack([update for _, update in pairs]))
            size = FASTER * rate * math.sqrt(max(1.0, rows / columns))
            for (p, _), update in zip(pairs, updates, strict=True):
                p.mul_(1 - FASTER * rate * self.weight_decay).sub_(update, alpha=size)
        super().step(rate)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, R, C) -> (N, R, C) with singular values near one, by Newton and Schulz's iteration."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
