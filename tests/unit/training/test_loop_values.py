"""What the loop does to a weight, step by step, against numbers worked out by hand.

The loss is `slope` times a weight that begins at 0, so its gradient is the slope at every step. AdamW's
moments of a constant gradient, once corrected, are the gradient and its square: every step moves the weight
by just the learning rate of that step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genpipe.families.base import Phase
from genpipe.recipe import Training
from genpipe.spec import Span, TensorSpec
from genpipe.training.data import Resident
from genpipe.training.distributed import ALONE
from genpipe.training.guard import COLLAPSED, EXPLODED, Diverged, Guard
from genpipe.training.loop import FitResult, Hooks, play
from genpipe.training.optim import AdamW, Average, rate_at
from genpipe.training.state import TrainingState

SPEC = TensorSpec(
    layout="vector",
    shape=(1,),
    dtype="float32",
    spans=(Span(name="x", start=0, size=1, kind="continuous"),),
)


class Weights(nn.Module):
    """Two weights of a matrix (which decays) and nothing else."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([numbers]))


class Slope:
    """One role, one phase, two terms whose gradients are `slopes` and `more`."""

    roles = sample_roles = publishes = ("model",)
    metrics = ("loss",)

    def __init__(self, *slopes: float, more: float = 0.0, start: float = 0.0, every: int = 1) -> None:
        self.slopes, self.more, self.start = torch.tensor([slopes]), more, start
        self.phases = (Phase("fall", ("model",), every=every),)
        self.nets: Any = None
        self.calls = 0

    def build(self) -> dict[str, nn.Module]:
        return {"model": Weights(*[self.start] * self.slopes.shape[1])}

    def loss(self, phase: str, nets: Any, batch: Any, rng: Any) -> dict[str, Tensor]:
        self.nets, self.calls = nets, self.calls + 1
        weight = nets["model"].weight
        return {"one": (self.slopes * weight).sum(), "other": self.more * weight.sum()}


def run(family: Any, *, hooks: Hooks | None = None, **training: Any) -> FitResult:
    settings = Training(
        **{"steps": 4, "batch_size": 2, "learning_rate": 0.5, "betas": (0.9, 0.99), **training}
    )
    source = Resident({"x": np.zeros((8, 1), np.float32)}, seed=0)
    with torch.random.fork_rng(devices=[]):
        return play(family, settings, SPEC, source, 0, ALONE, "cpu", None, hooks or Hooks())


def weight(result: FitResult) -> float:
    return result.weights["model.weight"][0, 0].item()


@pytest.mark.parametrize(
    ("training", "moved"),
    [
        ({}, 2.0),  # 4 steps of .5
        ({"warmup": 4}, 0.5 * (0.25 + 0.5 + 0.75 + 1)),
        ({"schedule": "cosine"}, 0.5 * (1 + 0.853553 + 0.5 + 0.146447)),  # (1 + cos(k π / 4)) / 2
        ({"schedule": "cosine", "warmup": 2}, 0.5 * (0.5 + 1 + 1 + 0.5)),  # the cosine begins after it
        ({"learning_rate": 0.125}, 0.5),
    ],
)
def test_every_step_moves_by_the_learning_rate_of_that_step(training: dict, moved: float) -> None:
    assert weight(run(Slope(3.0), **training)) == pytest.approx(-moved, rel=1e-4)


def test_weights_decay_by_the_learning_rate_times_the_decay() -> None:
    """w = 1: twice w (1 - .5 * .2) - .5, that is .4 and -.14."""
    assert weight(run(Slope(3.0, start=1.0), steps=2, weight_decay=0.2)) == pytest.approx(-0.14, rel=1e-4)


def test_biases_and_vectors_do_not_decay() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 1.0)
        parameter.grad = torch.zeros_like(parameter)
    AdamW(net, betas=(0.9, 0.99), weight_decay=0.2).step(0.5)
    moved = {name: p.item() for name, p in net.named_parameters()}
    assert moved == pytest.approx({"0.weight": 0.9, "0.bias": 1.0, "1.weight": 1.0, "1.bias": 1.0})


def test_the_moments_forget_at_their_own_rates() -> None:
    """Slopes 1, then -1, β = .5, .75, rate .1. m = .5 then -.25, corrected by .75: -1/3. v = .25, then .4375,
    corrected by .4375: 1. So the weight falls by .1 and rises by .0333.
    """
    net = Weights(0.0)
    optimizer = AdamW(net, betas=(0.5, 0.75), weight_decay=0.0)
    for slope, expected in ((1.0, -0.1), (-1.0, -0.1 + 0.1 / 3)):
        net.weight.grad = torch.full((1, 1), slope)
        optimizer.step(0.1)
        assert net.weight.item() == pytest.approx(expected, rel=1e-5)


def test_all_terms_of_a_loss_are_minimised() -> None:
    """Slopes -1 and 3 together: the weight falls, as it would not for the first alone."""
    assert weight(run(Slope(-1.0, more=3.0))) == pytest.approx(-2.0, rel=1e-4)
    assert weight(run(Slope(-1.0))) == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize(("limit", "expected"), [(1.0, [0.6, 0.8]), (2.5, [1.5, 2.0]), (9.0, [3.0, 4.0])])
def test_gradients_are_scaled_down_to_the_limit_and_never_up(limit: float, expected: list[float]) -> None:
    """(3, 4) has length 5."""
    family = Slope(3.0, 4.0)
    run(family, clip=limit, steps=1)
    assert family.nets["model"].weight.grad[0].tolist() == pytest.approx(expected, rel=1e-4)


def test_a_phase_is_played_every_so_many_steps_from_the_first_on() -> None:
    family = Slope(1.0, every=3)
    assert weight(run(family, steps=7)) == pytest.approx(-1.5, rel=1e-4)  # at steps 0, 3 and 6
    assert family.calls == 3


def test_what_is_published_is_the_average_with_its_warm_up() -> None:
    """Decays 1/10, 2/11, 3/12 and from then on .25 at most; the weight is -.5, -1, -1.5, -2:

    0 -> -.45 -> -.9 -> -1.35 -> -1.8375
    """
    a = [0.0]
    for decay, now in ((1 / 10, -0.5), (2 / 11, -1.0), (3 / 12, -1.5), (0.25, -2.0)):
        a.append(decay * a[-1] + (1 - decay) * now)
    assert a[1] == pytest.approx(-0.45) and a[2] == pytest.approx(-0.9) and a[-1] == pytest.approx(-1.8375)
    assert weight(run(Slope(3.0), ema=0.25)) == pytest.approx(a[-1], rel=1e-4)
    assert weight(run(Slope(3.0))) == pytest.approx(-2.0, rel=1e-4)


def test_an_average_forgets_by_its_decay() -> None:
    """Long after the warm-up: half of a step of 1 after one update, three quarters after two."""
    net, copy = Weights(0.0), Weights(0.0)
    average = Average({"model": net}, {"model": copy}, 0.5)
    average.updates = 1000
    with torch.no_grad():
        net.weight.fill_(1.0)
    for expected in (0.5, 0.75, 0.875):
        average.update(["model"])
        assert copy.weight.item() == pytest.approx(expected)


def test_a_cosine_ends_at_zero_and_stays_there() -> None:
    settings = Training(steps=10, learning_rate=1.0, schedule="cosine")
    assert rate_at(10, settings) == rate_at(12, settings) == pytest.approx(0.0, abs=1e-12)


def test_after_a_rollback_steps_are_a_fifth_as_long() -> None:
    family = Slope(3.0)
    state = TrainingState(family, Training(learning_rate=0.5), seed=0, device="cpu")  # type: ignore[arg-type]
    for expected in (-0.1, -0.12):
        state.back_off(state)
        family.loss("fall", state.nets, None, None)["one"].backward()
        state.update(family.phases[0])
        state.zero_grad(("model",))
        assert state.nets["model"].weight.item() == pytest.approx(expected, rel=1e-4)
    assert state.rollbacks == 2


def test_the_thresholds_of_the_guard() -> None:
    """Ten thousand times the first size, at two checks in a row; a thousandth of the real spread,
    likewise.
    """
    assert (EXPLODED, COLLAPSED) == (1e4, 1e-3)
    guard = Guard()
    for value in (5.0, 49_999.0, 49_999.0, 50_001.0):
        guard.check({"loss": value})
    with pytest.raises(Diverged):
        guard.check({"loss": 50_001.0})
    guard = Guard()
    for spread in (0.00101, 0.00101, 0.00099):
        guard.check_samples({"spread": spread})
    assert not guard.calm
    with pytest.raises(Diverged):
        guard.check_samples({"spread": 0.00099})


def test_the_best_of_what_is_monitored_is_kept() -> None:
    """Fidelity .5, .7, .6: step 2. Loss 3, 2, 1 with monitor loss: step 3."""
    scores = [{"fidelity": f, "loss": x} for f, x in ((0.5, 3.0), (0.7, 2.0), (0.6, 1.0))]
    for monitor, step, moved in (("fidelity", 2, 1.0), ("loss", 3, 1.5)):
        hooks = Hooks(evaluate=lambda nets, at: scores[at - 1])
        result = run(Slope(3.0), steps=3, evaluate_every=1, monitor=monitor, hooks=hooks)
        assert result.step == step and weight(result) == pytest.approx(-moved, rel=1e-4)


class Twice(Slope):
    """As `Slope`, its last phase from the middle of the run."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.phases = (Phase("first", ("model",), end=0.5), Phase("last", ("model",), begin=0.5))


def test_weights_are_judged_from_where_the_last_phase_has_begun(caplog: pytest.LogCaptureFixture) -> None:
    """Twelve steps, scored after each; the losses of the first six are the best and grow worse, but they are
    of no generator: they neither stop the run nor are kept. Then the third one without a new best does.
    """
    losses = iter([*range(6), 20.0, 19.0, 19.5, 19.6, 19.7, 19.8])
    hooks = Hooks(evaluate=lambda nets, step: {"loss": next(losses)})
    result = run(Twice(), hooks=hooks, steps=12, evaluate_every=1, patience=3, monitor="loss")
    assert (result.step, result.steps, result.stopped) == (8, 11, "patience")
    assert "no generator yet" not in caplog.text
    early = run(Twice(), hooks=Hooks(should_stop=lambda: True), steps=12)
    assert early.steps == 1 and "stopped at step 1, before the last phase begins at step 6" in caplog.text


def test_each_phase_has_the_schedule_to_itself() -> None:
    """Two steps of .5 each, by a cosine from 1 over two steps: 1 and ½ of .5 in either phase, in all 1.5."""
    assert weight(run(Twice(), schedule="cosine")) == pytest.approx(-1.5, rel=1e-3)
