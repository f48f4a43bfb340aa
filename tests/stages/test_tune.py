"""The search: trials recorded, stragglers stopped, searches resumed, winners by the stated rule."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import genpipe
from genpipe import store
from genpipe.errors import QualityError, UsageError
from genpipe.search_space import space
from genpipe.stages.placement import Need
from genpipe.stages.tune.study import Study, Trial
from genpipe.stages.tune.verb import _concurrency, _plan
from genpipe.verbs import tune

FAST = {"training.steps": [40], "training.evaluate_every": [10], "training.learning_rate": [0.001, 0.003]}


def study_of(folder: Path, trials: int = 3) -> Study:
    searched = space("tabular", vary=FAST)
    return Study(str(folder), "s", "", searched, _plan(searched, trials, 0), 0, 0, {})


def trial(number: int, fidelity: float | None, seconds: float = 1.0, state: str = "finished") -> Trial:
    metrics = {} if fidelity is None else {"fidelity": fidelity}
    return Trial(
        number=number, choices={"recipe": "tabular_vae"}, state=state, metrics=metrics, seconds=seconds
    )


def test_the_plan_is_the_seeds_and_covers_every_recipe() -> None:
    searched = space("tabular")
    plan = _plan(searched, 15, 0)
    assert plan == _plan(searched, 15, 0) != _plan(searched, 15, 1)
    assert {p["recipe"] for p in plan} == set(searched.recipes)
    assert len({json.dumps(p, sort_keys=True, default=str) for p in plan}) == 15
    assert len({p["family.adversarial"] for p in plan if p["recipe"] == "tabular_gan"}) == 3


def test_the_winner_is_the_best_and_among_equals_the_quickest(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    for t in (trial(0, 0.8, seconds=9), trial(1, 0.7990, seconds=2), trial(2, 0.99, state="failed")):
        study.record(t)
    assert study.choose(1.0).best_trial == 1


def test_a_search_without_a_usable_model_is_refused(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    study.record(trial(0, None, state="failed"))
    with pytest.raises(QualityError, match="no trial of 3 gave a usable model"):
        study.choose(1.0)


def test_cpus_are_counted_before_anything_starts() -> None:
    need, four = Need(memory=0), [{"CPU": 4.0}]
    assert _concurrency(0, need, four) == 4
    assert _concurrency(2, need, four) == 2
    with pytest.raises(UsageError, match=r"3 workers, one CPU each, on a cluster of 2 CPUs.*at most 2"):
        _concurrency(3, need, [{"CPU": 2.0}])


def test_trials_are_recorded_logged_and_not_repeated(home: Path, ray_cluster: Any) -> None:
    from mlflow import MlflowClient

    dataset = genpipe.ingest("builtin:titanic")
    events: list[Any] = []
    # the last learning rate must blow up: a failed trial is a row of the board, not the end of the search
    vary = FAST | {"training.learning_rate": [0.002, 9.0]}
    result = tune(dataset, recipes=["tabular_vae"], vary=vary, trials=2, progress=events.append)
    assert [t.number for t in result.trials] == [0, 1]
    assert result.best_metrics["fidelity"] == max(t.score for t in result.trials if t.state != "failed")
    assert all(t.history for t in result.trials if t.state == "finished")
    assert events[-1].done == events[-1].total == 2
    assert tune(dataset, recipes=["tabular_vae"], vary=vary, trials=2) == result
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    parents = [r for r in runs if r.data.tags.get("level") == "study"]
    nested = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(parents) == 1 and {r.data.tags["trial"] for r in nested} == {"0", "1"}


def test_trees_are_searched_by_what_they_have_and_scored_after_their_fit(
    home: Path, ray_cluster: Any
) -> None:
    dataset = genpipe.ingest("builtin:titanic")
    result = tune(dataset, recipes=["tabular_trees"], vary={"leaf_minimum": [20, 400]}, trials=2)
    scores = {t.choices["family.leaf_minimum"]: t.score for t in result.trials}
    assert all(t.state in ("finished", "stopped") for t in result.trials)
    assert scores[20] > scores[400] > 0 and result.best.family.leaf_minimum == 20  # type: ignore[union-attr]


@pytest.mark.slow
def test_trials_of_several_workers_take_turns_and_a_stopped_one_frees_its_cpus(
    home: Path, ray_cluster: Any
) -> None:
    import ray

    dataset = genpipe.ingest("builtin:titanic")
    # the second learning rate learns next to nothing, so that ASHA stops it at its first report
    vary = FAST | {"training.learning_rate": [0.001, 1e-5]}
    result = tune(dataset, recipes=["tabular_vae"], vary=vary, trials=2, workers=2)
    states = {t.choices["training.learning_rate"]: t.state for t in result.trials}
    assert states == {0.001: "finished", 1e-5: "stopped"}
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources().get("CPU") == 2


@pytest.mark.faults
def test_an_interrupted_search_trains_only_what_is_missing(home: Path) -> None:
    code = (
        "import genpipe\n"
        "d = genpipe.ingest('builtin:titanic')\n"
        "vary = {'training.steps': [200], 'evaluate_every': [100], 'learning_rate': [.001, .002, .003]}\n"
        "r = genpipe.tune(d, recipes=['tabular_vae'], vary=vary, trials=3)\n"
        "print(r.uri, len(r.trials))\n"
    )
    environment = os.environ | {"GENPIPE_HOME": str(home), "GENPIPE_CPUS": "1"}
    command = [sys.executable, "-c", code]
    first = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline, done = time.monotonic() + 150, []
    while not done and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.1)
        done = list(home.glob("store/studies/*/trials/*.json"))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert 1 <= len(done) < 3, "the kill must fall between two trials"
    kept = {p: p.read_bytes() for p in done}
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=True)
    uri, count = again.stdout.splitlines()[-1].split()
    assert count == "3" and store.exists(store.join(uri, "result.json"))
    assert {p: p.read_bytes() for p in done} == kept
