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


def settling(source: Resident, losses: list[float], **more: Any) -> tuple[FitResult, list[int]]:
    """A run of 1200 steps with these losses of the holdout, at every 100th; how often it asked for one."""
    asked: list[int] = []

    def watch(nets: Any) -> dict[str, float]:
        asked.append(len(asked))
        return {"nats": losses[min(len(asked), len(losses)) - 1], "other": 0.0}

    hooks = Hooks(evaluate=lambda nets, step: {"loss": -step}, watch=watch)
    settings = {"steps": 1200, "schedule": "settle", "evaluate_every": 500, "checkpoint_every": 100}
    return run(source, hooks=hooks, **{**settings, **more}), asked


@pytest.mark.parametrize(
    ("losses", "length", "looks"),
    [
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0], 1200, 6),  # it falls until the rate does
        ([9.0, 8.0, 7.995], 600, 3),  # less than .1 % at step 300
        ([9.0, 9.5], 400, 2),
        ([-9.0, -9.02, -9.021], 600, 3),  # of densities
    ],
)
def test_a_run_that_settles_is_as_long_as_the_holdout_says(
    source: Resident, losses: list[float], length: int, looks: int
) -> None:
    result, asked = settling(source, losses)
    assert (result.length, result.steps, result.step, result.stopped) == (length, length, length, "steps")
    assert len(asked) == looks, "once the rate falls nobody looks any more"


def test_a_loss_may_stand_still_at_first(source: Resident) -> None:
    result, asked = settling(source, [9.0] * 12, steps=240)
    assert (result.length, len(asked)) == (200, 5)  # not at step 40, but at 100


def test_a_run_that_settled_goes_on_where_it_was(source: Resident, tmp_path: Path) -> None:
    whole, _ = settling(source, [9.0, 8.0, 7.995])
    sink = Checkpoints(str(tmp_path))

    def watch(nets: Any) -> dict[str, float]:
        return {"nats": next(losses)}

    def die(status: Status) -> None:
        if status.step == 450:
            raise Killed

    losses = iter([9.0, 8.0, 7.995])
    settings = {"steps": 1200, "schedule": "settle", "evaluate_every": 500, "checkpoint_every": 100}
    common = {"evaluate": lambda nets, step: {"loss": -step}, "watch": watch}
    with pytest.raises(Killed):
        run(source, sink=sink, hooks=Hooks(report=die, **common), **settings)
    sink.wait()
    totals: list[int] = []
    again = Hooks(report=lambda s: totals.append(s.steps), **common)
    resumed = run(source, sink=Checkpoints(str(tmp_path)), hooks=again, **settings)
    assert same(whole, resumed) and resumed.length == 600 and set(totals) == {600}


def test_early_stopping_keeps_the_best_weights(source: Resident) -> None:
    scores, kept = iter([0.2, 0.9, 0.8, 0.7, 0.6, 0.99]), {}

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


def test_nan_is_rolled_back_three_times_then_refused(source: Resident, tmp_path: Path) -> None:
    source.arrays["x"][source._order(0)[30]] = np.nan  # the row of step 30 of the first epoch
    seen: list[Status] = []
    text = "step 36: fit.error = nan: not a finite number, again after 3 returns"
    with pytest.raises(QualityError, match=text):
        hooks, sink = Hooks(report=seen.append), Checkpoints(str(tmp_path))
        run(source, sink=sink, batch_size=1, steps=200, checkpoint_every=12, hooks=hooks)
    told = [s.incident for s in seen if s.incident]
    assert [text.partition("; ")[2] for text in told] == [
        f"back to step 24 at {rate} of the learning rate" for rate in ("0.2", "0.04", "0.008")
    ]


def test_a_learning_rate_that_explodes_is_lowered(source: Resident, caplog: pytest.LogCaptureFixture) -> None:
    source.arrays["x"] *= np.float32(1e30)  # a square of this is infinite
    with pytest.raises(QualityError, match="again after 3 returns"):
        run(source, steps=80)
    assert "back to step 0 at 0.2 of the learning rate" in caplog.text


def test_a_run_that_loses_what_it_had_goes_back_to_it(source: Resident, tmp_path: Path) -> None:
    """Step 60 is bad at the first rate and at a fifth of it, and good at a twenty-fifth."""
    kept: dict[float, torch.Tensor] = {}
    seen: list[Status] = []

    def evaluate(nets: Any, step: int) -> dict[str, float]:
        tries = sum(bool(s.incident) for s in seen)
        found = {20: 0.3, 40: 0.6, 60: 0.2 if tries < 2 else 0.7, 80: 0.65, 100: 0.1}[step]
        kept[found] = nets["model"][0].weight.clone()
        return {"fidelity": found}

    hooks = Hooks(report=seen.append, evaluate=evaluate)
    sink = Checkpoints(str(tmp_path))
    result = run(source, sink=sink, steps=100, evaluate_every=20, checkpoint_every=50, hooks=hooks)
    assert [s.incident for s in seen if s.incident] == list(result.incidents)
    assert [text.partition("; ")[2] for text in result.incidents] == [
        "back to step 40 at 0.2 of the learning rate",
        "back to step 40 at 0.04 of the learning rate",
    ]
    assert "it was 0.60 at step 40" in result.incidents[0]
    assert (result.stopped, result.steps, result.step, result.rollbacks) == ("steps", 100, 60, 2)
    assert result.metrics["fidelity"] == 0.7
    assert torch.equal(result.weights["model.0.weight"], kept[0.7])


def test_a_run_that_falls_again_and_again_ends_with_its_best(source: Resident, tmp_path: Path) -> None:
    hooks = Hooks(evaluate=lambda nets, step: {"fidelity": 0.6 if step == 20 else 0.1})
    result = run(source, sink=Checkpoints(str(tmp_path)), steps=100, evaluate_every=20, hooks=hooks)
    assert (result.stopped, result.step, result.metrics["fidelity"]) == ("divergence", 20, 0.6)
    assert len(result.incidents) == 4 and "stopped after 3 returns, with step 20" in result.incidents[-1]


def test_without_checkpoints_it_starts_anew_and_keeps_its_best(source: Resident) -> None:
    found = iter([0.6, 0.1, 0.35, 0.1, *[0.35] * 4])
    result = run(
        source, steps=80, evaluate_every=20, hooks=Hooks(evaluate=lambda *_: {"fidelity": next(found)})
    )
    assert (result.step, result.metrics["fidelity"], result.rollbacks) == (20, 0.6, 2)


def test_a_run_that_learns_nothing_in_half_of_its_steps_starts_anew(source: Resident, tmp_path: Path) -> None:
    seen: list[Status] = []

    def evaluate(nets: Any, step: int) -> dict[str, float]:
        return {"fidelity": 0.02 if not any(s.incident for s in seen) else step / 1000}

    hooks, sink = Hooks(report=seen.append, evaluate=evaluate), Checkpoints(str(tmp_path))
    result = run(source, sink=sink, steps=300, evaluate_every=50, checkpoint_every=40, hooks=hooks)
    assert list(result.incidents) == [
        "step 150: fidelity = 0.02: nothing is learnt after half of 300 steps; back to step 0 at 0.2 of the"
        " learning rate"
    ]
    assert result.metrics["fidelity"] == 0.3 and result.stopped == "steps"


def test_what_comes_after_a_return_is_the_same_after_a_kill(source: Resident, tmp_path: Path) -> None:
    """Killed after the return and before the next checkpoint, and once more after it."""

    def evaluate(nets: Any, step: int) -> dict[str, float]:
        moved = float((nets["model"][0].weight - start).abs().max())
        return {"fidelity": 0.6 if step <= 20 else 0.1 if moved > limit else 0.7}

    with torch.random.fork_rng(devices=[]):
        start = run(source, steps=1, learning_rate=1e-12).weights["model.0.weight"]
    limit = 0.075
    settings: dict[str, Any] = {
        "steps": 100,
        "evaluate_every": 20,
        "checkpoint_every": 25,
        "learning_rate": 2e-3,
    }
    whole = run(source, sink=Checkpoints(str(tmp_path / "whole")), hooks=Hooks(evaluate=evaluate), **settings)
    assert whole.rollbacks and whole.stopped == "steps"
    for stop_at in (45, 62, 90):
        folder, made = str(tmp_path / str(stop_at)), []

        def killed(status: Status, made: list[int] = made, stop_at: int = stop_at) -> None:
            made.append(status.step)
            if len(made) == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(source, sink=Checkpoints(folder), hooks=Hooks(evaluate=evaluate, report=killed), **settings)
        again = run(source, sink=Checkpoints(folder), hooks=Hooks(evaluate=evaluate), **settings)
        assert same(again, whole) and again.incidents == whole.incidents


def test_samples_that_are_all_alike_are_refused(source: Resident) -> None:
    hooks = Hooks(evaluate=lambda nets, step: {"fidelity": 0.9, "spread": 0.0})
    with pytest.raises(QualityError, match="mode collapse"):
        run(source, evaluate_every=10, hooks=hooks)


def test_bfloat16_trains_too(source: Resident) -> None:
    seen: list[Status] = []
    result = run(source, steps=200, precision="bfloat16", hooks=Hooks(report=seen.append))
    assert result.metrics["fit.error"] < 0.3 * seen[9].metrics["fit.error"]
    assert not same(result, run(source, steps=200))
