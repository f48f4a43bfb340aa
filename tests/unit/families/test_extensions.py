"""What a family or network may say of itself: two learning rates, codes of rows, a decoder that is taught."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.families import FAMILIES
from genpipe.families.base import Latent
from genpipe.families.gan import GAN, GANConfig
from genpipe.families.vae import VAE, VAEConfig
from genpipe.networks import NETWORKS
from genpipe.networks.base import NetworkConfig
from genpipe.recipe import Recipe
from genpipe.recipes import parse_recipe
from genpipe.spec import TensorSpec

SERIES = TensorSpec(layout="sequence", shape=(5, 2), dtype="float32", conditions=(2,))
ROWS = 4


def batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    return Batch(torch.rand(ROWS, 5, 2, generator=g) - 0.5, torch.zeros(ROWS, 1, dtype=torch.long))


def test_the_critic_may_learn_faster_and_recipes_without_that_are_written_as_before() -> None:
    family = GAN(GANConfig(critic_rate=4.0, penalty_every=2), SERIES)
    assert {p.name: p.rate for p in family.phases} == {"critic": 4.0, "penalty": 4.0, "generator": 1.0}
    recipe = parse_recipe({"base": "series_gan", "family": {"critic_rate": 2.0}}, "series")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe.model_dump()["family"]["critic_rate"] == 2.0
    assert "critic_rate" not in parse_recipe("series_gan", "series").model_dump(mode="json")["family"]


def test_a_vae_has_codes_and_a_gan_has_none() -> None:
    vae = VAE(VAEConfig(latent=3), SERIES)
    assert isinstance(vae, Latent) and not isinstance(GAN(GANConfig(), SERIES), Latent)
    assert vae.publishes == ("encoder", "decoder", "prior")


class TaughtConfig(NetworkConfig):
    network: Literal["taught"] = "taught"


class TaughtDecoder(nn.Module):
    """Predicts a step from z and the step before: the true one if it is handed x, else its own."""

    takes_x = True

    def __init__(self, spec: TensorSpec, latent: int) -> None:
        super().__init__()
        self.steps, channels = spec.shape
        self.cell = nn.GRUCell(channels + latent + sum(spec.conditions), 8)
        self.out = nn.Linear(8, channels)

    def forward(self, z: Tensor, c: Tensor, x: Tensor | None = None) -> Tensor:
        state, before, made = z.new_zeros(len(z), 8), z.new_zeros(len(z), self.out.out_features), []
        for t in range(self.steps):
            state = self.cell(torch.cat([before, z, c], 1), state)
            made.append(self.out(state))
            before = torch.tanh(made[-1]) if x is None else x[:, t]
        return torch.stack(made, 1)


class Taught:
    Config: ClassVar[type[Any]] = TaughtConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"sequence"})
    roles: ClassVar[frozenset[str]] = frozenset({"decoder"})

    @staticmethod
    def build(role: str, spec: TensorSpec, config: Any, *, latent: int = 0) -> nn.Module:
        return TaughtDecoder(spec, latent)


def test_a_decoder_that_takes_x_is_taught_and_samples_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(NETWORKS, "taught", Taught)
    config = FAMILIES["vae"].Config(latent=3, decoder={"network": "taught"})
    family, seen = VAE(config, SERIES), []
    torch.manual_seed(0)
    nets = family.build()
    forward = TaughtDecoder.forward

    def spied(self: TaughtDecoder, z: Tensor, c: Tensor, x: Tensor | None = None) -> Tensor:
        seen.append(x)
        return forward(self, z, c, x)

    monkeypatch.setattr(TaughtDecoder, "forward", spied)
    made = batch()
    family.loss("elbo", nets, made, Draws(1, total=ROWS))["reconstruction"].backward()
    assert seen[-1] is made.x
    assert family.sample(nets, made.condition, Draws(1, total=ROWS)).shape == (ROWS, 5, 2)
    assert seen[-1] is None


def test_a_decoder_that_does_not_ask_for_x_never_sees_it() -> None:
    class Plain(nn.Module):
        log_scale = torch.zeros(1)

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return z.new_zeros(len(z), 5, 2)

    family = VAE(VAEConfig(latent=3), SERIES)
    assert not family.build()["decoder"].takes_x
    nets = {**family.build(), "decoder": Plain()}
    assert family.loss("elbo", nets, batch(), Draws(1, total=ROWS))["reconstruction"] > 0
