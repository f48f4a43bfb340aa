"""The evidence lower bound and the samples of the VAE against numbers worked out by hand.

One row of one value x = .5 and a class. The encoder says mean x and log-variance 2 ln 2 (σ = 2), the draw is
.25, so z = .5 + 2 * .25 = 1. The decoder says z / 4 = .25 (class 0) or z / 4 + ¼ (class 1), of width 1:

    reconstruction  ½ (.5 - .25)² + ½ ln 2π  =  .03125 + .918939
    KL              ½ (.5² + 2² - 1 - 2 ln 2)  =  .931853
"""

from __future__ import annotations

from math import exp, log, pi
from typing import Any

import pytest
import torch
from told import Given, Told

from genpipe.batch import Batch
from genpipe.families.vae import VAE, VAEConfig
from genpipe.spec import Span, TensorSpec

VALUE = Span(name="x", start=0, size=1, kind="continuous")
SPEC = TensorSpec(layout="vector", shape=(1,), dtype="float32", spans=(VALUE,), conditions=(2,))
ROW = Batch(torch.tensor([[0.5]]), torch.tensor([[0]]))
RECONSTRUCTION = 0.03125 + 0.5 * log(2 * pi)
KL = 0.5 * (0.25 + 4 - 1 - 2 * log(2))


def nets(*, log_scale: float = 0.0, log_variance: float = 2 * log(2)) -> dict[str, Given]:
    return {
        "encoder": Given(lambda x, c: torch.cat([x, torch.full_like(x, log_variance)], 1)),
        "decoder": Given(lambda z, c: torch.atanh(0.25 * z + 0.25 * c[:, 1:2]), log_scale=log_scale),
    }


def model(**config: Any) -> VAE:
    return VAE(VAEConfig(latent=1, width_rate=1.0, **config), SPEC)


def numbers(found: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in found.items()}


@pytest.mark.parametrize("beta", [1.0, 3.0, 0.25])
def test_the_divergence_weighs_beta(beta: float) -> None:
    found = numbers(model(beta=beta).loss("elbo", nets(), ROW, Told(normal=[[[0.25]]])))
    assert found == pytest.approx({"reconstruction": RECONSTRUCTION, "kl": beta * KL}, rel=1e-5)


def test_the_decoder_is_told_the_class() -> None:
    """Class 1: the decoder says .5, just the value."""
    row = Batch(ROW.x, torch.tensor([[1]]))
    found = numbers(model().loss("elbo", nets(), row, Told(normal=[[[0.25]]])))
    assert found == pytest.approx({"reconstruction": 0.5 * log(2 * pi), "kl": KL}, rel=1e-5)


def test_the_bound_of_the_holdout_has_beta_one() -> None:
    found = numbers(model(beta=3.0).holdout_loss(nets(), ROW, Told(normal=[[[0.25]]])))
    expected = {"bound": RECONSTRUCTION + KL, "reconstruction": RECONSTRUCTION, "kl": KL}
    assert found == pytest.approx(expected, rel=1e-5)


def test_an_autoencoder_has_one_code_a_row_and_a_penalty_on_it() -> None:
    """z = x = .5 and no draw: the decoder says .125, ½ (.5 - .125)² = .0703125; ½ β z² = .125 β. Of a holdout
    too: β belongs to what is monitored, as there is no bound.
    """
    family = model(posterior="deterministic", beta=3.0)
    expected = {"reconstruction": 0.0703125 + 0.5 * log(2 * pi), "penalty": 3 * 0.125}
    rng = Told(normal=[[[9.0]]])
    assert numbers(family.loss("elbo", nets(), ROW, rng)) == pytest.approx(expected, rel=1e-5)
    found = numbers(family.holdout_loss(nets(), ROW, rng))
    assert found == pytest.approx({"loss": sum(expected.values()), **expected}, rel=1e-5)
    assert tuple(found) == family.metrics != VAE.metrics


def test_the_latent_is_drawn_and_not_the_mean() -> None:
    """A draw of -.25 in place of .25: z = 0, the decoder says 0, ½ .5² = .125."""
    found = numbers(model().loss("elbo", nets(), ROW, Told(normal=[[[-0.25]]])))
    assert found["reconstruction"] == pytest.approx(0.125 + 0.5 * log(2 * pi), rel=1e-5)


def test_the_width_of_values_is_learnt() -> None:
    """σ = ½: ½ (.25 / .5)² - ln 2 + ½ ln 2π."""
    found = numbers(model().loss("elbo", nets(log_scale=-log(2)), ROW, Told(normal=[[[0.25]]])))
    assert found["reconstruction"] == pytest.approx(0.125 - log(2) + 0.5 * log(2 * pi), rel=1e-5)


def test_no_variance_is_beyond_e_to_the_ten() -> None:
    found = numbers(model().loss("elbo", nets(log_variance=99.0), ROW, Told(normal=[[[0.0]]])))
    assert found["kl"] == pytest.approx(0.5 * (0.25 + exp(10) - 1 - 10), rel=1e-5)


def test_a_sample_is_the_decoders_value_with_noise_of_its_width() -> None:
    """z = 1 and noise -1 of width ¼: .25 - .25 = 0, for class 1 .5 - .25; and nothing beyond 1."""
    decoder = nets(log_scale=-log(4))
    for asked, noise, value in ((0, -1.0, 0.0), (1, -1.0, 0.25), (1, 3.0, 1.0)):
        told = Told(normal=[[[1.0]], [[noise]]])
        x = model().sample(decoder, torch.tensor([[asked]]), told)
        assert x.item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("layout", "shape", "noise", "value"),
    [("sequence", (1, 1), [[[[-1.0]]]], 0.0), ("grid", (1, 1, 1), [], 0.25)],
)
def test_samples_of_a_series_have_noise_and_those_of_a_picture_are_its_mean(
    layout: str, shape: tuple[int, ...], noise: list, value: float
) -> None:
    spec = TensorSpec.model_validate({"layout": layout, "shape": shape, "dtype": "float32"})
    decoder = {"decoder": Given(lambda z, c: torch.atanh(0.25 * z).view(1, *shape), log_scale=-log(4))}
    told = Told(normal=[[[1.0]], *noise])
    x = VAE(VAEConfig(latent=1, width_rate=1.0), spec).sample(decoder, torch.zeros(1, 0).long(), told)
    assert x.flatten().tolist() == pytest.approx([value], abs=1e-6)


def test_a_black_and_white_picture_is_scored_as_bernoulli() -> None:
    """Pixels 1 (white) and -1 (black) are 1 and 0; a raw ½ is a logit of 1: ln(1 + e⁻¹) + ln(1 + e)."""
    spec = TensorSpec(layout="grid", shape=(1, 1, 2), dtype="float32")
    row = Batch(torch.tensor([[[[1.0, -1.0]]]]), torch.zeros(1, 0).long())
    both = {
        "encoder": Given(lambda x, c: torch.zeros(1, 2)),
        "decoder": Given(lambda z, c: torch.full((1, 1, 1, 2), 0.5)),
    }
    family = VAE(VAEConfig(latent=1, likelihood="bernoulli"), spec)
    found = numbers(family.loss("elbo", both, row, Told(normal=[[[0.0]]])))
    expected = {"reconstruction": log(1 + exp(-1)) + log(1 + exp(1)), "kl": 0.0}
    assert found == pytest.approx(expected, rel=1e-5)


def mixed() -> tuple[VAE, Batch]:
    """A value and a choice of two whose logits are 0 and ln 3: shares ¼ and ¾."""
    spans = (VALUE, Span(name="y", start=1, size=2, kind="categorical"))
    spec = TensorSpec(layout="vector", shape=(3,), dtype="float32", spans=spans)
    return VAE(VAEConfig(latent=1, width_rate=1.0), spec), Batch(
        torch.tensor([[0.5, 0.0, 1.0]]), torch.zeros(1, 0).long()
    )


MIXED = {
    "encoder": Given(lambda x, c: torch.zeros(1, 2)),
    "decoder": Given(lambda z, c: torch.tensor([[0.0, 0.0, log(3)]]), log_scale=-log(4)),
}


def test_a_row_of_values_and_choices_adds_both_up() -> None:
    """½ (.5 / .25)² - ln 4 + ½ ln 2π of the value, ln 4/3 of the option of share ¾."""
    family, row = mixed()
    found = numbers(family.loss("elbo", MIXED, row, Told(normal=[[[0.0]]])))
    expected = 2.0 - log(4) + 0.5 * log(2 * pi) + log(4 / 3)
    assert found == pytest.approx({"reconstruction": expected, "kl": 0.0}, rel=1e-5)


def test_samples_of_a_table_draw_choices_and_add_noise_to_values_alone() -> None:
    """Uniform .5 twice leaves the likelier option; uniform .99 for the other outweighs ln 3."""
    family, _ = mixed()
    for first, option in ((0.5, 2), (0.99, 1)):
        told = Told(normal=[[[0.0]], [[2.0]]], uniform=[[[0.5, first, 0.5]]])
        x = family.sample(MIXED, torch.zeros(1, 0).long(), told)[0].tolist()
        assert x[0] == pytest.approx(0.5) and x[option] == 1.0 and sum(x[1:]) == 1.0
