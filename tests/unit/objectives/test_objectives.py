"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from genpipe.objectives import ADVERSARIAL, PENALTIES, elbo, likelihood

LN2, SP1 = math.log(2), math.log1p(math.e)  # softplus(0), softplus(1)
REAL, FAKE = torch.tensor([0.0, 2.0]), torch.tensor([0.0, -1.0])
SP_2 = math.log1p(math.exp(-2))
SP_1 = math.log1p(math.exp(-1))

SP_3 = math.log1p(math.exp(-3))

# name: critic(REAL, FAKE), generator(FAKE), or of both
EXPECTED = {
    "bce": ((LN2 + SP_2) / 2 + (LN2 + SP_1) / 2, -(LN2 + SP_1) / 2),
    "non_saturating": ((LN2 + SP_2) / 2 + (LN2 + SP_1) / 2, (LN2 + SP1) / 2),
    "least_squares": (0.5 * ((1 + 1) / 2 + (0 + 1) / 2), 0.5 * (1 + 4) / 2),
    "hinge": ((1 + 0) / 2 + (1 + 0) / 2, 0.5),
    "wasserstein": (-0.5 - 1.0, 0.5),
    "relativistic": ((LN2 + SP_3) / 2, (LN2 + 3 + SP_3) / 2),  # differences 0 and 3
}


def generator_loss(name: str, fake: torch.Tensor) -> torch.Tensor:
    loss = ADVERSARIAL[name]
    return loss.generator(REAL, fake) if loss.sees_real else loss.generator(fake)


def test_every_loss_has_hand_computed_values() -> None:
    assert set(EXPECTED) == set(ADVERSARIAL)


@pytest.mark.parametrize("name", EXPECTED)
def test_adversarial_values(name: str) -> None:
    critic, generator = EXPECTED[name]
    assert ADVERSARIAL[name].critic(REAL, FAKE).item() == pytest.approx(critic, abs=1e-6)
    assert generator_loss(name, FAKE).item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_both_sides_improve_in_their_own_direction(name: str) -> None:
    loss = ADVERSARIAL[name]
    assert loss.critic(REAL + 0.5, FAKE - 0.5) < loss.critic(REAL, FAKE) + 1e-6 or name == "least_squares"
    assert generator_loss(name, FAKE + 0.5) < generator_loss(name, FAKE)


def test_penalties_of_a_linear_critic() -> None:
    # the gradient of 3a + 4b is (3, 4) everywhere, its norm 5
    critic = lambda x: x @ torch.tensor([3.0, 4.0])  # noqa: E731
    real, fake, mix = torch.randn(6, 2), torch.randn(6, 2), torch.rand(6)
    assert PENALTIES["gradient_penalty"](critic, real, fake, mix).item() == pytest.approx(16.0, rel=1e-5)
    assert PENALTIES["r1"](critic, real, fake, mix).item() == pytest.approx(12.5, rel=1e-5)
    assert PENALTIES["r1_r2"](critic, real, fake, mix).item() == pytest.approx(25.0, rel=1e-5)


def test_gradient_penalty_is_taken_between_real_and_fake() -> None:
    # D(x) = x²/2 has slope x; halfway between 1 and 5 it is 3, and (3 - 1)² = 4
    critic = lambda x: 0.5 * x.square().sum(1)  # noqa: E731
    value = PENALTIES["gradient_penalty"](
        critic, torch.ones(1, 1), torch.full((1, 1), 5.0), torch.tensor([0.5])
    )
    assert value.item() == pytest.approx(4.0, rel=1e-5)


def test_r1_is_taken_at_real_rows_and_r2_at_generated_ones() -> None:
    # D(x) = x²/2 has slope x: 1²/2 at the real row, 3²/2 at the generated one
    critic = lambda x: 0.5 * x.square().sum(1)  # noqa: E731
    real, fake, mix = torch.ones(1, 1), torch.full((1, 1), 3.0), torch.zeros(1)
    assert PENALTIES["r1"](critic, real, fake, mix).item() == pytest.approx(0.5)
    assert PENALTIES["r1_r2"](critic, real, fake, mix).item() == pytest.approx(5.0)


def test_penalty_differentiates_to_the_critic() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    PENALTIES["r1"](lambda x: x @ weight, torch.ones(3, 1), torch.ones(3, 1), torch.rand(3)).backward()
    assert weight.grad is not None and weight.grad.item() == pytest.approx(2.0)  # d(w²/2)/dw


def test_gaussian_kl() -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, LN2]])
    # rows: ½·1² = 0.5 and ½(2 - 1 - ln 2)
    assert elbo.gaussian_kl(mean, log_variance).item() == pytest.approx((0.5 + 0.5 * (1 - LN2)) / 2, abs=1e-6)


def test_gaussian_is_the_normal_density() -> None:
    x, mean, log_scale = torch.randn(5, 3), torch.randn(5, 3), torch.randn(3) * 0.3
    density = torch.distributions.Normal(mean, log_scale.exp()).log_prob(x).sum(1).mean()
    assert likelihood.gaussian(x, mean, log_scale).item() == pytest.approx(-density.item(), rel=1e-5)


def test_a_constant_value_cannot_drive_the_density_to_infinity() -> None:
    value = likelihood.gaussian(torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([-100.0]))
    assert value.item() == pytest.approx(likelihood.MIN_LOG_SCALE + likelihood.HALF_LOG_2PI)


def test_bernoulli_of_undecided_pixels_is_ln2_each() -> None:
    assert likelihood.bernoulli(torch.rand(4, 1, 2, 2), torch.zeros(4, 1, 2, 2)).item() == pytest.approx(
        4 * LN2
    )


def test_choices_ignore_options_that_do_not_exist() -> None:
    one_hot = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    logits = torch.tensor([[[0.0, 0.0, 0.0, -math.inf]]], requires_grad=True)
    nll = likelihood.choices(one_hot, logits)
    assert nll.item() == pytest.approx(math.log(3))
    nll.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_tokens_sum_over_real_positions_only() -> None:
    x, logits = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert likelihood.tokens(x, logits).item() == pytest.approx(3 * math.log(4))
    assert likelihood.tokens(x, logits, mask).item() == pytest.approx(1.5 * math.log(4))


def test_masked_rows_of_two_shards_average_to_the_batch() -> None:
    x, logits = torch.randint(5, (4, 6)), torch.randn(4, 6, 5)
    mask = torch.arange(6) < torch.tensor([6, 5, 1, 1]).unsqueeze(1)
    halves = [likelihood.tokens(x[s], logits[s], mask[s]) for s in (slice(0, 2), slice(2, 4))]
    assert torch.stack(halves).mean().item() == pytest.approx(
        likelihood.tokens(x, logits, mask).item(), rel=1e-6
    )


def test_gaussian_mixture_is_the_mixture_density() -> None:
    x, parameters = torch.randn(2, 3, 2), torch.randn(2, 3, 4 * 5) * 0.3
    weight, mean, log_scale = likelihood.split_mixture(parameters, 2)
    parts = torch.distributions.Independent(torch.distributions.Normal(mean, log_scale.exp()), 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=weight), parts)
    expected = -mixture.log_prob(x).sum(1).mean()
    assert likelihood.gaussian_mixture(x, parameters).item() == pytest.approx(expected.item(), rel=1e-5)
    none = torch.zeros(2, 3, dtype=torch.bool)
    assert likelihood.gaussian_mixture(x, parameters, none).item() == 0


def test_nats_of_columns_and_their_gradients_are_those_of_cross_entropy() -> None:
    torch.manual_seed(0)
    groups, sizes = ((1, 2), (0,)), (9, 4, 3)
    x = torch.stack([torch.randint(0, v, (6,)) for v in sizes], 1)
    wide = [torch.randn(2, 6, 4), torch.randn(1, 6, 9)]
    wide[0][1, :, 3] = -torch.inf  # position 2 has three options
    ours, theirs = ([w.clone().requires_grad_() for w in wide] for _ in range(2))
    weights = torch.rand(3, 6)
    nats = likelihood.columns(x, ours, groups)
    expected = torch.stack(
        [
            torch.nn.functional.cross_entropy(theirs[k][i], x[:, t], reduction="none")
            for k, group in enumerate(groups)
            for i, t in enumerate(group)
        ]
    )
    torch.testing.assert_close(nats, expected)
    (nats * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad, other.grad.nan_to_num(0.0))
