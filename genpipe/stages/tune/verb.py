"""Search losses, architectures and sizes on Ray Tune; every trial is the same training function.

The plan (which trials, with which choices) is drawn up front from the seed and written down; each finished
trial is recorded on its own. So an interrupted search, run again, trains only what is not recorded, and reads
back no pickled searcher state. Trials that lag behind are stopped early by ASHA (Li et al. 2020, "A System
for Massively Parallel Hyperparameter Tuning", algorithm 2).

Writes <store>/studies/<name>-<id>/{plan.json, trials/NNN.json, result.json}.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from genpipe import store
from genpipe.codecs.base import VERSION
from genpipe.dataset import Dataset
from genpipe.errors import GenpipeError, InfrastructureError
from genpipe.progress import Event, Progress, silent
from genpipe.requests import Train, Tune
from genpipe.search_space import SearchSpace, space
from genpipe.seeds import derive, numpy_rng
from genpipe.settings import read_settings
from genpipe.stages.checked import tuning_note
from genpipe.stages.cluster import connect, while_alive
from genpipe.stages.heartbeat import beating, watched
from genpipe.stages.placement import Need, Nodes, check_workers, chosen_device, nodes, room
from genpipe.stages.ray_internals import training_thread
from genpipe.stages.train.verb import train
from genpipe.stages.tune.study import METRIC, Study, Trial, TuneResult
from genpipe.training.device import check_gpu
from genpipe.version import __version__

STOP_SECONDS = 90  # for a stopped trial to end by itself


def tune(asked: Tune, *, progress: Progress = silent) -> TuneResult:
    """Search the recipes of the dataset's kind; returns the winning recipe and the leaderboard.

    Raises UsageError where the cluster is too small, QualityError where no trial gave a usable model.
    """
    dataset, trials, seed = Dataset(asked.dataset), asked.trials, asked.seed
    searched = space(dataset.schema.kind, recipes=asked.recipes, vary=asked.vary)
    name = store.check_name(asked.name or dataset.name)
    code = [__version__, VERSION]
    request = [dataset.fingerprint, searched.describe(), trials, asked.minutes, seed, asked.workers, code]
    uri = store.join(read_settings().store, "studies", f"{name}-{store.digest(request)[:10]}")
    if store.exists(store.join(uri, "result.json")):
        return TuneResult.model_validate(store.read_json(store.join(uri, "result.json")))
    plan = _plan(searched, trials, seed)
    store.create(store.join(uri, "plan.json"), store.canonical({"request": request, "trials": plan}))
    settings = read_settings()
    environment = {
        "GENPIPE_HOME": str(settings.home),
        "GENPIPE_STORE": settings.store,
        "RAY_ADDRESS": settings.ray_address,
    }
    study = Study(uri, name, dataset.uri, searched, plan, seed, asked.workers, environment)
    began = time.monotonic()
    done = study.recorded()
    notes = [tuning_note(dataset), "resumed" if done else ""]
    progress(Event("tune", len(done), trials, "trials", note="; ".join(filter(None, notes))))
    if len(done) < trials:
        _search(study, [n for n in range(trials) if n not in done], asked.minutes, progress)
    result = study.choose(time.monotonic() - began)
    store.create(store.join(uri, "result.json"), result.model_dump_json(indent=1).encode())
    return result


def _plan(searched: SearchSpace, trials: int, seed: int) -> tuple[dict[str, Any], ...]:
    """`trials` different draws, where the space has so many; choices of few values are covered first."""
    plan: list[dict[str, Any]] = []
    for number in range(trials):
        for attempt in range(20):
            draw = searched.sample(numpy_rng(seed, "trial", number, attempt), number=number)
            if draw not in plan:
                break
        plan.append(draw)
    return tuple(plan)


def _concurrency(workers: int, need: Need, nodes: Nodes) -> int:
    """How many trials fit at once; trials x workers never exceed the cluster, so that none waits for ever."""
    nodes = list(nodes)
    check_workers(max(1, workers), need, nodes)
    return room(need, nodes) // max(1, workers)


def _search(study: Study, numbers: Sequence[int], minutes: float | None, progress: Progress) -> None:
    connect()
    settings, there = read_settings(), nodes()
    device = chosen_device(settings, there)
    need = Need(gpus=1 if device == "cuda" else 0)
    concurrent = _concurrency(study.workers, need, there)
    study = replace(study, environment=study.environment | {"GENPIPE_DEVICE": device})
    from ray import tune as ray_tune

    from genpipe.stages.tune.leaderboard import Leaderboard

    board = Leaderboard(study, progress)
    # a traceback for each trial whose process ends, of Ray's own code; the board says which and why
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

    def trial(config: dict[str, Any]) -> None:  # with_parameters puts into Ray's store: see ByValue
        _trial(config, study)

    # a trial with Ray Train workers of its own leaves them every CPU: with 0.01 of one, both wait for ever;
    # Tune wants some resource named, and a byte of memory is always there
    resources: dict[str, float] = need.resources if study.workers == 0 else {"CPU": 0, "memory": 1}
    # a fresh name each time: Ray resumes a name it has seen, and our records already do that
    scratch = settings.home / "ray" / uuid.uuid4().hex
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(_patient(trial), resources),
        param_space={"number": ray_tune.grid_search(list(numbers))},
        tune_config=ray_tune.TuneConfig(
            metric=METRIC,
            mode="max",
            scheduler=ray_tune.schedulers.ASHAScheduler(
                time_attr="percent", max_t=100, grace_period=25, reduction_factor=2
            ),
            max_concurrent_trials=concurrent,
            time_budget_s=None if minutes is None else 60 * minutes,
            reuse_actors=study.workers == 0,
        ),
        run_config=ray_tune.RunConfig(
            name=scratch.name,
            storage_path=str(scratch.parent),
            callbacks=[board],
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=1),
        ),
    )
    try:
        with watched(study.uri):
            while_alive(tuner.fit)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if board.lost and not any(t.metrics for t in study.recorded().values()):
        raise board.all_lost()


def _patient(function: Any) -> type:
    """A trainable that, when stopped, waits for its function to end before Ray Tune ends its process.

    A trial with Ray Train workers needs the time to release them: a killed one leaves their placement group
    behind, for which every later trial would wait.
    """
    from ray.tune.trainable import wrap_function

    class Patient(wrap_function(function)):  # type: ignore[misc]
        def cleanup(self) -> None:
            thread = training_thread()
            super().cleanup()
            if thread is not None:
                thread.join(timeout=STOP_SECONDS)

    return Patient


def _trial(config: dict[str, Any], study: Study) -> None:
    """One trial, in its own process: train the recipe of its choices, reporting every evaluation."""
    from ray import tune as ray_tune

    number, began = config["number"], time.monotonic()
    if study.trial(number) is not None:
        return  # recorded by an earlier attempt of this trial
    os.environ.update(study.environment)  # Ray's processes run in folders of their own
    if study.workers == 0:
        check_gpu(study.environment["GENPIPE_DEVICE"])
    recipe = study.space.recipe(study.plan[number])
    history: list[tuple[int, float]] = []

    def report(event: Event) -> None:
        scored = event.done % recipe.training.evaluate_every == 0 or event.done == event.total
        if METRIC not in event.metrics or not scored or (history and event.done <= history[-1][0]):
            return
        history.append((int(event.done), event.metrics[METRIC]))
        # 100 ends a trial at once, so it is said only after the trial's record is made
        percent = max(1, min(99, round(100 * event.done / (event.total or 1))))
        ray_tune.report({**event.metrics, "percent": percent, "step": int(event.done), "number": number})

    common: dict[str, Any] = {"number": number, "choices": study.plan[number]}
    try:
        asked = Train.of(
            dataset=study.dataset,
            recipe=recipe,
            workers=study.workers,
            seed=derive(study.seed, "trial", number),
            name=f"{study.name[:50]}-trial{number:03d}",
            tag=study.uri.rsplit("/", 1)[1],
        )
        with beating(study.uri):
            model = train(asked, progress=report)
    except InfrastructureError:
        raise  # no verdict on the trial: Ray tries again, and so does a rerun of the search
    except GenpipeError as error:
        seconds = time.monotonic() - began
        study.record(
            Trial(**common, state="failed", history=tuple(history), seconds=seconds, error=str(error))
        )
        raise
    seconds = time.monotonic() - began
    study.record(
        Trial(
            **common, state="finished", metrics=dict(model.metrics), history=tuple(history), seconds=seconds
        )
    )
    ray_tune.report({**model.metrics, "percent": 100, "step": model.steps, "number": number})
