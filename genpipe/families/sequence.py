"""Autoregressive models: p(x) = Π p(x_t | x_<t, condition), by maximum likelihood, sampled exactly left to
right.

Text and table columns as tokens, series and audio as real values with a mixture density. Table columns are
drawn evenly over a block (`Draws.spread`), and their heads calibrated once after training.
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

CALIBRATIONS = 3  # rounds of matching one head to its column's shares
CALIBRATION_ROWS = 8192  # whose conditions it is done under: enough for a marginal, little beside an epoch
SMALLEST = 1e-6


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
        previous, drawn = None, list[Tensor]()
        for _ in range(self.spec.shape[0]):
            predicted, state = net.step(previous, state)  # type: ignore[operator]
            previous = self._draw(predicted, rng, [condition, *drawn[:1]])
            drawn.append(previous)
        return torch.stack(drawn, 1)

    def finish_rows(self, rows: int) -> int:
        return CALIBRATION_ROWS if self.spec.frequencies else 0

    @torch.no_grad()
    def finish(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """Table columns: shift every head until its mean over the model's own draws has the training shares.

        Errors of the columns before would otherwise add up in the marginals of the later ones.
        """
        net, condition = nets["model"], batch.condition
        state = net.begin(one_hot(condition, self.spec.conditions))  # type: ignore[operator]
        previous, drawn = None, list[Tensor]()
        for t, shares in enumerate(self.spec.frequencies):
            predicted, state = net.step(previous, state)  # type: ignore[operator]
            wanted = torch.tensor(shares, device=predicted.device) + SMALLEST
            shift = torch.zeros_like(predicted[0])
            for _ in range(CALIBRATIONS):
                have = (predicted + shift).softmax(-1).mean(0)[: len(shares)] + SMALLEST
                shift[: len(shares)] += (wanted / have).log().clamp(-2, 2)
            net.outlet.bias[t] += shift  # type: ignore[union-attr, operator, index]
            previous = self._draw(predicted + shift, rng, [condition, *drawn[:1]])
            drawn.append(previous)

    def _draw(self, predicted: Tensor, rng: Draws, before: list[Tensor]) -> Tensor:
        """(B, P) -> (B,) tokens or (B, C) values. before: the condition and the first column's tokens."""
        if self.spec.layout == "tokens":
            logits = predicted.float() / self.config.temperature
            if not self.spec.frequencies:
                return rng.categorical(logits)
            place = logits.softmax(-1) @ torch.arange(logits.shape[-1], device=logits.device).float()
            return rng.spread(logits, place / logits.shape[-1] + kin(before))
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


def kin(before: list[Tensor]) -> Tensor:
    """(B,) a whole number for each combination of classes; without any, the first column's tokens."""
    condition, *first = before
    columns = list(condition.unbind(1)) or first
    group = torch.zeros(len(condition), device=condition.device)
    for column in columns:
        group = group * (column.max() + 1) + column
    return group
