"""Autoregressive models: p(x) = Π p(x_t | x_<t, condition), by maximum likelihood, sampled exactly left to
right.

Text and table columns as tokens, series and audio as real values with a mixture density.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from genpipe.batch import Batch, Draws, one_hot
from genpipe.families.base import Nets, Phase
from genpipe.networks import AnyNetwork, build_network
from genpipe.networks.recurrent import RecurrentConfig
from genpipe.objectives import likelihood
from genpipe.spec import TensorSpec


class SequenceConfig(BaseModel):
    """temperature: of sampling; 1 draws from the learnt distribution, less is safer and less varied."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: Literal["sequence"] = "sequence"
    temperature: float = Field(default=1.0, gt=0)
    model: AnyNetwork = RecurrentConfig()


class SequenceModel:
    Config: ClassVar[type[Any]] = SequenceConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"tokens", "columns", "sequence"})
    network_roles: ClassVar[Mapping[str, str]] = {"model": "model"}
    roles: ClassVar[tuple[str, ...]] = ("model",)
    sample_roles: ClassVar[tuple[str, ...]] = ("model",)
    phases: tuple[Phase, ...] = (Phase("likelihood", ("model",)),)

    def __init__(self, config: SequenceConfig, spec: TensorSpec) -> None:
        self.config, self.spec = config, spec

    def build(self) -> dict[str, nn.Module]:
        return {"model": build_network("model", self.spec, self.config.model)}

    def _nll(self, nets: Nets, batch: Batch) -> Tensor:
        """Nats per row."""
        predicted = nets["model"](batch.x, one_hot(batch.condition, self.spec.conditions))
        score = likelihood.tokens if self.spec.layout == "tokens" else likelihood.gaussian_mixture
        return score(batch.x, predicted, batch.mask)

    def loss(self, phase: str, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """Divided by the fixed number of positions, so that one learning rate suits short and long rows."""
        return {"likelihood": self._nll(nets, batch) / self.spec.shape[0]}

    @torch.no_grad()
    def sample(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        net = nets["model"]
        state = net.begin(one_hot(condition, self.spec.conditions))  # type: ignore[operator]
        previous, drawn = None, []
        for _ in range(self.spec.shape[0]):
            predicted, state = net.step(previous, state)  # type: ignore[operator]
            previous = self._draw(predicted, rng)
            drawn.append(previous)
        return torch.stack(drawn, 1)

    def _draw(self, predicted: Tensor, rng: Draws) -> Tensor:
        """(B, P) -> (B,) tokens or (B, C) values."""
        if self.spec.layout == "tokens":
            return rng.categorical(predicted.float() / self.config.temperature)
        channels = self.spec.shape[-1]
        weight, mean, log_scale = likelihood.split_mixture(predicted.float(), channels)
        pick = rng.categorical(weight).view(-1, 1, 1).expand(-1, 1, channels)
        mean, scale = mean.gather(1, pick).squeeze(1), log_scale.gather(1, pick).squeeze(1).exp()
        return (mean + self.config.temperature * scale * rng.normal(channels)).clamp(-1, 1)

    @torch.no_grad()
    def holdout_loss(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """Nats per row, and per real position."""
        nll = self._nll(nets, batch)
        real = self.spec.shape[0] if batch.mask is None else batch.mask.sum(1).float().mean()
        return {"nats": nll, "nats_per_position": nll / real}
