"""AdamW, its learning rate over time, gradient clipping and the moving average of weights.

AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) runs as torch's fused kernel, called directly: on CPU it is
three to four times faster than the default loop over tensors, the state is plain tensors that go into
safetensors as they are, and no process pays the 1 to 2 s `torch.optim` takes to import its compiler.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from genpipe.networks.precision import gains
from genpipe.recipe import Training
from genpipe.training.torch_internals import add_, copy_, fused_adamw_, lerp_

EPSILON = 1e-8


class AdamW:
    """The optimizer of one role; the learning rate is handed to each step.

    weight_decay pulls every weight by the same share a step, however much the data wants it. l2 is a penalty
    in the loss: a gradient that many rows share outweighs it, one that few rows make does not (Krogh & Hertz
    1992, "A simple weight decay can improve generalization").
    Biases and other single vectors do neither: what they stand for has no natural zero.
    """

    def __init__(
        self, net: nn.Module, *, betas: tuple[float, float], weight_decay: float, l2: float = 0.0
    ) -> None:
        named = list(net.named_parameters())
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        # without decay all are one group: every call of the kernel has its price
        shrinks = max(weight_decay, l2) > 0
        self.decays = [shrinks and p.ndim > 1 and not name.endswith("bias") for name, p in named]
        self.betas, self.weight_decay, self.l2 = betas, weight_decay, l2
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        where = self.parameters[0].device if self.parameters else "cpu"
        self.count = torch.zeros((), device=where)

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        rows = [
            (decays, p, p.grad, m, v)
            for decays, p, m, v in zip(self.decays, self.parameters, self.first, self.second, strict=True)
            if p.grad is not None
        ]
        if not rows:
            return
        self.count.add_(1)
        for decays in (True, False):
            group = [row[1:] for row in rows if row[0] is decays]
            if not group:
                continue
            weights, gradients, first, second = map(list, zip(*group, strict=True))
            if decays and self.l2:
                add_(gradients, weights, alpha=self.l2)
            fused_adamw_(
                weights, gradients, first, second, [], [self.count] * len(weights),
                lr=rate, beta1=self.betas[0], beta2=self.betas[1], eps=EPSILON,
                weight_decay=self.weight_decay if decays else 0.0, amsgrad=False, maximize=False,
            )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """The state under stable names, shared and not copied."""
        found = {f"first.{n}": t for n, t in zip(self.names, self.first, strict=True)}
        found |= {f"second.{n}": t for n, t in zip(self.names, self.second, strict=True)}
        return found | {"count": self.count}


class Average:
    """Exponential moving average of networks' weights, as networks of their own that can be sampled. Buffers
    are copied, not averaged: they may be counts.

    The decay warms up as (1 + t) / (10 + t), so that short runs are not dominated by the initial weights
    (Polyak & Juditsky 1992; the warm-up as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, nets: Mapping[str, nn.Module], copies: Mapping[str, nn.Module], decay: float) -> None:
        self.nets, self.decay, self.updates = dict(copies), decay, 0
        self._source = {role: [p.detach() for p in nets[role].parameters()] for role in copies}
        self._target = {role: [p.detach() for p in net.parameters()] for role, net in copies.items()}
        kept = {role: _buffers(nets[role]) for role in copies}
        self._buffers = {role: (_buffers(net), kept[role]) for role, net in copies.items() if kept[role]}
        for net in copies.values():
            net.requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, roles: Sequence[str]) -> None:
        mine = [role for role in roles if role in self._target]
        if not mine:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for role in mine:
            lerp_(self._target[role], self._source[role], 1 - decay)
            if role in self._buffers:
                copy_(*self._buffers[role])


def _buffers(net: nn.Module) -> list[Tensor]:
    """Those that are part of a network's state, and so of a bundle."""
    state = net.state_dict(keep_vars=True)
    return [buffer for name, buffer in net.named_buffers() if name in state]


def rate_at(
    step: int, training: Training, begin: float = 0.0, end: float = 1.0, turn: int | None = None
) -> float:
    """The learning rate of a step of a phase from one share of all steps to another: linear warm-up, then
    constant, a cosine to zero at its end, or constant until it turns and a line to zero (`last_step`), as in
    Hägele et al., "Scaling laws and compute-optimal training beyond fixed training durations", 2024, section
    3. turn: the step at which that is, of the whole run, if it is not its middle.
    """
    first = math.ceil(begin * training.steps)
    step, steps = step - first, math.ceil(end * training.steps) - first
    if step < training.warmup:
        return training.learning_rate * (step + 1) / training.warmup
    if training.schedule == "cosine":
        done = (step - training.warmup) / max(1, steps - training.warmup)
        return training.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if training.schedule == "settle":
        turn = max(1, steps // 2 if turn is None else turn - first)
        return training.learning_rate * min(1.0, max(0.0, 2 - step / turn))
    return training.learning_rate


def last_step(training: Training, turn: int | None) -> int:
    """Of a run whose learning rate turned at this step, if it has."""
    return training.steps if turn is None else min(training.steps, 2 * turn)


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """The L2 norm over all gradients together."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)


def clip_gradients(parameters: Sequence[Tensor], norm: Tensor, limit: float) -> None:
    """Scale gradients down to the norm `limit` (Pascanu et al. 2013, arXiv:1211.5063)."""
    torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm, foreach=True)


def autocast(precision: str, device: str, nets: Iterable[nn.Module]) -> AbstractContextManager[Any]:
    """bfloat16 where asked, or where `auto` finds that it gains; a fresh, reusable context."""
    kind = torch.device(device).type
    low = precision == "bfloat16" or (precision == "auto" and gains(kind, list(nets)))
    return torch.autocast(kind, torch.bfloat16) if low else nullcontext()
