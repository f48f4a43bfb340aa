"""train: fit a recipe to a dataset and keep the best generator as a bundle.

Writes <store>/runs/<name>-<run id>/
    checkpoints/        trainer state, see training/checkpoint.py
    bundle-<content>/   the generator, see bundle/
    history.json        metrics of each evaluation
    result.json         created last: a run without one is unfinished

The run id is a hash of the request (dataset content, recipe, seed, budget, tag, code version), so the same
request is the same run: finished, it returns at once; interrupted, it goes on from its newest checkpoint.
Two processes that run the same request at once need no lock: they write under different names, come to the
same result, and the one that creates result.json first is believed by both.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from genpipe import store
from genpipe.codecs.base import VERSION
from genpipe.dataset import Dataset
from genpipe.errors import UsageError
from genpipe.progress import Event, Progress, silent
from genpipe.recipe import Recipe, check, plugins_of
from genpipe.recipes import parse_recipe
from genpipe.requests import Train
from genpipe.settings import Settings, read_settings
from genpipe.stages.checked import learnt_before, told
from genpipe.stages.prepare import prepare, protected
from genpipe.stages.train.earlier import Earlier, earlier_model
from genpipe.stages.train.process import TrainedModel, TrainingJob, execute, result_of
from genpipe.stages.train.refit import Refit, refit, whole
from genpipe.suited import fitted_to, for_length, penalised, shortened
from genpipe.training.device import resolve_device
from genpipe.version import __version__


def train(asked: Train, *, progress: Progress = silent) -> TrainedModel:
    """Train a generator; returns the finished run, at once if this request was trained before.

    final: "all" trains a twin so, and then one on all rows by what was settled, which is returned (refit.py).
    Raises QualityError on divergence, UsageError where recipe and data or workers and CPUs do not fit.
    """
    dataset = Dataset(asked.dataset)
    if asked.from_model:
        if asked.final == "all":
            found, fix = "a model to go on from, and final=all", "leave one of them out"
            raise UsageError("FINAL", where="final", found=found, expected="one of them", fix=fix)
        earlier = earlier_model(asked.from_model, asked.recipe, dataset)
        steps, note = earlier.recipe.training.steps, learnt_before(earlier.origin)
        progress(Event("train", 0, steps, "steps", note=note))
        return train_as(dataset, earlier.recipe, asked, progress=progress, earlier=earlier)
    chosen = parse_recipe(asked.recipe, dataset.schema.kind)
    check(chosen, dataset.schema)
    fitted = fitted_to(chosen, dataset.rows("train"))
    if chosen.kind == "text":
        fitted = for_length(fitted, prepare(dataset, chosen.codec, progress=progress).spec(chosen.layout))
    made = train_as(dataset, fitted, asked, progress=progress)
    if asked.final == "train":
        return made
    every = whole(dataset)
    again, asked = refit(made, dataset, every), asked.model_copy(update={"minutes": None})
    return train_as(every, again.recipe, asked, again=again, progress=progress)


def train_as(
    dataset: Dataset,
    chosen: Recipe,
    asked: Train,
    *,
    earlier: Earlier | None = None,
    again: Refit | None = None,
    progress: Progress = silent,
) -> TrainedModel:
    """`train` by a recipe that fits the data already, such as that of another bundle. earlier: whose weights
    it goes on from. again: on all rows.
    """
    settings = read_settings()
    origin: dict[str, Any] = {
        "stage": "train",
        "name": store.check_name(asked.name or dataset.name),
        "dataset_fingerprint": dataset.fingerprint,
        **asked.identity(),
        "code": __version__,
        "codec": VERSION,
    }
    if earlier:
        origin |= earlier.origin
    if plugins := plugins_of(chosen):
        origin["plugins"] = plugins
    if again:
        origin |= again.origin
    run_id = store.digest([origin, chosen.model_dump(mode="json")])
    run = store.join(settings.store, "runs", f"{origin['name']}-{run_id[:10]}")
    if (done := result_of(run)) is not None:
        progress(Event("train", done.steps, done.steps, "steps", done.metrics, note="already trained"))
        return done if again else told(dataset, done, progress)
    codec = earlier.codec if earlier else prepare(dataset, chosen.codec, progress=progress)
    hidden = None if earlier else protected(dataset, chosen.codec)
    spec = codec.spec(chosen.layout)
    chosen = shortened(penalised(chosen, dataset.rows("train"), spec), spec)
    job = TrainingJob(
        run=run,
        name=str(origin["name"]),
        dataset=dataset.uri,
        recipe=chosen.model_dump(mode="json"),
        # through the bytes a bundle will hold, so that training and sampling read the very same codec
        codec=json.loads(store.canonical(codec.to_json())),
        seed=asked.seed,
        minutes=asked.minutes,
        device=settings.device,
        cpus=settings.cpus,
        begins=earlier.uri if earlier else "",
        origin=origin
        | {"run_id": run_id, "dataset_uri": dataset.uri, "rows": dataset.rows("train")}
        | ({"protected": hidden} if hidden else {})
        | (again.places if again else {}),
        until=again.until if again else None,
        metrics=again.metrics if again else None,
    )
    store.create(store.join(run, "request.json"), store.canonical(job.origin | {"begins": job.begins}))
    made = run_job(job, asked.workers, progress, settings)
    return made if again else told(dataset, made, progress)


def run_job(job: TrainingJob, workers: int, progress: Progress, settings: Settings) -> TrainedModel:
    """Here, or on Ray; either way the result is read back from the run."""
    if workers == 0:
        execute(replace(job, device=resolve_device(job.device)), emit=progress)
    else:
        from genpipe.stages.train.workers import on_ray

        on_ray(job, workers, progress, settings)
    done = result_of(job.run)
    assert done is not None, "a job that returns has created result.json"
    total = int(job.recipe["training"]["steps"])
    best = f"best at step {done.steps}" if job.metrics is None else "all rows learnt; its twin's scores"
    note = "; ".join([best] * bool(done.steps) + [*done.incidents])
    progress(Event("train", total, total, "steps", done.metrics, note=note))
    return done
