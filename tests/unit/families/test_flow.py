"""Flow matching by value: the Gaussian it starts from, and what a network that corrects nothing samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genpipe.batch import Batch, one_hot
from genpipe.draws import Draws
from genpipe.families.base import Latent, Prepared
from genpipe.families.flow import Flow, FlowConfig, Velocity
from genpipe.families.gaussian import LEAST, Gaussian
from genpipe.recipe import Training
from genpipe.spec import TensorSpec
from genpipe.training.data import Resident
from genpipe.training.distributed import ALONE
from genpipe.training.loop import Hooks, play

SPEC = TensorSpec(layout="sequence", shape=(3, 1), dtype="float32", conditions=(2,))
ROWS = 4000


def two_classes(rows: int = ROWS) -> Batch:
    """Class 0 around .4, spread .1, .1 and .001; class 1 around -.4, spread .3, .1 and .001; a row's numbers
    are mixed, so that no variance lies along one of them.
    """
    g = torch.Generator().manual_seed(3)
    condition = (torch.arange(rows) % 2).unsqueeze(1)
    spread = torch.tensor([[0.1, 0.1, 0.001], [0.3, 0.1, 0.001]])[condition[:, 0]]
    turn = torch.linalg.qr(torch.randn(3, 3, generator=g))[0]
    x = 0.4 - 0.8 * condition + (spread * torch.randn(rows, 3, generator=g)) @ turn
    return Batch(x.unsqueeze(2), condition)


def corrects(amount: float) -> nn.Module:
    """A network that says `amount` everywhere, where a condition is given, and nothing where it is not."""

    class Net(nn.Module):
        def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
            return torch.ones_like(x) * amount * c.sum(1).view(-1, 1, 1)

    return Net()


def fitted(amount: float = 0.0, **config: Any) -> tuple[Flow, dict[str, nn.Module], Batch]:
    family, batch = Flow(FlowConfig(**config), SPEC), two_classes()
    nets: dict[str, nn.Module] = {"velocity": Velocity(corrects(amount), Gaussian(3, (2,)))}
    family.begin(nets, batch, Draws(0, total=ROWS))
    return family, nets, batch


def test_the_velocity_of_one_number_is_that_of_its_normal_distribution() -> None:
    """Mean 2, variance 4, halfway at x = 3: q = 4/4 + 1/4, x and data - noise have (4 - 1)/2 together, x is
    3 - 1 off its mean, so 2 + 1.5/1.25 · 2 = 4.4; 4/1.25 of variance is left.
    """
    gaussian = Gaussian(1, ())
    gaussian.means.fill_(2.0)
    gaussian.directions.fill_(1.0)
    gaussian.variances.fill_(4.0)
    velocity, scale = gaussian.velocity(torch.tensor([[3.0]]), torch.tensor([0.5]), torch.zeros(1, 0))
    assert velocity.item() == pytest.approx(4.4) and scale.item() == pytest.approx((4 / 1.25) ** 0.5)
    # from noise to data a number off the mean grows from 1 to the standard deviation
    assert gaussian.moved(torch.tensor([[1.5]]), 0.0, 1.0, torch.zeros(1, 0)).item() == pytest.approx(5.0)


def test_the_exact_way_has_the_velocity_as_its_slope() -> None:
    _, nets, batch = fitted()
    gaussian: Any = nets["velocity"].gaussian
    x, c = torch.randn(8, 3), one_hot(batch.condition[:8], (2,))
    velocity, _ = gaussian.velocity(x, torch.full((8,), 0.4), c)
    slope = (gaussian.moved(x, 0.4, 0.401, c) - x) / 0.001
    torch.testing.assert_close(slope, velocity, atol=0.01, rtol=0.01)


def test_each_class_has_its_own_mean_and_covariance_and_no_class_those_of_all() -> None:
    _, nets, batch = fitted()
    gaussian: Any = nets["velocity"].gaussian
    x = batch.x.flatten(1)
    for cell, rows in enumerate([x, x[0::2], x[1::2]]):
        axes = gaussian.directions @ gaussian.axes[cell]
        found = axes @ torch.diag(gaussian.variances[cell]) @ axes.T
        torch.testing.assert_close(gaussian.means[cell], rows.mean(0), atol=0.01, rtol=0)
        torch.testing.assert_close(found, torch.cov(rows.T), atol=0.002, rtol=0)
    assert gaussian.cells(torch.tensor([[0.0, 0.0], [1, 0], [0, 1]])).tolist() == [0, 1, 2]


def test_what_lies_outside_of_the_directions_has_one_variance() -> None:
    """40 rows of 30 numbers are enough for two directions."""
    x = 0.5 * torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    gaussian = Gaussian(30, ())
    gaussian.fit(x, torch.zeros(40, 0), seed=1)
    assert gaussian.directions.any(0).sum() == 2
    total = gaussian.variances[0].sum()  # every idle direction has the variance of what is outside
    assert total == pytest.approx((x - x.mean(0)).square().sum().item() / 40, rel=0.01)
    assert gaussian.variances[0, :28] == pytest.approx(gaussian.rest.item(), rel=1e-3)
    assert Gaussian(30, (2,)).rest.min() > LEAST


def test_without_a_correction_samples_are_the_gaussian_in_any_number_of_steps() -> None:
    """`exact` keeps differences of .001, and what a class leans on all; Euler's steps drop them."""
    for solver, low, high in (("exact", 0.001, 0.006), ("euler", 0.0, 0.0002)):
        family, nets, batch = fitted(solver=solver, steps=2)
        x = family.sample(nets, batch.condition, Draws(1, total=ROWS)).flatten(1)
        assert (x[0::2].mean() - 0.4).abs() < 0.02 and (x[1::2].mean() + 0.4).abs() < 0.02
        least = torch.linalg.eigvalsh(torch.cov(x[0::2].T))[0].sqrt().item()
        assert low <= least < high


def test_the_loss_of_a_gaussian_that_fits_is_one() -> None:
    family, nets, batch = fitted()
    terms = family.holdout_loss(nets, batch, Draws(2, total=ROWS))
    assert terms["matching"].item() == pytest.approx(1.0, abs=0.05)
    assert family.loss("matching", nets, batch, Draws(2, total=ROWS))["matching"] > 0.9


@pytest.mark.parametrize(("guidance", "further"), [(1.0, 1.0), (0.0, 0.0), (2.0, 2.0)])
def test_guidance_goes_from_the_unconditional_velocity_through_the_conditional(
    guidance: float, further: float
) -> None:
    """From noise 0 at time 0, where a Gaussian's velocity is its mean: .4 with the class, 0 of both."""
    family, nets, _ = fitted(amount=0.5, guidance=guidance, steps=1)
    x = family.decode(nets, torch.zeros(1, 3), torch.tensor([[0]]), Draws(0, total=1))
    scale = (0.1**2 + 0.1**2 + 0.001**2) / 3
    assert x.flatten().tolist() == pytest.approx([further * (0.4 + 0.5 * scale**0.5)] * 3, abs=0.03)


@pytest.mark.parametrize("solver", ["exact", "euler"])
def test_a_row_is_decoded_from_its_code(solver: str) -> None:
    """Euler's last step drops what is small, so no noise has it."""
    family, nets, batch = fitted(amount=0.3, solver=solver)
    assert isinstance(family, Latent) and isinstance(family, Prepared)
    few = Batch(batch.x[:64], batch.condition[:64])
    again = family.decode(nets, family.encode(nets, few), few.condition, Draws(0, total=64))
    torch.testing.assert_close(again, few.x, atol=1e-4 if solver == "exact" else 0.05, rtol=0)


def test_codes_of_rows_are_normal_where_the_gaussian_fits() -> None:
    family, nets, batch = fitted(solver="exact")
    codes = family.encode(nets, batch)
    assert codes.std() == pytest.approx(1.0, abs=0.1) and codes.mean().abs() < 0.1


def test_a_run_begins_with_the_gaussian_of_its_training_rows() -> None:
    batch = two_classes(400)
    arrays = {"x": batch.x.numpy(), "condition": batch.condition.numpy().astype(np.int32)}
    family = Flow(FlowConfig.model_validate({"velocity": {"network": "unet", "width": 8}}), SPEC)
    training = Training(steps=2, batch_size=8, ema=0.9)
    with torch.random.fork_rng(devices=[]):
        found = play(family, training, SPEC, Resident(arrays, seed=0), 0, ALONE, "cpu", None, Hooks())
    means = found.weights["velocity.gaussian.means"]
    assert means[1].mean() > 0.3 and means[2].mean() < -0.2


def test_the_rows_the_gaussian_is_fitted_to_fit_memory() -> None:
    family = Flow(FlowConfig(), TensorSpec(layout="grid", shape=(3, 256, 256), dtype="uint8"))
    assert family.begin_rows(10**9) == 256 and family.begin_rows(10) == 10
