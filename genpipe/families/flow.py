"""Flow matching (Lipman et al. 2023, arXiv:2210.02747; rectified flow: Liu et al. 2023, arXiv:2209.03003).

A row x and noise z lie on a straight way, x_t = t x + (1 - t) z. A network learns the velocity x - z of those
who pass a point at a time; following it from noise arrives at rows. It learns only what a Gaussian fitted to
the data (gaussian.py) does not know, in units of what that leaves open: a loss of 1 is no better than that.
On minutes of a CPU this is most of the quality; see the lab notes. Times are drawn where learning pays
(logit-normal: Esser et al. 2024, section 3.1). Some rows learn without their condition, so that sampling may
go further from the unconditional velocity than the conditional is (classifier-free guidance: Ho & Salimans
2022, arXiv:2207.12598).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from genpipe.batch import Batch, one_hot
from genpipe.draws import Draws
from genpipe.families.base import FamilyConfig, Nets, Phase
from genpipe.families.gaussian import Gaussian
from genpipe.networks import AnyNetwork, build_network
from genpipe.networks.precision import gains
from genpipe.networks.unet import UNetConfig
from genpipe.spec import TensorSpec

FEWEST, MOST_VALUES = 256, 2**24  # of rows that the Gaussian is fitted to
ROUNDS = 3  # of solving a step for its begin


class FlowConfig(FamilyConfig):
    """center, spread: of the normal distribution of a time's logit; later times are of less noise.

    dropped: share of rows that learn without their condition. guidance: of sampling; 1 follows the
    conditional velocity, more goes beyond it: surer of the class, less varied, and twice the work.
    steps: of sampling, of equal length, each one call of the network. solver: `exact` follows the Gaussian's
    part exactly, which keeps differences far smaller than a step's noise, as between the columns of a
    series; `euler` smooths them away, as is better for pictures.
    """

    family: Literal["flow"] = "flow"
    center: float = Field(default=1.0, ge=-10, le=10, json_schema_extra={"search": {"low": 0.0, "high": 1.5}})
    spread: float = Field(default=1.0, gt=0, le=10)
    dropped: float = Field(default=0.1, ge=0, lt=1)
    guidance: float = Field(
        default=1.0, ge=0, le=100, json_schema_extra={"search": {"low": 1.0, "high": 2.0}}
    )
    steps: int = Field(default=12, ge=1, le=1000)
    solver: Literal["euler", "exact"] = "euler"
    velocity: AnyNetwork = UNetConfig()


class Velocity(nn.Module):
    """A Gaussian's velocity and a network's correction of it."""

    def __init__(self, net: nn.Module, gaussian: Gaussian) -> None:
        super().__init__()
        self.net, self.gaussian = net, gaussian

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of x (B, *shape) at t (B,): the Gaussian's velocity, the correction (both as x), and the scale
        (B, 1, ..) of what is corrected.
        """
        with torch.autocast(x.device.type, enabled=False):
            first, scale = self.gaussian.velocity(x.flatten(1), t, c)
        scale = scale.view(-1, *[1] * (x.dim() - 1))
        return first.view_as(x), scale * self.net(x, t, c).float(), scale


class Flow:
    Config: ClassVar[type[Any]] = FlowConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"grid", "sequence"})
    network_roles: ClassVar[Mapping[str, str]] = {"velocity": "velocity"}
    roles: ClassVar[tuple[str, ...]] = ("velocity",)
    sample_roles: ClassVar[tuple[str, ...]] = ("velocity",)
    publishes: ClassVar[tuple[str, ...]] = ("velocity",)
    metrics: ClassVar[tuple[str, ...]] = ("matching",)
    has_temperature: ClassVar[bool] = False
    takes_observed = "none"
    phases: tuple[Phase, ...] = (Phase("matching", ("velocity",)),)

    def __init__(self, config: FlowConfig, spec: TensorSpec) -> None:
        self.config, self.spec, self.latent = config, spec, math.prod(spec.shape)

    def build(self) -> dict[str, nn.Module]:
        net = build_network("velocity", self.spec, self.config.velocity)
        return {"velocity": Velocity(net, Gaussian(self.latent, self.spec.conditions))}

    def begin_rows(self, rows: int) -> int:
        return min(rows, max(FEWEST, MOST_VALUES // self.latent))

    def begin(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """The Gaussian to training rows."""
        c = one_hot(batch.condition, self.spec.conditions)
        gaussian = cast(Gaussian, nets["velocity"].gaussian)
        gaussian.fit(batch.x.flatten(1), c, int(rng.shared() * 2**31))

    def _matching(self, nets: Nets, batch: Batch, rng: Draws, c: Tensor) -> Tensor:
        """Mean square of what is missed of x - z, in units of what the Gaussian leaves open."""
        z, normal = rng.normal(*self.spec.shape), torch.special.ndtri(rng.uniform().clamp(1e-6, 1 - 1e-6))
        t = torch.sigmoid(self.config.center + self.config.spread * normal)
        part = t.view(-1, *[1] * (batch.x.dim() - 1))
        first, correction, scale = ask(nets, part * batch.x + (1 - part) * z, t, c)
        return ((first + correction - (batch.x - z)) / scale).square().mean()

    def loss(self, phase: str, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        kept = rng.uniform(1) >= self.config.dropped
        c = one_hot(batch.condition, self.spec.conditions) * kept
        return {"matching": self._matching(nets, batch, rng, c)}

    def _step(self, nets: Nets, x: Tensor, at: Tensor, k: int, c: Tensor, *, back: bool = False) -> Tensor:
        """x after step k, or before it; `at` is the point before it, where the network is asked."""
        begin, end = k / self.config.steps, (k + 1) / self.config.steps
        time, guidance = at.new_full((len(at),), begin), self.config.guidance
        first, correction, _ = ask(nets, at, time, c)
        if guidance != 1 and c.shape[1]:
            free = ask(nets, at, time, torch.zeros_like(c))
            correction = torch.lerp(free[0] + free[1], first + correction, guidance) - first
        if self.config.solver == "euler":
            move = (end - begin) * (first + correction)
            return x - move if back else x + move
        move, gaussian = (end - begin) * correction, cast(Gaussian, nets["velocity"].gaussian)
        with torch.autocast(x.device.type, enabled=False):
            if back:
                return gaussian.moved((x - move).flatten(1), end, begin, c).view_as(x)
            return gaussian.moved(x.flatten(1), begin, end, c).view_as(x) + move

    def prior(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        return rng.normal(self.latent)

    @torch.no_grad()
    def decode(self, nets: Nets, z: Tensor, condition: Tensor, rng: Draws) -> Tensor:
        """Steps of equal length: the way is nearly straight, and Heun's method was worse for its work."""
        c, steps = one_hot(condition, self.spec.conditions), self.config.steps
        x: Tensor = z.unflatten(1, self.spec.shape)
        with low_precision(nets, z):
            for k in range(steps):
                x = self._step(nets, x, x, k, c)
        return x.clamp(-1, 1)

    @torch.no_grad()
    def encode(self, nets: Nets, batch: Batch) -> Tensor:
        """The noise that is decoded to a row: each step of `decode`, the last first, solved for its begin."""
        c, steps, x = one_hot(batch.condition, self.spec.conditions), self.config.steps, batch.x
        with low_precision(nets, x):
            for k in reversed(range(steps)):
                end = x
                for _ in range(ROUNDS):
                    x = self._step(nets, end, x, k, c, back=True)
        return x.flatten(1)

    def sample(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        return self.decode(nets, self.prior(nets, condition, rng), condition, rng)

    def finish_rows(self, rows: int) -> int:
        return 0

    def finish(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """Nothing is left to do after training."""

    @torch.no_grad()
    def holdout_loss(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """At the same times and noise whenever the draws are the same."""
        c = one_hot(batch.condition, self.spec.conditions)
        return {"matching": self._matching(nets, batch, rng, c)}


def ask(nets: Nets, x: Tensor, t: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `Velocity` says."""
    first, correction, scale = nets["velocity"](x, t, c)
    return first, correction, scale


def low_precision(nets: Nets, x: Tensor) -> AbstractContextManager[Any]:
    """bfloat16 where that gains: the network is called once a step of sampling."""
    kind = x.device.type
    return torch.autocast(kind, torch.bfloat16) if gains(kind, [nets["velocity"]]) else nullcontext()
