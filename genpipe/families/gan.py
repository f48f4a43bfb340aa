"""Generative adversarial networks (Goodfellow et al. 2014), conditional (Mirza & Osindero 2014), for values
of any layout.

A critic phase at every step, a generator phase every `critic_steps`. A penalty that is not due at every step
is a phase of its own ("lazy", Karras et al. 2020), its weight multiplied by the interval.
In tables, choices are Gumbel-softmax draws while training and exact draws when sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from genpipe.batch import Batch, one_hot
from genpipe.draws import Draws
from genpipe.entries import NameIn
from genpipe.errors import UsageError
from genpipe.families import calibrate
from genpipe.families.base import FamilyConfig, Nets, Phase
from genpipe.networks import AnyNetwork, build_network
from genpipe.networks.head import Head, gumbel
from genpipe.networks.mlp import MLPConfig
from genpipe.objectives import ADVERSARIAL, PENALTIES
from genpipe.spec import TensorSpec

WRONG = 4  # classes that a row is not of, a field and step


class GANConfig(FamilyConfig):
    """temperature: of the Gumbel-softmax of a table's choices; small = nearly one-hot.

    critic_steps: critic updates a generator update. penalty_every: steps between two penalties.
    critic_rate: factor of the critic's learning rate (two time scales, Heusel et al. 2017).
    pack: rows the critic sees at once, which shows it samples that are all alike (PacGAN, Lin et al. 2018,
    arXiv:1712.04086); each worker's rows of a batch must be a multiple of it.
    mismatch: weight of a second task of the critic, telling a real row from the same one under another class
    (GAN-CLS: Reed et al. 2016, "Generative adversarial text to image synthesis", section 4.2). Without it
    the critic learns of classes only what generated rows get wrong of them, and that comes late.
    """

    family: Literal["gan"] = "gan"
    adversarial: Annotated[str, NameIn(ADVERSARIAL)] = "non_saturating"
    penalty: Annotated[str, NameIn(PENALTIES, "none")] = "r1"
    penalty_weight: float = Field(
        default=1.0, gt=0, le=1e6, json_schema_extra={"search": {"low": 0.1, "high": 10.0, "log": True}}
    )
    penalty_every: int = Field(default=1, ge=1, le=1_000_000)
    critic_steps: int = Field(default=1, ge=1, le=1000)
    # left out where it changes nothing, so that the recipe, and each id made of it, is as it was before
    critic_rate: float = Field(default=1.0, gt=0, le=1000, exclude_if=lambda rate: rate == 1.0)
    latent: int = Field(default=64, ge=1, le=16_384, json_schema_extra={"search": {"choices": [32, 64, 128]}})
    temperature: float = Field(default=0.5, gt=0, le=100)
    pack: int = Field(default=1, ge=1, le=128)
    mismatch: float = Field(default=0.0, ge=0, le=1000, exclude_if=lambda weight: weight == 0)
    generator: AnyNetwork = MLPConfig()
    critic: AnyNetwork = MLPConfig()

    @model_validator(mode="after")
    def _check(self) -> GANConfig:
        loss = ADVERSARIAL[self.adversarial]
        if loss.needs_penalty and self.penalty == "none":
            first = loss.settings["penalty"]
            others = " or ".join(repr(name) for name in PENALTIES if name != first)
            raise ValueError(f"adversarial {self.adversarial!r} needs a penalty: {first!r} (or {others})")
        return self


def packed_spec(spec: TensorSpec, pack: int) -> TensorSpec:
    """What a critic of `pack` rows at once sees: their columns or channels side by side."""
    spans = tuple(
        span.model_copy(update={"name": f"{span.name}.{k}", "start": span.start + k * spec.shape[0]})
        for k in range(pack)
        for span in spec.spans
    )
    shape = list(spec.shape)
    shape[-1 if spec.layout == "sequence" else 0] *= pack
    return spec.model_copy(
        update={"shape": tuple(shape), "spans": spans, "conditions": spec.conditions * pack}
    )


def packed(x: Tensor, pack: int) -> Tensor:
    """(B, ...) -> (B / pack, ...), as many rows side by side: columns, or channels of a picture (C, H, W) or
    a series (T, C).
    """
    if pack == 1:
        return x
    groups: Tensor = x.unflatten(0, (-1, pack))
    return groups.transpose(1, 2).flatten(2) if x.dim() == 3 else groups.flatten(1, 2)


class GAN:
    Config: ClassVar[type[Any]] = GANConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"vector", "grid", "sequence"})
    network_roles: ClassVar[Mapping[str, str]] = {"generator": "generator", "critic": "critic"}
    roles: ClassVar[tuple[str, ...]] = ("generator", "critic")
    sample_roles: ClassVar[tuple[str, ...]] = ("generator",)
    publishes: ClassVar[tuple[str, ...]] = ("generator",)
    metrics: ClassVar[tuple[str, ...]] = ("critic", "gap")
    has_temperature: ClassVar[bool] = False  # the config's is of training
    takes_observed = "none"

    def __init__(self, config: GANConfig, spec: TensorSpec) -> None:
        self.config, self.spec, self.head = config, spec, Head(spec)
        self.adversarial = ADVERSARIAL[config.adversarial]
        self.penalty = PENALTIES.get(config.penalty)
        lazy = self.penalty is not None and config.penalty_every > 1
        rate = config.critic_rate
        penalty = (Phase("penalty", ("critic",), config.penalty_every, rate=rate),) if lazy else ()
        self.phases = (
            Phase("critic", ("critic",), rate=rate),
            *penalty,
            Phase("generator", ("generator",), config.critic_steps),
        )

    def build(self) -> dict[str, nn.Module]:
        config, spec = self.config, self.spec
        return {
            "generator": build_network("generator", spec, config.generator, latent=config.latent),
            "critic": build_network("critic", packed_spec(spec, config.pack), config.critic),
        }

    def loss(self, phase: str, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        condition = one_hot(batch.condition, self.spec.conditions)
        if phase == "generator":
            return {"generator": self._generator_loss(nets, batch.x, condition, rng)}
        with torch.no_grad():
            fake, _ = self._packs(self._fake(nets, condition, rng), condition)
        real, condition = self._packs(batch.x, condition)
        terms = {}
        if phase == "critic":
            terms = self._critic_terms(nets, real, fake, condition, self._wrong(batch.condition, rng))
        if phase == "penalty" or self.config.penalty_every == 1:
            terms |= self._penalty(nets, real, fake, condition, rng)
        return terms

    def _wrong(self, condition: Tensor, rng: Draws) -> Tensor | None:
        """(B / pack, M, pack * S) conditions of real rows (B, K) in which one field says another class: WRONG
        drawn for each field, the same chance for each other class. None where there is nothing to mistake.
        """
        sizes, made = self.spec.conditions, []
        for k, size in enumerate(sizes if self.config.mismatch else ()):
            for shift in rng.integers(size - 1, WRONG).unbind(1) if size > 1 else ():
                other = condition.clone()
                other[:, k] = (condition[:, k] + 1 + shift) % size
                made.append(one_hot(other, sizes))
        return packed(torch.stack(made, 1), self.config.pack) if made else None

    def _critic_terms(
        self, nets: Nets, real: Tensor, fake: Tensor, condition: Tensor, wrong: Tensor | None
    ) -> dict[str, Tensor]:
        if wrong is None:
            return {"critic": self.adversarial.critic(*self._scores(nets, real, fake, condition))}
        count, critic = wrong.shape[1], nets["critic"]
        if getattr(critic, "compares", False):  # real rows pass it once, whatever they are told
            told = torch.cat([condition.unsqueeze(1), wrong], 1)
            scores = critic(torch.cat([real, fake]), torch.cat([told, told]))
            right, mistaken, made = scores[: len(real), 0], scores[: len(real), 1:], scores[len(real) :, 0]
        else:
            right, made = self._scores(nets, real, fake, condition)
            mistaken = critic(real.repeat_interleave(count, 0), wrong.flatten(0, 1)).view(-1, count)
        mismatch = self.adversarial.critic(right.unsqueeze(1).expand_as(mistaken), mistaken)
        return {
            "critic": self.adversarial.critic(right, made),
            "mismatch": self.config.mismatch * mismatch,
        }

    def _generator_loss(self, nets: Nets, real: Tensor, condition: Tensor, rng: Draws) -> Tensor:
        fake = nets["critic"](*self._packs(self._fake(nets, condition, rng), condition))
        if not self.adversarial.sees_real:
            return self.adversarial.generator(fake)
        with torch.no_grad():  # nothing the generator could change
            scores = nets["critic"](*self._packs(real, condition))
        return self.adversarial.generator(scores, fake)

    def _packs(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The critic's two inputs, `pack` rows at once."""
        pack = self.config.pack
        if len(x) % pack:
            raise UsageError(
                "PACK",
                where="training.batch_size",
                found=f"{len(x)} rows a worker in packs of {pack}",
                expected=f"a multiple of {pack} rows on every worker",
                fix="change batch_size, workers or family.pack",
            )
        return packed(x, pack), packed(condition, pack)

    def _fake(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        raw = nets["generator"](rng.normal(self.config.latent), condition)
        if not self.head.groups:
            return cast(Tensor, self.head(raw))
        noise = gumbel(rng.uniform(*self.spec.shape))
        head = self.head.to(raw.device)
        return cast(Tensor, head(raw, noise, temperature=self.config.temperature))

    def _scores(self, nets: Nets, real: Tensor, fake: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Both halves in one pass of the critic."""
        scores = nets["critic"](torch.cat([real, fake]), torch.cat([condition, condition]))
        return scores[: len(real)], scores[len(real) :]

    def _penalty(
        self, nets: Nets, real: Tensor, fake: Tensor, condition: Tensor, rng: Draws
    ) -> dict[str, Tensor]:
        if self.penalty is None:
            return {}
        value = self.penalty(
            lambda x: nets["critic"](x, condition), real, fake, rng.uniform()[:: self.config.pack]
        )
        return {"penalty": self.config.penalty_weight * self.config.penalty_every * value}

    @torch.no_grad()
    def sample(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        x = self._fake(nets, one_hot(condition, self.spec.conditions), rng)
        return self.head.harden(x)

    def finish_rows(self, rows: int) -> int:
        return min(rows, calibrate.ROWS) if self.head.groups else 0

    @torch.no_grad()
    def finish(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """A table's choices in the shares of the training split."""
        generator = nets["generator"]
        raw = generator(rng.normal(self.config.latent), one_hot(batch.condition, self.spec.conditions))
        calibrate.calibrate(self.head.to(raw.device), cast(Tensor, generator.bias), raw, batch.x)

    @torch.no_grad()
    def holdout_loss(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """The critic's loss on rows it has not seen, and how far apart it holds them from generated ones."""
        condition = one_hot(batch.condition, self.spec.conditions)
        fake, pack = self._fake(nets, condition, rng), self.config.pack
        whole = torch.arange(-(-len(fake) // pack) * pack) % len(fake)  # the last pack starts over
        (real, seen), (fake, _) = (self._packs(x[whole], condition[whole]) for x in (batch.x, fake))
        real, fake = self._scores(nets, real, fake, seen)
        return {"critic": self.adversarial.critic(real, fake), "gap": real.mean() - fake.mean()}
