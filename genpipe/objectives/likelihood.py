"""Negative log-likelihoods in nats, for autoencoders and sequence models: pure functions of tensors.

B rows · D values · S choices of up to V options · T steps · C channels · M mixture components

Every function is a sum over a row and a mean over rows. Masked positions count nothing and are *not* divided
out: a row's weight must not depend on which other rows share its worker, or shards would not average to the
batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
MIN_LOG_SCALE = -6.0  # a floor for learnt scales: a constant value must not drive the density to infinity


def gaussian(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """½((x - μ)/σ)² + log σ + ½ log 2π. x, mean: (B, ...); log_scale broadcasts. A learnt σ: Rybkin et al.
    2021 (σ-VAE).
    """
    log_scale = log_scale.clamp_min(MIN_LOG_SCALE)
    nll = 0.5 * ((x - mean) * (-log_scale).exp()).square() + log_scale + HALF_LOG_2PI
    return nll.flatten(1).sum(1).mean()


def bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy of values in [0, 1] with σ(logits). x, logits: (B, ...). Kingma & Welling 2014, appendix
    C.1.
    """
    return binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1).mean()


def choices(one_hot: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy of S one-hot choices. one_hot, logits: (B, S, V); options that do not exist have logit
    -inf, one_hot 0.
    """
    return -(one_hot * log_softmax(logits, -1).clamp_min(-1e4)).sum((1, 2)).mean()


def tokens(x: Tensor, logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy of each token given those before it. x, mask: (B, T), logits: (B, T, V)."""
    nll = cross_entropy(logits.flatten(0, 1).float(), x.flatten(), reduction="none").view_as(x)
    return (nll if mask is None else nll * mask).sum(1).mean()


def columns(x: Tensor, logits: Sequence[Tensor], groups: Sequence[Sequence[int]]) -> Tensor:
    """(T, B) nats of each token, the positions in the order of `groups`. x: (B, T) tokens, each position of
    its own vocabulary. logits: (T_g, B, V_g) of each group of positions; see `head.ColumnOutlet`.
    """
    order = torch.tensor([t for group in groups for t in group], device=x.device)
    targets = x.t().index_select(0, order).split([len(group) for group in groups])
    apply: Any = _Nats.apply  # torch does not say what it takes
    return torch.cat([apply(each.float(), own) for each, own in zip(logits, targets, strict=True)])


class _Nats(torch.autograd.Function):
    """Cross-entropy whose backward pass is softmax minus one-hot in place: a seventh of a table's step less
    than torch's, which writes four rectangles of the size of the logits. Differentiable once.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        log_shares = logits.log_softmax(-1)
        ctx.save_for_backward(log_shares, x)
        return -log_shares.gather(-1, x.unsqueeze(-1)).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        log_shares, x = ctx.saved_tensors
        gradient = log_shares.exp().mul_(outer.unsqueeze(-1))
        return gradient.scatter_add_(-1, x.unsqueeze(-1), -outer.unsqueeze(-1)), None


def split_mixture(parameters: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """(..., M·(1 + 2C)) -> component logits (..., M), means and log-scales (..., M, C)."""
    parts = parameters.unflatten(-1, (-1, 1 + 2 * channels))
    weight, mean, log_scale = parts.split((1, channels, channels), -1)
    return weight.squeeze(-1), mean, log_scale.clamp(MIN_LOG_SCALE, 2.0)


def gaussian_mixture(x: Tensor, parameters: Tensor, mask: Tensor | None = None) -> Tensor:
    """-log Σ_m π_m N(x; μ_m, σ_m²), diagonal over channels. Bishop 1994; Graves 2013, section 4.

    x: (B, T, C), parameters: (B, T, M·(1 + 2C)), mask: (B, T).
    """
    weight, mean, log_scale = split_mixture(parameters.float(), x.shape[-1])
    error = (x.unsqueeze(-2) - mean) * (-log_scale).exp()
    log_density = -(0.5 * error.square() + log_scale + HALF_LOG_2PI).sum(-1)
    nll = -torch.logsumexp(log_softmax(weight, -1) + log_density, -1)
    return (nll if mask is None else nll * mask).sum(1).mean()


def mixtures(x: Tensor, logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """(...) nats of real values x (...), each under a mixture of its own (..., M). Bishop 1994."""
    log_scale = log_scale.clamp(MIN_LOG_SCALE, 2.0)
    error = (x.unsqueeze(-1) - mean) * (-log_scale).exp()
    density = log_softmax(logits, -1) - 0.5 * error.square() - log_scale - HALF_LOG_2PI
    return -density.logsumexp(-1)
