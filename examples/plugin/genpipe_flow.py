"""An example plug-in of genpipe: plain flow matching as a family, a gated network, a smoothed loss, a recipe.

B batch · D numbers of a row · Z latent · S width of the one-hot condition
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from genpipe.batch import Batch, one_hot
from genpipe.draws import Draws
from genpipe.families.base import FamilyConfig, Nets, Phase
from genpipe.networks import AnyNetwork, build_network
from genpipe.networks.base import NetworkConfig
from genpipe.networks.head import Head
from genpipe.networks.mlp import MLPConfig
from genpipe.objectives import Adversarial
from genpipe.objectives.adversarial import non_saturating_generator
from genpipe.plugins import Plugin
from genpipe.recipe import Recipe, Training
from genpipe.spec import TensorSpec

SMOOTHED = 0.9


def smoothed_critic(real: Tensor, fake: Tensor) -> Tensor:
    """Real rows are called real with a share of .9, which keeps the critic unsure. Salimans et al. 2016."""
    told = SMOOTHED * softplus(-real) + (1 - SMOOTHED) * softplus(real)
    return told.mean() + softplus(fake).mean()


class GatedConfig(NetworkConfig):
    network: Literal["gated"] = "gated"
    width: int = Field(default=128, ge=1, le=4096, json_schema_extra={"search": {"choices": [64, 128, 256]}})

    def held(self, spec: TensorSpec, rows: int) -> int:
        return rows * 2 * self.width


class GatedNet(nn.Module):
    """Two layers of gated linear units (Dauphin et al. 2017): a row (B, fan_in) -> (B, fan_out)."""

    def __init__(self, fan_in: int, fan_out: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(fan_in, 2 * width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, fan_out)

    @property
    def bias(self) -> Tensor:
        return self.out.bias

    def forward(self, first: Tensor, c: Tensor) -> Tensor:
        h = nn.functional.glu(self.first(torch.cat([first, c], 1)))
        return self.out(nn.functional.glu(self.second(h))).squeeze(1)


class Gated:
    Config: ClassVar[type[Any]] = GatedConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"vector"})
    roles: ClassVar[frozenset[str]] = frozenset({"generator", "critic", "encoder", "decoder"})

    @staticmethod
    def build(role: str, spec: TensorSpec, config: GatedConfig, *, latent: int = 0) -> nn.Module:
        made = role in ("generator", "decoder")
        fan_in = (latent if made else spec.shape[0]) + sum(spec.conditions)
        fan_out = spec.shape[0] if made else 2 * latent if role == "encoder" else 1
        return GatedNet(fan_in, fan_out, config.width)


class FlowConfig(FamilyConfig):
    """draws: Euler steps of sampling."""

    family: Literal["plain_flow"] = "plain_flow"
    draws: int = Field(default=20, ge=1, le=1000)
    velocity: AnyNetwork = MLPConfig()


class Flow:
    """Flow matching (Lipman et al. 2023): learn the velocity x - z of the straight way from noise z to a row
    x, given a point of the way and how far along it lies.
    """

    Config: ClassVar[type[Any]] = FlowConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"vector", "grid", "sequence"})
    network_roles: ClassVar[Mapping[str, str]] = {"velocity": "decoder"}
    roles: ClassVar[tuple[str, ...]] = ("velocity",)
    sample_roles: ClassVar[tuple[str, ...]] = ("velocity",)
    publishes: ClassVar[tuple[str, ...]] = ("velocity",)
    metrics: ClassVar[tuple[str, ...]] = ("matching",)
    has_temperature: ClassVar[bool] = False
    takes_observed = "none"
    phases: tuple[Phase, ...] = (Phase("matching", ("velocity",)),)

    def __init__(self, config: FlowConfig, spec: TensorSpec) -> None:
        self.config, self.spec, self.head = config, spec, Head(spec)

    def build(self) -> dict[str, nn.Module]:
        latent = math.prod(self.spec.shape) + 1  # the point, and the time
        return {"velocity": build_network("decoder", self.spec, self.config.velocity, latent=latent)}

    def _velocity(self, nets: Nets, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        seen = torch.cat([x.flatten(1), time.view(-1, 1)], 1)
        return nets["velocity"](seen, one_hot(condition, self.spec.conditions))

    def _matching(self, nets: Nets, batch: Batch, rng: Draws) -> Tensor:
        noise, time = rng.normal(*self.spec.shape), rng.uniform()
        part = time.view(-1, *[1] * (batch.x.dim() - 1))
        velocity = self._velocity(nets, part * batch.x + (1 - part) * noise, time, batch.condition)
        return (velocity - (batch.x - noise)).square().mean()

    def loss(self, phase: str, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        return {"matching": self._matching(nets, batch, rng)}

    @torch.no_grad()
    def sample(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        x = rng.normal(*self.spec.shape)
        for step in range(self.config.draws):
            time = x.new_full((len(x),), step / self.config.draws)
            x = x + self._velocity(nets, x, time, condition) / self.config.draws
        return self.head.to(x.device).harden(x.clamp(-1, 1))

    def finish_rows(self, rows: int) -> int:
        return 0

    def finish(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """Nothing is left to do after training."""

    @torch.no_grad()
    def holdout_loss(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        return {"matching": self._matching(nets, batch, rng)}


def tabular_flow() -> Recipe:
    """Flow matching of a table."""
    return Recipe(
        name="tabular_flow",
        kind="tabular",
        layout="vector",
        family=FlowConfig(velocity=GatedConfig()),
        training=Training(steps=2000, batch_size=256, learning_rate=2e-3, schedule="cosine", ema=0.99),
    )


PLUGIN = Plugin(
    families={"plain_flow": Flow},
    networks={"gated": Gated},
    losses={"smoothed": Adversarial(smoothed_critic, non_saturating_generator)},
    recipes={"tabular_flow": tabular_flow},
)
