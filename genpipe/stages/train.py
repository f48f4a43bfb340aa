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

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from genpipe import __version__, store
from genpipe.codecs import CODECS
from genpipe.codecs.base import VERSION
from genpipe.dataset import Dataset
from genpipe.errors import ConflictError, UsageError
from genpipe.progress import Event, Progress, silent
from genpipe.recipe import Recipe, check, fitted_to, penalised
from genpipe.recipes import parse_recipe
from genpipe.settings import Settings, read_settings
from genpipe.stages.checked import told
from genpipe.stages.prepare import prepare, protected
from genpipe.training.device import resolve_device

REPORT_SECONDS = 0.25
Evaluated = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class TrainedModel:
    """uri: the bundle. steps: of the weights kept. `str(model)` is the bundle's URI."""

    uri: str
    run: str
    name: str
    metrics: Mapping[str, float]
    steps: int
    seconds: float
    dataset_uri: str

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True)
class Job:
    """Everything a training process must know, as JSON: it opens the rest itself."""

    run: str
    name: str
    dataset: str
    recipe: dict[str, Any]
    codec: dict[str, Any]
    seed: int
    minutes: float | None
    device: str
    cpus: int
    origin: dict[str, Any] = field(default_factory=dict)


def train(
    dataset: Dataset | str,
    *,
    recipe: Recipe | str | Mapping[str, Any] | None = None,
    workers: int = 0,
    seed: int = 0,
    name: str | None = None,
    minutes: float | None = None,
    tag: str = "",
    progress: Progress = silent,
) -> TrainedModel:
    """Train a generator; returns the finished run, at once if this request was trained before.

    recipe: a name, a mapping of changes to one, or None for the default of the data's kind.
    workers: 0 in this process; 1 or more as Ray Train workers, which share each global batch.
    minutes: stop after this long, keeping the best so far. tag: any text; makes an equal request another run.
    Raises QualityError on divergence, UsageError where recipe and data or workers and CPUs do not fit.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    check_numbers(workers, seed, minutes)
    chosen = parse_recipe(dict(recipe) if isinstance(recipe, Mapping) else recipe, dataset.schema.kind)
    check(chosen, dataset.schema)
    chosen = fitted_to(chosen, dataset.rows("train"))
    return train_as(
        dataset, chosen, workers=workers, seed=seed, name=name, minutes=minutes, tag=tag, progress=progress
    )


def train_as(
    dataset: Dataset,
    chosen: Recipe,
    *,
    workers: int = 0,
    seed: int = 0,
    name: str | None = None,
    minutes: float | None = None,
    tag: str = "",
    progress: Progress = silent,
) -> TrainedModel:
    """`train` by a recipe that fits the data already, such as that of another bundle."""
    settings = read_settings()
    origin = {
        "stage": "train",
        "name": store.check_name(name or dataset.name),
        "dataset_fingerprint": dataset.fingerprint,
        "seed": seed,
        "minutes": minutes,
        "tag": tag,
        "code": __version__,
        "codec": VERSION,
    }
    run_id = store.digest([origin, chosen.model_dump(mode="json")])
    run = store.join(settings.store, "runs", f"{origin['name']}-{run_id[:10]}")
    if (done := finished(run)) is not None:
        progress(Event("train", done.steps, done.steps, "steps", done.metrics, note="already trained"))
        return told(dataset, done, progress)
    codec = prepare(dataset, chosen.codec, progress=progress)
    hidden = protected(dataset, chosen.codec)
    chosen = penalised(chosen, dataset.rows("train"), codec.spec(chosen.layout))
    job = Job(
        run=run,
        name=str(origin["name"]),
        dataset=dataset.uri,
        recipe=chosen.model_dump(mode="json"),
        # through the bytes a bundle will hold, so that training and sampling read the very same codec
        codec=json.loads(store.canonical(codec.to_json())),
        seed=seed,
        minutes=minutes,
        device=resolve_device(settings.device),
        cpus=1 if workers else settings.cpus,
        origin=origin
        | {"run_id": run_id, "dataset_uri": dataset.uri, "rows": dataset.rows("train")}
        | ({"protected": hidden} if hidden else {}),
    )
    return told(dataset, run_job(job, workers, progress, settings), progress)


def run_job(job: Job, workers: int, progress: Progress, settings: Settings) -> TrainedModel:
    """Here, or on Ray; either way the result is read back from the run."""
    if workers == 0:
        execute(job, emit=progress)
    else:
        from genpipe.stages.workers import on_ray

        on_ray(job, workers, progress, settings)
    done = finished(job.run)
    assert done is not None, "a job that returns has created result.json"
    total = int(job.recipe["training"]["steps"])
    note = f"best at step {done.steps}" if done.steps else ""
    progress(Event("train", total, total, "steps", done.metrics, note=note))
    return done


def execute(
    job: Job,
    *,
    emit: Progress,
    evaluated: Evaluated | None = None,
    abandoned: Callable[[], bool] = lambda: False,
) -> None:
    """What every training process does: open data and checkpoints, fit, and (the lead) publish the result.

    emit: hears of the lead's progress a few times a second. evaluated: called on all ranks at the same steps.
    abandoned: asked every few steps; true ends the job with a checkpoint and without a result.
    """
    import torch

    from genpipe.recipe import make_family
    from genpipe.training.checkpoint import Checkpoints
    from genpipe.training.data import open_source
    from genpipe.training.device import useful_threads
    from genpipe.training.distributed import Ranks
    from genpipe.training.finish import finished_fit
    from genpipe.training.loop import Evaluate, fit
    from genpipe.training.score import Scorer

    dataset, recipe = Dataset(job.dataset), Recipe.model_validate(job.recipe)
    codec = CODECS[recipe.kind].from_json(dataset.schema, job.codec)
    spec, ranks = codec.spec(recipe.layout), Ranks.current(job.device)
    clock = _Clock(job.minutes)

    family = make_family(recipe, spec)
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, useful_threads(family, job.cpus)))
    try:
        scorer = partial(Scorer, family, dataset, codec, recipe.layout, seed=job.seed, device=job.device)
        score: Evaluate = scorer() if ranks.lead else _nobody
        sink = Checkpoints(job.run)
        if ranks.lead:
            sink.sweep()
        size, balance = recipe.training.batch_size, recipe.training.balance
        source = open_source(dataset, codec, recipe.layout, seed=job.seed, batch_size=size, balance=balance)
        result = fit(
            recipe,
            spec,
            source,
            seed=job.seed,
            ranks=ranks,
            device=job.device,
            sink=sink,
            report=clock.reporter(ranks.lead, emit, evaluated),
            evaluate=score,
            should_stop=lambda: clock.over() or abandoned(),
        )
        if ranks.lead and not abandoned():
            result = finished_fit(result, family, source, spec, score, seed=job.seed, device=job.device)
            publish(job, recipe, codec, result)
    finally:
        torch.set_num_threads(threads)


def _nobody(nets: Any, step: int) -> dict[str, float]:
    raise AssertionError("only the lead evaluates")


def publish(job: Job, recipe: Recipe, codec: Any, result: Any) -> None:
    """Save the bundle under a name made of its content, then create result.json."""
    from safetensors.torch import save

    from genpipe.bundle import save_bundle

    metrics = {k: v for k, v in result.metrics.items() if v == v}
    uri = store.join(job.run, f"bundle-{store.digest(save(dict(result.weights)))[:8]}")
    origin = job.origin | {"step": result.step}
    save_bundle(uri, recipe=recipe, codec=codec, weights=result.weights, metrics=metrics, origin=origin)
    model = TrainedModel(uri, job.run, job.name, metrics, result.step, result.seconds, job.dataset)
    store.write_bytes(store.join(job.run, "history.json"), store.canonical(list(result.history)))
    more = {"steps_made": result.steps, "stopped": result.stopped, "rollbacks": result.rollbacks}
    with contextlib.suppress(ConflictError):  # another process finished the same run first: its result stands
        store.create(store.join(job.run, "result.json"), store.canonical(asdict(model) | more))


def finished(run: str) -> TrainedModel | None:
    """The result of a run, if it has one."""
    where = store.join(run, "result.json")
    if not store.exists(where):
        return None
    told = store.read_json(where)
    return TrainedModel(**{name: told[name] for name in TrainedModel.__dataclass_fields__})


def check_numbers(workers: int, seed: int, minutes: float | None) -> None:
    if workers < 0:
        raise UsageError("WORKERS", where="workers", found=str(workers), expected="0 (this process) or more")
    if seed < 0:
        raise UsageError("SEED", where="seed", found=str(seed), expected="a whole number of at least 0")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise UsageError("MINUTES", where="minutes", found=str(minutes), expected="a number above 0, or none")


class _Clock:
    """Training seconds of this run so far, earlier attempts included, and when to speak."""

    def __init__(self, minutes: float | None) -> None:
        self.limit = float("inf") if minutes is None else 60 * minutes
        self.seconds = 0.0
        self._spoke, self._marks = 0.0, [(time.monotonic(), -1)]

    def reporter(self, lead: bool, emit: Progress, evaluated: Evaluated | None) -> Callable[[Any], None]:
        """What the loop calls after each step; see `execute`."""

        def report(status: Any) -> None:
            self.seconds = status.seconds
            if lead and self.due(status.step == status.steps or status.evaluated):
                note = f"{self.rate(status.step):.3g} steps/s"
                emit(Event("train", status.step, status.steps, "steps", dict(status.metrics), note=note))
            if status.evaluated and evaluated:
                evaluated(status.metrics)

        return report

    def over(self) -> bool:
        return self.seconds >= self.limit

    def due(self, must: bool) -> bool:
        now = time.monotonic()
        if must or now - self._spoke >= REPORT_SECONDS:
            self._spoke = now
            return True
        return False

    def rate(self, step: int) -> float:
        """Steps a second over the last few reports."""
        self._marks = [*self._marks[-8:], (time.monotonic(), step)]
        then, first = next(((t, s) for t, s in self._marks if s >= 0))
        return (step - first) / max(1e-9, self._marks[-1][0] - then)
