from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_game import TinyFamily, run

from genpipe.errors import QualityError
from genpipe.families.base import Phase
from genpipe.training.checkpoint import Checkpoints
from genpipe.training.data import Resident
from genpipe.training.loop import FitResult, Hooks, Status
from genpipe.training.state import TrainingState


def same(a: FitResult, b: FitResult) -> bool:
    return set(a.weights) == set(b.weights) and all(
        torch.equal(a.weights[k], b.weights[k]) for k in a.weights
    )


class Killed(Exception):
    pass


def test_it_learns_and_publishes_the_sampling_roles_only(source: Resident) -> None:
    seen: list[Status] = []
    result = run(source, steps=300, hooks=Hooks(report=seen.append))
    assert {name.split(".")[0] for name in result.weights} == {"model"}
    assert seen[9].metrics["fit.error"] > 10 * result.metrics["fit.error"]
    assert [s.step for s in seen] == list(range(1, 301))  # every rank may count on a report a step
    assert result.stopped == "steps" and result.steps == 300


def test_a_skipped_phase_keeps_its_last_value(source: Resident) -> None:
    seen: list[Status] = []
    run(source, steps=40, hooks=Hooks(report=seen.append))
    assert all("mean.error" in s.metrics for s in seen[9:])
    assert seen[19].metrics["mean.error"] != seen[9].metrics["mean.error"]


def test_phases_begin_and_end_at_shares_of_the_run(source: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[tuple[str, int]] = []
    phases = (Phase("fit", ("model",), end=0.5), Phase("mean", ("extra",), every=2, begin=0.25))
    monkeypatch.setattr(TinyFamily, "phases", phases)
    step = TrainingState.update

    def update(self: TrainingState, phase: Phase) -> None:
        played.append((phase.trains[0], self.step))
        step(self, phase)

    monkeypatch.setattr(TrainingState, "update", update)
    run(source, steps=12)
    assert [at for role, at in played if role == "model"] == [0, 1, 2, 3, 4, 5]
    assert [at for role, at in played if role == "extra"] == [4, 6, 8, 10]


def test_a_phase_has_a_learning_rate_of_its_own(source: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = run(source, steps=10, learning_rate=1e-3)
    monkeypatch.setattr(TinyFamily, "phases", (Phase("fit", ("model",), rate=0.1), TinyFamily.phases[1]))
    assert same(run(source, steps=10, learning_rate=1e-2), slow)


@pytest.mark.parametrize("wrong", [{"begin": 0.5, "end": 0.5}, {"end": 1.1}, {"every": 0}, {"rate": 0.0}])
def test_a_phase_that_is_never_played_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected 0 <= begin < end <= 1"):
        Phase("fit", ("model",), **wrong)


def test_the_seed_decides_and_the_global_generator_does_not(source: Resident) -> None:
    first = run(source, seed=3)
    torch.rand(7)
    assert same(first, run(source, seed=3))
    assert not same(first, run(source, seed=4))


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "clip": 0.5, "schedule": "cosine", "warmup": 5}])
@pytest.mark.parametrize("stop_at", [21, 45, 50])
def test_resumed_equals_uninterrupted_bit_for_bit(
    source: Resident, tmp_path: Path, settings: dict[str, Any], stop_at: int
) -> None:
    def evaluate(nets: Any, step: int) -> dict[str, float]:
        return {"loss": float(nets["model"][0].weight.square().sum())}

    def die(status: Status) -> None:
        if status.step == stop_at:
            raise Killed

    common = {"evaluate_every": 15, "checkpoint_every": 10, **settings}
    whole = run(source, hooks=Hooks(evaluate=evaluate), **common)
    sink = Checkpoints(str(tmp_path))
    with pytest.raises(Killed):
        run(source, sink=sink, hooks=Hooks(report=die, evaluate=evaluate), **common)
    sink.wait()
    steps: list[int] = []
    again = Hooks(report=lambda s: steps.append(s.step), evaluate=evaluate)
    resumed = run(source, sink=Checkpoints(str(tmp_path)), hooks=again, **common)
    assert steps[0] == (stop_at - 1) // 10 * 10 + 1
    assert same(whole, resumed)
    assert (resumed.metrics, resumed.step) == (whole.metrics, whole.step)


def test_early_stopping_keeps_the_best_weights(source: Resident) -> None:
    scores, kept = iter([0.2, 0.9, 0.5, 0.4, 0.3, 0.99]), {}

    def evaluate(nets: Any, step: int) -> dict[str, float]:
        kept[step] = nets["model"][0].weight.clone()
        return {"fidelity": next(scores), "loss": 0.0}

    result = run(source, steps=60, evaluate_every=10, patience=3, hooks=Hooks(evaluate=evaluate))
    assert (result.stopped, result.step, result.steps) == ("patience", 20, 50)
    assert result.metrics["fidelity"] == 0.9
    assert torch.equal(result.weights["model.0.weight"], kept[20])


def test_the_averaged_weights_are_what_is_scored_and_kept(source: Resident) -> None:
    seen = {}

    def evaluate(nets: Any, step: int) -> dict[str, float]:
        seen[step] = nets["model"][0].weight.clone()
        return {"loss": -step}

    averaged = run(source, ema=0.99, hooks=Hooks(evaluate=evaluate))
    plain = run(source)
    assert torch.equal(averaged.weights["model.0.weight"], seen[60])
    assert not same(averaged, plain)


def test_it_stops_when_asked_and_scores_what_it_has(source: Resident) -> None:
    seen: list[Status] = []
    hooks = Hooks(
        report=seen.append, evaluate=lambda nets, step: {"fidelity": 0.5}, should_stop=lambda: len(seen) > 25
    )
    result = run(source, steps=500, hooks=hooks)
    assert (result.stopped, result.steps, result.metrics["fidelity"]) == ("asked", 30, 0.5)


def test_nan_is_rolled_back_once_then_refused(source: Resident, tmp_path: Path) -> None:
    source.arrays["x"][source._order(0)[30]] = np.nan  # the row of step 30 of the first epoch
    text = r"step 36: fit.error = nan: not a finite number, again after a rollback.*good checkpoint: step 24"
    with pytest.raises(QualityError, match=text):
        run(source, sink=Checkpoints(str(tmp_path)), batch_size=1, steps=200, checkpoint_every=12)


def test_a_learning_rate_that_explodes_is_lowered_once(
    source: Resident, caplog: pytest.LogCaptureFixture
) -> None:
    source.arrays["x"] *= np.float32(1e30)  # a square of this is infinite
    with pytest.raises(QualityError, match="last good checkpoint: none"):
        run(source, steps=80)
    assert "back to step 0 at 0.1 of the learning rate" in caplog.text


def test_samples_that_are_all_alike_are_refused(source: Resident) -> None:
    hooks = Hooks(evaluate=lambda nets, step: {"fidelity": 0.9, "spread": 0.0})
    with pytest.raises(QualityError, match="mode collapse"):
        run(source, evaluate_every=10, hooks=hooks)


def test_bfloat16_trains_too(source: Resident) -> None:
    seen: list[Status] = []
    result = run(source, steps=200, precision="bfloat16", hooks=Hooks(report=seen.append))
    assert result.metrics["fit.error"] < 0.3 * seen[9].metrics["fit.error"]
    assert not same(result, run(source, steps=200))
