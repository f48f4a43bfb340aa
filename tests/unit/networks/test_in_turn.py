"""Channels in turn: the density of a step is the product of what each channel is drawn from."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.families import steps
from genpipe.families.sequence import SequenceConfig, SequenceModel
from genpipe.networks.in_turn import InTurn
from genpipe.networks.outlets import shifted
from genpipe.networks.recurrent import RecurrentConfig
from genpipe.objectives import likelihood
from genpipe.spec import TensorSpec

SPEC = TensorSpec(layout="sequence", shape=(6, 3), dtype="float32")
ROWS = 5


def outlet(seed: int = 0) -> InTurn:
    torch.manual_seed(seed)
    made = InTurn(SPEC, 8, mixture=4)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def test_all_channels_at_once_are_what_each_is_in_turn() -> None:
    made, x = outlet(), torch.rand(ROWS, 6, 3) * 2 - 1
    predicted = made(torch.randn(ROWS, 6, 8), shifted(x))
    whole = [part.unflatten(1, (ROWS, 6)) for part in made.mixtures(x, predicted)]
    for t in range(6):
        turn = made.begin(predicted[:, t])
        for c in range(3):
            for one, every in zip(made.at(c, turn), whole, strict=True):
                torch.testing.assert_close(one, every[c, :, t], atol=1e-5, rtol=1e-4)
            made.tell(c, turn, x[:, t, c])


def test_a_channel_knows_those_before_it_and_no_other() -> None:
    made, x = outlet(), torch.rand(ROWS, 6, 3) * 2 - 1
    predicted = made(torch.randn(ROWS, 6, 8), shifted(x))
    first = made.mixtures(x, predicted)[1]
    changed = x.clone()
    changed[..., 1] += 0.2
    second = made.mixtures(changed, predicted)[1]
    assert torch.equal(first[:2], second[:2]) and not torch.allclose(first[2], second[2])


def test_the_likelihood_is_that_of_a_mixture() -> None:
    torch.manual_seed(0)
    x, (logits, mean, log_scale) = torch.randn(7), 0.4 * torch.randn(3, 7, 4)
    told = MixtureSameFamily(Categorical(logits=logits), Normal(mean, log_scale.exp())).log_prob(x)
    torch.testing.assert_close(likelihood.mixtures(x, logits, mean, log_scale), -told)


def test_steps_that_are_masked_count_nothing() -> None:
    made, x = outlet(), torch.rand(ROWS, 6, 3) * 2 - 1
    predicted, mask = made(torch.randn(ROWS, 6, 8), shifted(x)), torch.zeros(ROWS, 6, dtype=torch.bool)
    assert steps.nats(x, made, predicted, mask).item() == 0
    mask[:, :2] = True
    first = steps.nats(x[:, :2], made, predicted[:, :2])
    torch.testing.assert_close(steps.nats(x, made, predicted, mask), first)


def test_draws_follow_the_density() -> None:
    """The share of each channel's density below its draw, given the channels drawn before it, is uniform."""
    made = outlet()
    made.bias.data[..., 4:8] *= 0.3  # so that nothing is drawn beyond [-1, 1], and cut off
    made.bias.data[..., 8:] -= 1.5
    made.told.data *= 0.5
    predicted = made(torch.randn(1, 8) * 0.3, torch.full((1, 3), 0.1)).expand(4000, -1)
    x, _ = steps.draw(made, predicted, Draws(1, total=4000))
    assert (x.abs() < 1).float().mean() > 0.99
    logits, mean, log_scale = made.mixtures(x[:, None], predicted[:, None])
    below = (logits.softmax(-1) * Normal(mean, log_scale.exp()).cdf(x.t().unsqueeze(-1))).sum(-1)
    ranks = (below.sort(1).values - torch.linspace(0, 1, 4000)).abs().amax(1)
    assert ranks.max() < 1.95 / math.sqrt(4000)  # Kolmogorov's at one in a thousand


@pytest.mark.parametrize("network", ["recurrent", "transformer"])
def test_known_values_stay_and_others_take_note(network: str) -> None:
    """A channel that is given is kept; those after it are drawn otherwise, and so are those before it in its
    step, which have to fit it.
    """
    config = {"network": network, "width": 16, "channels": "in turn"}
    family = SequenceModel(SequenceConfig(model=config), SPEC)
    torch.manual_seed(0)
    nets, condition = family.build(), torch.zeros(ROWS, 0).long()
    free = family.sample(nets, condition, Draws(3, total=ROWS))
    given = torch.full((ROWS, 6, 3), math.nan)
    given[:, 0, 1] = -0.9
    made = family.sample(nets, condition, Draws(3, total=ROWS), given)
    assert (made[:, 0, 1] == -0.9).all()
    for rest in ((slice(None), 0, 0), (slice(None), 0, 2), (slice(None), slice(1, None))):
        assert not torch.equal(made[rest], free[rest])
    begun = given.clone()
    begun[:, 0, :2] = -0.9  # the first channels of a step: nothing is missing before them
    assert (family.sample(nets, condition, Draws(3, total=ROWS), begun)[:, 0, :2] == -0.9).all()


def test_it_learns_a_channel_that_is_the_sum_of_two() -> None:
    """One mixture for all channels of a step cannot say so; in turn the sum is nearly known."""
    g = torch.Generator().manual_seed(0)
    a, b = (0.4 * torch.rand(256, 6, generator=g) for _ in range(2))
    x = torch.stack([a, b, a + b - 0.4], -1)
    batch, found = Batch(x, torch.zeros(256, 0).long()), {}
    for channels in ("together", "in turn"):
        torch.manual_seed(0)
        config = SequenceConfig(model=RecurrentConfig(width=16, channels=channels))
        family = SequenceModel(config, SPEC)
        nets = family.build()
        adam = torch.optim.Adam(nets["model"].parameters(), lr=0.01)
        for step in range(150):
            adam.zero_grad()
            family.loss("likelihood", nets, batch, Draws(0, step, total=256))["likelihood"].backward()
            adam.step()
        found[channels] = family.holdout_loss(nets, batch, Draws(1, total=256))["nats_per_position"].item()
    assert found["in turn"] < found["together"] - 1.0
