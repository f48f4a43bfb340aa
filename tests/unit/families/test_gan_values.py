"""Every loss, penalty and packing of the GAN against numbers worked out by hand.

Two rows of one value and a class of two. With z = 1, -1 and classes 0, 1:

    G(z, c) = z / 2 + c / 4          fake =  0.5  -0.25
    data                             real =  0.25  0.75
    D(x, c) = 2 x + 3 c              r =     0.5   4.5        f = 1   2.5
"""

from __future__ import annotations

from math import exp, log1p
from typing import Any

import pytest
import torch
from told import Given, Told
from torch import Tensor

from genpipe.batch import Batch, one_hot
from genpipe.draws import Draws
from genpipe.families.gan import GAN, GANConfig
from genpipe.objectives import ADVERSARIAL
from genpipe.spec import Span, TensorSpec

VALUE = Span(name="x", start=0, size=1, kind="continuous")
SPEC = TensorSpec(layout="vector", shape=(1,), dtype="float32", spans=(VALUE,), conditions=(2,))
BATCH = Batch(torch.tensor([[0.25], [0.75]]), torch.tensor([[0], [1]]))
Z = [[1.0], [-1.0]]
NETS = {
    "generator": Given(lambda z, c: torch.atanh(0.5 * z + 0.25 * c[:, 1:2])),
    "critic": Given(lambda x, c: 2 * x[:, 0] + 3 * c[:, 1]),
}


def softplus(x: float) -> float:
    return log1p(exp(x))


# of the scores above; e.g. least squares: ((.5 - 1)² + (4.5 - 1)²) / 2 = 6.25, (1² + 2.5²) / 2 = 3.625, and
# half of both is 4.9375; hinge: (.5 + 0) / 2 + (2 + 3.5) / 2 = 3; Wasserstein: 1.75 - 2.5
CRITIC_BCE = (softplus(-0.5) + softplus(-4.5)) / 2 + (softplus(1) + softplus(2.5)) / 2
EXPECTED = {
    "bce": (CRITIC_BCE, -(softplus(1) + softplus(2.5)) / 2),
    "non_saturating": (CRITIC_BCE, (softplus(-1) + softplus(-2.5)) / 2),
    "least_squares": (4.9375, 0.5625),
    "hinge": (3.0, -1.75),
    "wasserstein": (-0.75, -1.75),
    "relativistic": ((softplus(0.5) + softplus(-2)) / 2, (softplus(-0.5) + softplus(2)) / 2),  # of f - r
}


def game(**config: Any) -> GAN:
    return GAN(GANConfig(**{"latent": 1, "penalty": "r1", **config}), SPEC)


def terms(family: GAN, phase: str, nets: dict = NETS, **told: Any) -> dict[str, float]:
    rng = Told(normal=[Z], uniform=[[0.5, 0.25]], **told)
    return {name: term.item() for name, term in family.loss(phase, nets, BATCH, rng).items()}


def test_every_loss_is_worked_out() -> None:
    assert set(EXPECTED) == set(ADVERSARIAL)


@pytest.mark.parametrize("name", EXPECTED)
def test_both_phases_of_every_loss(name: str) -> None:
    family, (critic, generator) = game(adversarial=name), EXPECTED[name]
    assert terms(family, "critic")["critic"] == pytest.approx(critic, abs=1e-6)
    assert terms(family, "generator") == pytest.approx({"generator": generator}, abs=1e-6)


def test_the_holdout_tells_the_critics_loss_and_how_far_apart_it_holds_both() -> None:
    """(0.5 + 4.5) / 2 - (1 + 2.5) / 2 = 0.75."""
    found = game(adversarial="hinge").holdout_loss(NETS, BATCH, Told(normal=[Z]))
    assert {k: v.item() for k, v in found.items()} == pytest.approx({"critic": 3.0, "gap": 0.75})


def test_real_rows_told_another_class_are_told_from_those_told_their_own() -> None:
    """Wrong classes: 2 / 4 + 3 = 3.5, 3 / 2 = 1.5. Hinge: (.5 + 0) / 2 + (4.5 + 2.5) / 2 = 3.75, twice."""
    found = terms(game(adversarial="hinge", penalty="none", mismatch=2.0), "critic")
    assert found == pytest.approx({"critic": 3.0, "mismatch": 7.5})
    compares = Given(lambda x, c: 2 * x + 3 * c[:, :, 1])
    compares.compares = True
    found = terms(
        game(adversarial="hinge", penalty="none", mismatch=2.0), "critic", NETS | {"critic": compares}
    )
    assert found == pytest.approx({"critic": 3.0, "mismatch": 7.5})


def test_a_wrong_class_is_never_the_own_one_and_one_field_is_wrong_at_a_time() -> None:
    spec = SPEC.model_copy(update={"conditions": (3, 1, 2)})
    family = GAN(GANConfig(latent=1, mismatch=1.0), spec)
    condition = torch.tensor([[0, 0, 1], [2, 0, 0]]).repeat(50, 1)
    wrong = family._wrong(condition, Draws(0, total=100))
    assert wrong is not None and wrong.shape == (100, 8, 6)
    differ = (wrong != one_hot(condition, spec.conditions).unsqueeze(1)).sum(2)
    assert torch.equal(differ, torch.full((100, 8), 2))  # one class off and another one on
    assert wrong[::2, :4, 1].any() and wrong[::2, :4, 2].any()


@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_r1_has_its_weight(weight: float) -> None:
    """D rises by 2 everywhere: 2² / 2 = 2, times the weight."""
    found = terms(game(penalty_weight=weight), "critic")
    assert found["penalty"] == pytest.approx(2 * weight)


def test_the_gradient_penalty_is_taken_between_real_and_fake() -> None:
    """D(x) = x² rises by 2 x. With shares .5 and .25 of the real value, x = .375 and 0, the slopes are .75
    and 0, and ((.75 - 1)² + (0 - 1)²) / 2 = .53125; times a weight of 10.
    """
    nets = NETS | {"critic": Given(lambda x, c: x[:, 0] ** 2)}
    family = game(adversarial="wasserstein", penalty="gradient_penalty", penalty_weight=10.0)
    assert terms(family, "critic", nets)["penalty"] == pytest.approx(5.3125, rel=1e-4)


def test_r1_is_taken_at_real_rows() -> None:
    """D(x) = x² rises by .5 and 1.5 at the data: (.25 + 2.25) / 2 / 2 = .625."""
    nets = NETS | {"critic": Given(lambda x, c: x[:, 0] ** 2)}
    assert terms(game(), "critic", nets)["penalty"] == pytest.approx(0.625)


def test_a_lazy_penalty_is_a_phase_of_its_own_and_weighs_as_much_over_the_run() -> None:
    """At every 4th step 4 times 2 times 10: over 12 steps 240, what the penalty at every step comes to."""
    eager, lazy = game(penalty_weight=10.0), game(penalty_weight=10.0, penalty_every=4)
    assert [(p.name, p.trains, p.every) for p in lazy.phases] == [
        ("critic", ("critic",), 1),
        ("penalty", ("critic",), 4),
        ("generator", ("generator",), 1),
    ]
    assert set(terms(lazy, "critic")) == {"critic"}
    assert terms(lazy, "penalty") == pytest.approx({"penalty": 80.0})
    sums = [
        sum(
            terms(family, phase.name).get("penalty", 0.0)
            for step in range(12)
            for phase in family.phases
            if step % phase.every == 0
        )
        for family in (eager, lazy)
    ]
    assert sums == pytest.approx([240.0, 240.0])


def test_r1_and_r2_are_of_both_sides() -> None:
    """D(x) = x² rises by .5 and 1.5 at the data, by 1 and -.5 at generated rows: .625 + (1 + .25) / 4."""
    nets = NETS | {"critic": Given(lambda x, c: x[:, 0] ** 2)}
    assert terms(game(penalty="r1_r2"), "critic", nets)["penalty"] == pytest.approx(0.625 + 0.3125)


def test_without_a_penalty_there_is_none() -> None:
    family = game(penalty="none", penalty_every=4)
    assert len(family.phases) == 2 and set(terms(family, "critic")) == {"critic"}


def test_the_generator_trains_every_so_many_critic_steps() -> None:
    family = game(critic_steps=3)
    assert [(p.name, p.every) for p in family.phases] == [("critic", 1), ("generator", 3)]


def test_a_pack_is_judged_as_one_row() -> None:
    """D of two rows side by side, x1 + 10 x2 + 100 for the second row's class 1: of real rows .25 + 7.5 +
    100, of generated ones .5 - 2.5 + 100. Its slope is (1, 10): 101 / 2 = 50.5.
    """

    def pair(x: Tensor, c: Tensor) -> Tensor:
        return x @ torch.tensor([1.0, 10.0]) + c @ torch.tensor([0.0, 0.0, 0.0, 100.0])

    nets = NETS | {"critic": Given(pair)}
    family = game(adversarial="wasserstein", pack=2)
    assert terms(family, "critic", nets) == pytest.approx({"critic": 98.0 - 107.75, "penalty": 50.5})
    assert terms(family, "generator", nets) == pytest.approx({"generator": -98.0})


def test_a_packs_gradient_penalty_mixes_its_rows_in_one_share() -> None:
    """The pack takes its first row's share, .5: (.375, .25). D(x1, x2) = (x1² + x2²) / 2 rises by just these;
    the length is √(.375² + .25²) = .450694, and (.450694 - 1)² = .301737.
    """
    nets = NETS | {"critic": Given(lambda x, c: x.square().sum(1) / 2)}
    family = game(adversarial="wasserstein", penalty="gradient_penalty", pack=2)
    assert terms(family, "critic", nets)["penalty"] == pytest.approx(0.301737, rel=1e-4)


def choices() -> tuple[GAN, dict[str, Given]]:
    """Logits 0, 0 of one choice of two; the critic's score is the first option's weight."""
    spans = (Span(name="y", start=0, size=2, kind="categorical"),)
    spec = TensorSpec(layout="vector", shape=(2,), dtype="float32", spans=spans)
    nets = {
        "generator": Given(lambda z, c: torch.zeros(1, 2)),
        "critic": Given(lambda x, c: x[:, 0]),
    }
    return GAN(GANConfig(latent=1, adversarial="hinge", penalty="none", temperature=0.5), spec), nets


def test_choices_are_gumbel_softmax_draws_at_the_temperature() -> None:
    """Uniform e⁻¹ and e⁻ᵉ are Gumbel numbers 0 and -1; at temperature .5 the logits are 0 and -2."""
    family, nets = choices()
    rng = Told(normal=[[[0.0]]], uniform=[[[exp(-1), exp(-exp(1))]]])
    none = Batch(torch.zeros(1, 2), torch.zeros(1, 0).long())
    found = family.loss("generator", nets, none, rng)["generator"].item()
    assert found == pytest.approx(-1 / (1 + exp(-2)), abs=1e-5)


def test_samples_are_the_option_with_the_largest_draw() -> None:
    family, nets = choices()
    for uniform, option in (([0.9, 0.1], 0), ([0.1, 0.9], 1)):
        x = family.sample(nets, torch.zeros(1, 0).long(), Told(normal=[[[0.0]]], uniform=[[uniform]]))
        assert x.tolist() == [[1.0 - option, float(option)]]


def test_a_sample_is_the_generators_value_for_the_class_asked_for() -> None:
    for asked, value in ((0, 0.5), (1, 0.75)):
        x = game().sample(NETS, torch.tensor([[asked]]), Told(normal=[[[1.0]]]))
        assert x.item() == pytest.approx(value)
