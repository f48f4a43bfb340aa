"""The prior of a VAE against mixtures whose numbers are known."""

from __future__ import annotations

import math

import pytest
import torch

from genpipe.draws import Draws
from genpipe.families.prior import SMALLEST, WIDEST, MixturePrior
from genpipe.families.vae import VAE, VAEConfig
from genpipe.fields import Audio, Category
from genpipe.objectives.elbo import gaussian_kl, sampled_kl
from genpipe.recipe import as_meant
from genpipe.recipes import RECIPES
from genpipe.schema import Schema
from genpipe.spec import TensorSpec
from genpipe.suited import of_people


def codes(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Class 0: two heaps at (-3, 0) and (3, 0), a quarter and three quarters; class 1: one at (0, 5)."""
    g = torch.Generator().manual_seed(seed)
    condition = torch.arange(rows) % 2
    right = torch.rand(rows, generator=g) < 0.75
    center = torch.stack([torch.where(right, 3.0, -3.0), torch.zeros(rows)], 1)
    center = torch.where(condition[:, None] == 0, center, torch.tensor([0.0, 5.0]))
    return center + 0.5 * torch.randn(rows, 2, generator=g), condition[:, None]


def fitted(rows: int, conditions: tuple[int, ...] = (2,)) -> MixturePrior:
    prior = MixturePrior(conditions, 2)
    prior.fit(*codes(rows), seed=0)
    return prior


def test_codes_are_drawn_as_they_lie() -> None:
    condition = torch.zeros(4000, 1).long()
    z = fitted(4000).draw(condition, Draws(1, total=4000))
    assert (z[:, 0] > 0).float().mean().item() == pytest.approx(0.75, abs=0.04)
    assert z[z[:, 0] > 0].mean(0).tolist() == pytest.approx([3.0, 0.0], abs=0.15)
    assert z[z[:, 0] > 0].std(0).tolist() == pytest.approx([0.5, 0.5], abs=0.15)
    other = fitted(4000).draw(condition + 1, Draws(1, total=4000))
    assert other.mean(0).tolist() == pytest.approx([0.0, 5.0], abs=0.15)


def test_a_temperature_draws_codes_nearer_to_their_means() -> None:
    """Half of the width of each Gaussian, its mean where it was; of a prior that is not fitted as well."""
    spec = TensorSpec(layout="sequence", shape=(3, 2), dtype="float32", conditions=(2,))
    family, condition = VAE(VAEConfig(latent=2, temperature=0.5), spec), torch.zeros(4000, 1).long()
    for size in (2, WIDEST + 1):  # covariances, and variances alone
        prior = MixturePrior((2,), size)
        prior.mean += 3.0
        prior.factor *= 0.8
        prior.fitted.fill_(True)
        family.latent = size
        z = family.prior({"prior": prior}, condition, Draws(1, total=4000))
        assert z.mean(0).tolist() == pytest.approx([3.0] * size, abs=0.04)
        assert z.std(0).tolist() == pytest.approx([0.4] * size, abs=0.04)
    for nets in ({}, {"prior": MixturePrior((2,), size)}):
        z = family.prior(nets, condition, Draws(2, total=4000))
        assert torch.equal(z, 0.5 * Draws(2, total=4000).normal(size))
    assert "temperature" not in VAEConfig().model_dump()


def test_the_density_is_that_of_the_draws() -> None:
    """Of unseen codes: nats near the entropy of what made them, far below those under N(0, I)."""
    z, condition = codes(2000, seed=1)
    found = -fitted(8000).log_density(z, condition).mean().item()
    heap = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.5))
    mixed = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert found == pytest.approx(heap + mixed / 2, abs=0.08)
    assert -MixturePrior((2,), 2).log_density(z, condition).mean().item() > found + 3


def test_it_is_standard_normal_until_it_is_fitted() -> None:
    prior, condition = MixturePrior((3,), 4), torch.zeros(5, 1).long()
    assert torch.equal(prior.draw(condition, Draws(2, total=5)), Draws(2, total=5).normal(4))
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    assert torch.allclose(prior.log_density(z, condition), normal, atol=1e-5)


def test_few_rows_of_a_class_lean_on_all() -> None:
    """A class of no row is drawn as all rows are; one of a single row does not repeat it."""
    z, condition = codes(2000)
    prior = MixturePrior((4,), 2)
    condition = condition.clone()
    condition[0] = 2
    z[0] = torch.tensor([50.0, 50.0])
    prior.fit(z, condition, seed=0)
    none = prior.draw(torch.full((4000, 1), 3), Draws(1, total=4000))
    assert none.mean(0).tolist() == pytest.approx(z.mean(0).tolist(), abs=0.2)
    one = prior.draw(torch.full((4000, 1), 2), Draws(1, total=4000))
    assert one.mean(0).norm() < 8 and one.std(0).min() > 1


def test_no_component_is_a_few_rows_nor_a_cluster_one_persons() -> None:
    prior = fitted(700)  # 350 of each class
    assert [(row > 0).sum().item() for row in prior.weight] == [1, 1]
    recipe = RECIPES["audio_vae"]()
    clip = Audio(name="a", rate=8_000, frames=64)
    schema = Schema(kind="audio", fields=(clip, Category(name="who")))
    assert of_people(recipe, schema) == recipe and recipe.family.prior == "clusters"
    family = of_people(recipe, schema.model_copy(update={"entity": ("who",)})).family
    assert isinstance(family, VAEConfig) and family.prior == "mixture"


def test_no_cluster_is_a_few_rows() -> None:
    """350 rows of each class: heaps are told apart, and three rows far off are no heap."""
    z, condition = codes(700)
    z[:6:2] = torch.tensor([0.0, 40.0]) + 0.01 * z[:6:2]
    prior = MixturePrior((2,), 2)
    prior.fit(z, condition, seed=0, clusters=True)
    assert (prior.weight[prior.weight > 0] * 350).min() >= SMALLEST - 0.01
    assert (prior.mean[0][prior.weight[0] > 0][:, 0] < -2.5).any()


def test_of_few_rows_voices_are_told_apart() -> None:
    """Thirty rows of each of six voices in 16 numbers: unseen rows are nearly as likely as they can be."""
    g = torch.Generator().manual_seed(0)
    voices = 4 * torch.randn(6, 16, generator=g)
    z, unseen = (voices[torch.arange(n) % 6] + torch.randn(n, 16, generator=g) for n in (180, 600))
    prior, none = MixturePrior((), 16), torch.zeros(600, 0).long()
    prior.fit(z, none[:180], seed=0, clusters=True)
    truth = -0.5 * 16 * (math.log(2 * math.pi) + 1) - math.log(6)
    assert prior.log_density(unseen, none).mean().item() > truth - 2.5


def test_wide_codes_keep_variances_alone_and_many_classes_share_a_prior() -> None:
    wide = MixturePrior((2,), WIDEST + 1)
    g = torch.Generator().manual_seed(0)
    z = torch.randn(900, WIDEST + 1, generator=g) * 2
    wide.fit(z, torch.arange(900)[:, None] % 2, seed=0)
    assert wide.factor.dim() == 3
    drawn = wide.draw(torch.zeros(2000, 1).long(), Draws(0, total=2000))
    assert drawn.std().item() == pytest.approx(2.0, abs=0.1)
    assert len(MixturePrior((1000, 1000), 4).weight) == 1


def test_the_sampled_divergence_is_the_closed_one_on_average() -> None:
    mean, log_variance = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.3, -0.4]])
    g = torch.Generator().manual_seed(0)
    z = mean + (0.5 * log_variance).exp() * torch.randn(200_000, 2, generator=g)
    log_prior = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    found = sampled_kl(z, mean, log_variance, log_prior)
    assert found.item() == pytest.approx(gaussian_kl(mean, log_variance).item(), abs=0.01)


def test_a_bundle_of_before_means_what_it_meant() -> None:
    old = {"name": "x", "family": {"family": "vae", "latent": 4}}
    assert as_meant(old)["family"] == {"family": "vae", "latent": 4, "prior": "normal", "width_rate": 1.0}
    new = {"name": "x", "family": {"family": "vae", "prior": "mixture", "width_rate": 8.0}}
    assert as_meant(new) == new
    family = VAE(VAEConfig(latent=4), TensorSpec(layout="sequence", shape=(3, 2), dtype="float32"))
    nets = {role: net for role, net in family.build().items() if role != "prior"}
    drawn = family.prior(nets, torch.zeros(5, 0).long(), Draws(0, total=5))
    assert torch.equal(drawn, Draws(0, total=5).normal(4))


def test_few_rows_of_wide_codes_keep_the_normal_prior() -> None:
    """300 codes of 32 independent numbers: a covariance of theirs would cost unseen ones more."""
    g = torch.Generator().manual_seed(0)
    z, unseen = torch.randn(300, 32, generator=g), torch.randn(4000, 32, generator=g)
    prior, condition = MixturePrior((3,), 32), torch.arange(4000)[:, None] % 3
    before = prior.log_density(unseen, condition).mean().item()
    prior.fit(z, condition[:300], seed=0)
    assert prior.log_density(unseen, condition).mean().item() > before - 0.3


def test_the_width_moves_by_its_rate() -> None:
    """The stored number times the rate is the logarithm: -1 at first, whatever the rate."""
    spec = TensorSpec(layout="sequence", shape=(3, 2), dtype="float32")
    for rate in (1.0, 8.0):
        family = VAE(VAEConfig(latent=4, width_rate=rate), spec)
        nets = family.build()
        assert family._log_scale(nets).tolist() == pytest.approx([-1.0, -1.0])
        assert nets["decoder"].log_scale.tolist() == pytest.approx([-1.0 / rate] * 2)
