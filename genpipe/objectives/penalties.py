"""Penalties on the critic's slope; they keep the game stable (and make Wasserstein scores a distance).

All have one signature, `penalty(critic, real, fake, mix)`, and return a mean over rows, without a weight.
critic: x -> scores (B,), the condition already bound. mix: (B,) uniform numbers in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]
Penalty = Callable[[Critic, Tensor, Tensor, Tensor], Tensor]


def slopes(critic: Critic, x: Tensor) -> Tensor:
    """(B, D) gradient of each row's score with respect to that row, itself differentiable."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.flatten(1)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """mean (‖∇D(x̂)‖ - 1)² at x̂ = u·real + (1 - u)·fake. Gulrajani et al. 2017 (WGAN-GP), eq. 3; their
    weight: 10.
    """
    u = mix.reshape(-1, *[1] * (real.dim() - 1))
    norm = slopes(critic, u * real + (1 - u) * fake).square().sum(1).add(1e-12).sqrt()
    return (norm - 1).square().mean()


def r1(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """mean ‖∇D(real)‖² / 2. Mescheder et al. 2018, eq. 9; weights from 0.1 to 10 are common."""
    return 0.5 * slopes(critic, real).square().sum(1).mean()


def r2(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """mean ‖∇D(fake)‖² / 2. Mescheder et al. 2018, eq. 10."""
    return 0.5 * slopes(critic, fake).square().sum(1).mean()


def r1_r2(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """R1 + R2, under which the relativistic game converges. Huang et al. 2024 (R3GAN, arXiv:2501.05441)."""
    return r1(critic, real, fake, mix) + r2(critic, real, fake, mix)
