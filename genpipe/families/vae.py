"""Variational autoencoders (Kingma & Welling 2014), conditional (Sohn et al. 2015), β-weighted (Higgins et
al. 2017).

What the decoder predicts: values by a Gaussian of learnt width (σ-VAE, Rybkin et al. 2021; TVAE, Xu et al.
2019), choices of a table by their cross-entropy, pixels optionally as Bernoulli. All terms are nats per row.

With a deterministic posterior it is an autoencoder: one code a row, no noise, and a penalty on the squares
of codes in the place of the divergence (RAE: Ghosh et al. 2020, "From variational to deterministic
autoencoders", section 3, arXiv:1903.12436). Its penalty of weights is `training.l2`, and the mixture prior
makes it a generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from genpipe.batch import Batch, one_hot
from genpipe.draws import Draws
from genpipe.families import calibrate
from genpipe.families.base import FamilyConfig, Nets, Phase
from genpipe.families.prior import MixturePrior
from genpipe.networks import AnyNetwork, build_network
from genpipe.networks.head import Head, gumbel
from genpipe.networks.mlp import MLPConfig
from genpipe.objectives import elbo, likelihood
from genpipe.spec import TensorSpec

FEWEST, MOST_VALUES, CHUNK = 2000, 2**26, 1024  # of rows that the prior is fitted to


class VAEConfig(FamilyConfig):
    """posterior: gaussian, or deterministic: an autoencoder. beta: weight of the KL term, or of half the
    squares of a code. likelihood: of values; bernoulli is for images between black and white.

    prior: of codes. mixture: after training, Gaussians are fitted to the codes of training rows, class by
    class (prior.py); clusters: also of ten rows each, as few rows of several voices need; it is mixture where
    people have several rows each; normal: N(0, I), as in the papers. temperature: factor of how far a drawn
    code lies from the mean of its Gaussian. A Gaussian reaches further than codes do, to where a decoder has
    learnt nothing; below 1 fewer rows are lost there (truncation: Brock et al. 2019, "Large scale GAN
    training", section 3.1, arXiv:1809.11096). width_rate: factor of the learning rate of the logarithm of
    the width of values. One number moves far slower than a network does.
    """

    family: Literal["vae"] = "vae"
    posterior: Literal["gaussian", "deterministic"] = Field(
        default="gaussian", exclude_if=lambda posterior: posterior == "gaussian"
    )
    beta: float = Field(
        default=1.0, gt=0, le=1e6, json_schema_extra={"search": {"low": 0.2, "high": 2.0, "log": True}}
    )
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    prior: Literal["mixture", "clusters", "normal"] = "mixture"
    temperature: float = Field(default=1.0, gt=0, le=100, exclude_if=lambda factor: factor == 1.0)
    width_rate: float = Field(default=8.0, gt=0, le=1000)
    latent: int = Field(default=32, ge=1, le=16_384, json_schema_extra={"search": {"choices": [16, 32, 64]}})
    encoder: AnyNetwork = MLPConfig()
    decoder: AnyNetwork = MLPConfig()


class Decoder(nn.Module):
    """A network and the learnt log-width of the values it predicts, divided by `width_rate`: one a column
    or channel. Adam moves every number by about the learning rate a step, this one `width_rate` times as far.

    x: what is to be predicted, for a network that takes it while training (`networks/base.py`).
    """

    def __init__(self, net: nn.Module, scales: tuple[int, ...], width_rate: float) -> None:
        super().__init__()
        self.net, self.log_scale = net, nn.Parameter(torch.full(scales, -1.0 / width_rate))
        self.takes_x = bool(getattr(net, "takes_x", False))

    @property
    def bias(self) -> Tensor:
        return cast(Tensor, self.net.bias)

    def forward(self, z: Tensor, c: Tensor, x: Tensor | None = None) -> Tensor:
        raw: Tensor = self.net(z, c) if x is None else self.net(z, c, x)
        return raw


class VAE:
    Config: ClassVar[type[Any]] = VAEConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"vector", "grid", "sequence"})
    network_roles: ClassVar[Mapping[str, str]] = {"encoder": "encoder", "decoder": "decoder"}
    roles: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "prior")
    sample_roles: ClassVar[tuple[str, ...]] = ("decoder",)
    publishes: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "prior")
    metrics: ClassVar[tuple[str, ...]] = ("bound", "reconstruction", "kl")
    has_temperature: ClassVar[bool] = True
    takes_observed = "none"
    phases: tuple[Phase, ...] = (Phase("elbo", ("encoder", "decoder")),)

    def __init__(self, config: VAEConfig, spec: TensorSpec) -> None:
        self.config, self.spec, self.head, self.latent = config, spec, Head(spec), config.latent
        self.plain = config.posterior == "deterministic"
        if self.plain:  # no bound: that its codes are likely says nothing of the data
            self.metrics = ("loss", "reconstruction", "penalty")  # type: ignore[misc]

    def build(self) -> dict[str, nn.Module]:
        config, spec = self.config, self.spec
        scales = {
            "vector": (len(self.head.continuous),),
            "grid": (spec.shape[0], 1, 1),
            "sequence": (spec.shape[-1],),
        }
        net = build_network("decoder", spec, config.decoder, latent=config.latent)
        return {
            "encoder": build_network("encoder", spec, config.encoder, latent=config.latent),
            "decoder": Decoder(
                net, (1,) if config.likelihood == "bernoulli" else scales[spec.layout], config.width_rate
            ),
            "prior": MixturePrior(spec.conditions, config.latent),
        }

    def _log_scale(self, nets: Nets) -> Tensor:
        return self.config.width_rate * cast(Tensor, nets["decoder"].log_scale)

    def _posterior(self, nets: Nets, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x, c), (B, Z) each. c: one-hot."""
        mean, log_variance = nets["encoder"](x, c).chunk(2, 1)
        return mean, log_variance.clamp(-10, 10)

    def _terms(self, nets: Nets, batch: Batch, rng: Draws, *, beta: float) -> dict[str, Tensor]:
        c = one_hot(batch.condition, self.spec.conditions)
        mean, log_variance = self._posterior(nets, batch.x, c)
        z = mean if self.plain else _drawn(mean, log_variance, rng.normal(self.latent))
        decoder = nets["decoder"]
        raw = decoder(z, c, batch.x) if getattr(decoder, "takes_x", False) else decoder(z, c)
        reconstruction = self._reconstruction(batch.x, raw, self._log_scale(nets))
        if self.plain:
            return {"reconstruction": reconstruction, "penalty": beta * 0.5 * z.square().sum(1).mean()}
        prior = cast(MixturePrior | None, nets.get("prior"))
        if prior is not None and prior.fitted:  # after training alone
            kl = elbo.sampled_kl(z, mean, log_variance, prior.log_density(z, batch.condition))
        else:
            kl = elbo.gaussian_kl(mean, log_variance)
        return {"reconstruction": reconstruction, "kl": beta * kl}

    def _reconstruction(self, x: Tensor, raw: Tensor, log_scale: Tensor) -> Tensor:
        if self.config.likelihood == "bernoulli" and self.spec.layout == "grid":
            return likelihood.bernoulli((x + 1) / 2, 2 * raw)  # σ(2r) = (tanh(r) + 1) / 2
        if not self.head.groups:
            return likelihood.gaussian(x, torch.tanh(raw), log_scale)
        head = self.head.to(raw.device)
        targets, logits = head.padded(x, missing=0.0), head.padded(raw, missing=-torch.inf)
        nll = likelihood.gaussian(x[:, head.continuous], torch.tanh(raw[:, head.continuous]), log_scale)
        return nll + sum(likelihood.choices(t, y) for t, y in zip(targets, logits, strict=True))

    def loss(self, phase: str, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        return self._terms(nets, batch, rng, beta=self.config.beta)

    def sample(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        return self.decode(nets, self.prior(nets, condition, rng), condition, rng)

    @torch.no_grad()
    def prior(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        """Standard normal where nothing is fitted, as in bundles of an earlier version."""
        if "prior" not in nets:
            return rng.normal(self.latent) * self.config.temperature
        return cast(MixturePrior, nets["prior"]).draw(condition, rng, self.config.temperature)

    @torch.no_grad()
    def encode(self, nets: Nets, batch: Batch) -> Tensor:
        return self._posterior(nets, batch.x, one_hot(batch.condition, self.spec.conditions))[0]

    @torch.no_grad()
    def decode(self, nets: Nets, z: Tensor, condition: Tensor, rng: Draws) -> Tensor:
        """Tables and series get the predicted noise too; images show their mean, as is usual."""
        raw = nets["decoder"](z, one_hot(condition, self.spec.conditions))
        if self.spec.layout == "grid":
            return torch.tanh(raw)
        head = self.head.to(raw.device)
        scale = self._log_scale(nets).clamp_min(likelihood.MIN_LOG_SCALE).exp()
        if not head.groups:
            return (torch.tanh(raw) + scale * rng.normal(*self.spec.shape)).clamp(-1, 1)
        x = head.harden(head(raw, gumbel(rng.uniform(*self.spec.shape))))
        noise = scale * rng.normal(len(head.continuous))
        x[:, head.continuous] = (x[:, head.continuous] + noise).clamp(-1, 1)
        return x

    def finish_rows(self, rows: int) -> int:
        if self.config.prior == "normal":
            return min(rows, calibrate.ROWS) if self.head.groups else 0
        return min(rows, calibrate.ROWS, max(FEWEST, MOST_VALUES // math.prod(self.spec.shape)))

    @torch.no_grad()
    def finish(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """The prior to the codes of training rows, then a table's choices in the shares of these."""
        if self.config.prior != "normal":
            prior, codes = cast(MixturePrior, nets["prior"]), []
            c = one_hot(batch.condition, self.spec.conditions)
            for x, classes in zip(batch.x.split(CHUNK), c.split(CHUNK), strict=True):
                codes.append(self._posterior(nets, x, classes))
            mean, log_variance = (torch.cat(parts) for parts in zip(*codes, strict=True))
            drawn = mean if self.plain else _drawn(mean, log_variance, rng.normal(self.latent))
            clusters = self.config.prior == "clusters"
            prior.fit(drawn, batch.condition, int(rng.shared() * 2**31), clusters=clusters)
        if self.head.groups:
            decoder = nets["decoder"]
            z = self.prior(nets, batch.condition, rng)
            raw = decoder(z, one_hot(batch.condition, self.spec.conditions))
            calibrate.calibrate(self.head.to(raw.device), cast(Tensor, decoder.bias), raw, batch.x)

    @torch.no_grad()
    def holdout_loss(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """The bound at β = 1, in nats per row; with the prior that is drawn from, once it is fitted. Of an
        autoencoder the loss.
        """
        terms = self._terms(nets, batch, rng, beta=self.config.beta if self.plain else 1.0)
        return {self.metrics[0]: torch.stack(list(terms.values())).sum(), **terms}


def _drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A code of each row's posterior. All (B, Z)."""
    return mean + (0.5 * log_variance).exp() * noise
