"""Autoencoders with discrete codes and a learnt prior over them (van den Oord et al. 2017, VQ-VAE,
arXiv:1711.00937), conditional.

Two trainings in one run. First an encoder, a quantiser and a decoder, which keep a picture, a spectrogram or
a series as a small map of tokens; a critic beside them makes what is decoded sharp (VQGAN: Esser et al. 2021,
"Taming transformers for high-resolution image synthesis", arXiv:2012.09841, section 3.1). Then they stay as
they are, and an autoregressive model learns the tokens, row after row of the map, given the classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from genpipe.batch import Batch, one_hot
from genpipe.draws import Draws
from genpipe.errors import UsageError
from genpipe.families.base import Nets, Phase
from genpipe.families.quantise import Codebook, FiniteScalar, Quantiser
from genpipe.families.sampling import SampledConfig
from genpipe.families.vae import Decoder
from genpipe.networks import AnyNetwork, build_network
from genpipe.networks.convolutional import Conv2dConfig, channels_and_size, doublings, halved
from genpipe.networks.transformer import TransformerConfig
from genpipe.objectives import ADVERSARIAL, PENALTIES, likelihood
from genpipe.spec import TensorSpec

MOST_CODES = 2**16
PENALTY_EVERY = 4  # steps between two penalties of the critic
GAME, PENALTY = "non_saturating", "r1"


class VQConfig(SampledConfig):
    """quantiser: fsq rounds the numbers of a code to `levels`, vq takes the nearest of `codes` learnt ones of
    `channels` numbers; see quantise.py. commitment: weight of keeping the encoder near these.

    halvings: of each side, from the data to the map of codes. Fewer keep more and are dearer to learn. side:
    of what is larger a side there is a halving more for each doubling beyond it, so that the prior has no
    more codes to draw.
    share: of the steps that train the autoencoder; the others train the prior over its codes.
    adversarial_weight: of the critic, beside nats a value; 0 trains none, and what is decoded is a mean,
    which blurs. penalty_weight: of the critic's R1 penalty.
    prior_rate: factor of the learning rate of the prior. temperature, top_k, top_p: of drawing codes.
    width_rate: as of a VAE.
    """

    family: Literal["vq"] = "vq"
    quantiser: Literal["fsq", "vq"] = Field(
        default="fsq", json_schema_extra={"search": {"choices": ["fsq", "vq"]}}
    )
    levels: tuple[Annotated[int, Field(ge=2, le=256)], ...] = Field(
        default=(8, 6, 5), min_length=1, max_length=32
    )
    codes: int = Field(default=256, ge=2, le=MOST_CODES)
    channels: int = Field(default=8, ge=1, le=1024)
    commitment: float = Field(default=0.25, gt=0, le=1000)
    halvings: int = Field(default=2, ge=1, le=12, json_schema_extra={"search": {"choices": [2, 3]}})
    side: int | None = Field(default=None, ge=8, le=16_384, exclude_if=lambda side: side is None)
    share: float = Field(default=0.5, gt=0, lt=1, json_schema_extra={"search": {"low": 0.3, "high": 0.7}})
    adversarial_weight: float = Field(
        default=0.1, ge=0, le=1e6, json_schema_extra={"search": {"choices": [0.0, 0.05, 0.1, 0.2]}}
    )
    penalty_weight: float = Field(default=1.0, gt=0, le=1e6)
    prior_rate: float = Field(default=1.0, gt=0, le=1000)
    width_rate: float = Field(default=8.0, gt=0, le=1000)
    encoder: AnyNetwork = Conv2dConfig()
    decoder: AnyNetwork = Conv2dConfig()
    critic: AnyNetwork = Conv2dConfig()
    model: AnyNetwork = TransformerConfig()

    @model_validator(mode="after")
    def _check(self) -> VQConfig:
        if math.prod(self.levels) > MOST_CODES:
            raise ValueError(
                f"levels {self.levels} make {math.prod(self.levels)} codes; at most {MOST_CODES}"
            )
        return self


def halvings_of(config: VQConfig, spec: TensorSpec) -> int:
    return config.halvings + doublings(channels_and_size(spec)[1], config.side)


class CodeDecoder(Decoder):
    """The decoder and what its codes are."""

    def __init__(self, net: nn.Module, scales: tuple[int, ...], rate: float, quantiser: Quantiser) -> None:
        super().__init__(net, scales, rate)
        self.quantiser = quantiser


class VQ:
    Config: ClassVar[type[Any]] = VQConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"grid", "sequence"})
    network_roles: ClassVar[Mapping[str, str]] = {
        "encoder": "map_encoder", "decoder": "map_decoder", "critic": "critic", "model": "model",
    }  # fmt: skip
    network_forms: ClassVar[Mapping[str, str]] = {"model": "tokens"}
    roles: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "critic", "model")
    sample_roles: ClassVar[tuple[str, ...]] = ("decoder", "model")
    publishes: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "model")
    metrics: ClassVar[tuple[str, ...]] = ("bound", "reconstruction", "code_nats")
    has_temperature: ClassVar[bool] = True
    controls: ClassVar[tuple[str, ...]] = ("temperature", "top_k", "top_p")
    takes_observed = "none"

    def __init__(self, config: VQConfig, spec: TensorSpec) -> None:
        self.config, self.spec = config, spec
        self.halvings = halvings_of(config, spec)
        self.size = halved(channels_and_size(spec)[1], self.halvings)
        if math.prod(self.size) < 2:
            raise UsageError(
                "HALVINGS",
                where="family.halvings",
                found=f"{self.halvings}, after which {spec.shape} leaves one position",
                expected="a map of two codes or more",
                fix="lower halvings, or learn larger rows",
            )
        self.width = len(config.levels) if config.quantiser == "fsq" else config.channels
        self.latent = self.width * math.prod(self.size)
        self.codes = self.network_specs(config, spec)["model"]
        self.game, self.penalty = ADVERSARIAL[GAME], PENALTIES[PENALTY]
        end = config.share
        game = (Phase("critic", ("critic",), end=end), Phase("penalty", ("critic",), PENALTY_EVERY, end=end))
        self.phases: tuple[Phase, ...] = (
            Phase("autoencoder", ("encoder", "decoder"), end=end),
            *(game if config.adversarial_weight else ()),
            Phase("prior", ("model",), begin=end, rate=config.prior_rate),
        )

    @staticmethod
    def network_specs(config: VQConfig, spec: TensorSpec) -> dict[str, TensorSpec]:
        """The tensors of the networks that do not learn the data's own."""
        positions = math.prod(halved(channels_and_size(spec)[1], halvings_of(config, spec)))
        codes = math.prod(config.levels) if config.quantiser == "fsq" else config.codes
        told: dict[str, Any] = {"vocabulary": (codes,), "conditions": spec.conditions}
        return {"model": TensorSpec(layout="tokens", shape=(positions,), dtype="int32", **told)}

    def build(self) -> dict[str, nn.Module]:
        config, spec = self.config, self.spec
        more = {"latent": self.width, "halvings": self.halvings}
        quantiser: Quantiser = FiniteScalar(config.levels)
        if config.quantiser == "vq":
            quantiser = Codebook(config.codes, config.channels, config.commitment)
        scales = (spec.shape[0], 1, 1) if spec.layout == "grid" else (spec.shape[-1],)
        net = build_network("map_decoder", spec, config.decoder, **more)
        return {
            "encoder": build_network("map_encoder", spec, config.encoder, **more),
            "decoder": CodeDecoder(net, scales, config.width_rate, quantiser),
            "critic": build_network("critic", spec, config.critic),
            "model": build_network("model", self.codes, config.model),
        }

    def _log_scale(self, nets: Nets) -> Tensor:
        return self.config.width_rate * cast(Tensor, nets["decoder"].log_scale)

    def _told(self, condition: Tensor) -> Tensor:
        return one_hot(condition, self.spec.conditions)

    def _quantised(self, nets: Nets, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """z and its codes (B, Z, *size), and their tokens (B, *size)."""
        z = nets["encoder"](batch.x, self._told(batch.condition))
        return z, *cast(Quantiser, nets["decoder"].quantiser)(z)

    def _decoded(self, nets: Nets, codes: Tensor, condition: Tensor) -> Tensor:
        return torch.tanh(nets["decoder"](codes, self._told(condition)).float())

    def _reconstruction(self, nets: Nets, x: Tensor, mean: Tensor) -> Tensor:
        return likelihood.gaussian(x, mean, self._log_scale(nets))

    def _code_nats(self, nets: Nets, tokens: Tensor, condition: Tensor) -> Tensor:
        tokens = tokens.flatten(1)
        return likelihood.tokens(tokens, nets["model"](tokens, self._told(condition)))

    def loss(self, phase: str, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """Divided by the fixed number of values or positions, so that one learning rate and one weight of
        the critic suit small and large rows.
        """
        if phase == "autoencoder":
            return self._autoencoder(nets, batch, rng)
        with torch.no_grad():
            _, codes, tokens = self._quantised(nets, batch)
        if phase == "prior":
            return {"code_nats": self._code_nats(nets, tokens, batch.condition) / math.prod(self.size)}
        told, critic = self._told(batch.condition), nets["critic"]
        if phase == "penalty":
            value = self.penalty(lambda x: critic(x, told), batch.x, batch.x, rng.uniform())
            return {"penalty": self.config.penalty_weight * PENALTY_EVERY * value}
        with torch.no_grad():
            fake = self._decoded(nets, codes, batch.condition)
        real, made = critic(torch.cat([batch.x, fake]), torch.cat([told, told])).chunk(2)
        return {"critic": self.game.critic(real, made)}

    def _autoencoder(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        z, codes, tokens = self._quantised(nets, batch)
        mean = self._decoded(nets, codes, batch.condition)
        terms = {"reconstruction": self._reconstruction(nets, batch.x, mean) / math.prod(self.spec.shape)}
        terms |= cast(Quantiser, nets["decoder"].quantiser).terms(z, tokens, rng)
        if weight := self.config.adversarial_weight:
            scores = nets["critic"](mean, self._told(batch.condition))
            terms["adversarial"] = weight * self.game.generator(scores)
        return terms

    def sample(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        return self.decode(nets, self.prior(nets, condition, rng), condition, rng)

    @torch.no_grad()
    def prior(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        net = nets["model"]
        state, previous, drawn = net.begin(self._told(condition)), None, list[Tensor]()  # type: ignore[operator]
        for _ in range(self.codes.shape[0]):
            logits, state = net.step(previous, state)  # type: ignore[operator]
            previous = rng.categorical(self.config.shaped(logits))
            drawn.append(previous)
        tokens = torch.stack(drawn, 1).unflatten(1, self.size)
        return cast(Quantiser, nets["decoder"].quantiser).values(tokens).flatten(1)

    @torch.no_grad()
    def encode(self, nets: Nets, batch: Batch) -> Tensor:
        return self._quantised(nets, batch)[1].flatten(1)

    @torch.no_grad()
    def decode(self, nets: Nets, z: Tensor, condition: Tensor, rng: Draws) -> Tensor:
        """Codes need not be whole ones: the decoder goes smoothly from one to the next. Series get the
        predicted noise, too, where no critic has taught the decoder to make its own.
        """
        x = self._decoded(nets, z.unflatten(1, (self.width, *self.size)), condition)
        if self.spec.layout == "grid" or self.config.adversarial_weight:
            return x
        scale = self._log_scale(nets).clamp_min(likelihood.MIN_LOG_SCALE).exp()
        return (x + scale * rng.normal(*self.spec.shape)).clamp(-1, 1)

    def finish_rows(self, rows: int) -> int:
        return 0

    def finish(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """Nothing is left to do."""

    @torch.no_grad()
    def holdout_loss(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """Nats per row: of its codes, of the row given these, and of both together. That is a bound, as other
        codes could have made the same row. Until the prior is trained, it is that of an untrained one.
        """
        _, codes, tokens = self._quantised(nets, batch)
        mean = self._decoded(nets, codes, batch.condition)
        reconstruction = self._reconstruction(nets, batch.x, mean)
        code_nats = self._code_nats(nets, tokens, batch.condition)
        return {
            "bound": reconstruction + code_nats,
            "reconstruction": reconstruction,
            "code_nats": code_nats,
        }
