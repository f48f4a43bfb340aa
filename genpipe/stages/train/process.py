"""What a training process does: open the data and the checkpoints, fit, and publish the result.

`execute` runs the same in this process, in a Ray Train worker and in a trial of a search.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from genpipe import store
from genpipe.codecs import CODECS
from genpipe.dataset import Dataset
from genpipe.errors import ConflictError
from genpipe.progress import Event, Progress
from genpipe.recipe import Recipe, make_family

REPORT_SECONDS = 0.25
FORECAST_AFTER, FORECAST_FOR, SOON = 2.0, 12.0, 120.0  # seconds; what ends sooner needs no forecast
Evaluated = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class TrainedModel:
    """uri: the bundle. steps: of the weights kept. incidents: what went wrong in training, and what was done.
    `str(model)` is the bundle's URI.
    """

    uri: str
    run: str
    name: str
    metrics: Mapping[str, float]
    steps: int
    seconds: float
    dataset_uri: str
    incidents: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True)
class TrainingJob:
    """Everything a training process must know, as JSON: it opens the rest itself.

    device: the wish (auto, cpu or cuda), until who starts the process has chosen. cpus: for its threads.
    until, metrics: of a twin that was judged by held-out rows, where this one learns them, too (refit.py):
    the last step, and the scores that are known.
    begins: the bundle whose weights it goes on from, if any.
    """

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
    until: int | None = None
    metrics: dict[str, float] | None = None
    begins: str = ""


def execute(
    job: TrainingJob,
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

    from genpipe.suited import of_people
    from genpipe.training.checkpoint import Checkpoints
    from genpipe.training.data import open_source
    from genpipe.training.device import useful_threads
    from genpipe.training.distributed import Ranks
    from genpipe.training.finish import finished_fit
    from genpipe.training.loop import fit
    from genpipe.training.score import Scorer

    dataset = Dataset(job.dataset)
    recipe = of_people(Recipe.model_validate(job.recipe), dataset.schema)
    codec = CODECS[recipe.kind].from_json(dataset.schema, job.codec)
    spec, ranks = codec.spec(recipe.layout), Ranks.current(job.device)
    clock = _Clock(job.minutes)

    family = make_family(recipe, spec)
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, useful_threads(family, job.cpus)))
    try:
        scorer = partial(Scorer, family, dataset, codec, recipe.layout, seed=job.seed, device=job.device)
        judge = None if job.metrics is not None else scorer() if ranks.lead else _Nobody()
        sink = Checkpoints(job.run)
        if ranks.lead:
            sink.sweep()
        size, balance = recipe.training.batch_size, recipe.training.balance
        source = open_source(dataset, codec, recipe.layout, seed=job.seed, batch_size=size, balance=balance)
        result = fit(
            recipe,
            spec,
            source,
            weights=_weights(job.begins),
            seed=job.seed,
            ranks=ranks,
            device=job.device,
            sink=sink,
            report=clock.reporter(ranks.lead, emit, evaluated),
            evaluate=judge,
            should_stop=lambda: clock.over() or abandoned(),
            until=job.until,
            watch=judge.holdout_losses if judge else None,
        )
        if ranks.lead and not abandoned():
            result = finished_fit(result, family, source, spec, judge, seed=job.seed, device=job.device)
            publish(job, recipe, codec, result)
    finally:
        torch.set_num_threads(threads)


class _Nobody:
    """In place of a Scorer where none is asked."""

    def __call__(self, nets: Any, step: int = 0) -> dict[str, float]:
        raise AssertionError("only the lead evaluates")

    holdout_losses = __call__


def _weights(uri: str) -> Any:
    """Those of the bundle to go on from."""
    if not uri:
        return None
    from genpipe.bundle import Bundle

    return {role: net.state_dict() for role, net in Bundle.open(uri).nets.items()}


def publish(job: TrainingJob, recipe: Recipe, codec: Any, result: Any) -> None:
    """Save the bundle under a name made of its content, then create result.json."""
    from safetensors.torch import save

    from genpipe.bundle import save_bundle

    if recipe.training.schedule == "settle" and result.length:
        settled = recipe.training.model_copy(update={"steps": result.length})
        recipe = recipe.model_copy(update={"training": settled})
    metrics = {k: v for k, v in result.metrics.items() if v == v} if job.metrics is None else job.metrics
    uri = store.join(job.run, f"bundle-{store.digest(save(dict(result.weights)))[:8]}")
    origin = job.origin | {"step": result.step}
    if result.incidents:
        origin["incidents"] = "; ".join(result.incidents)
    save_bundle(uri, recipe=recipe, codec=codec, weights=result.weights, metrics=metrics, origin=origin)
    told = tuple(result.incidents)
    model = TrainedModel(uri, job.run, job.name, metrics, result.step, result.seconds, job.dataset, told)
    store.write_bytes(store.join(job.run, "history.json"), store.canonical(list(result.history)))
    more = {"steps_made": result.steps, "stopped": result.stopped, "rollbacks": result.rollbacks}
    with contextlib.suppress(ConflictError):  # another process finished the same run first: its result stands
        store.create(store.join(job.run, "result.json"), store.canonical(asdict(model) | more))


def result_of(run: str) -> TrainedModel | None:
    """The result of a run, if it has one."""
    where = store.join(run, "result.json")
    if not store.exists(where):
        return None
    told = store.read_json(where)
    known = {name: told[name] for name in TrainedModel.__dataclass_fields__ if name in told}
    return TrainedModel(**{**known, "incidents": tuple(told.get("incidents", ()))})


class _Clock:
    """Training seconds of this run so far, earlier attempts included, and when to speak."""

    def __init__(self, minutes: float | None) -> None:
        self.limit = float("inf") if minutes is None else 60 * minutes
        self.seconds = 0.0
        self._spoke, self._marks = 0.0, [(time.monotonic(), -1)]
        self._first: tuple[float, int] | None = None

    def reporter(self, lead: bool, emit: Progress, evaluated: Evaluated | None) -> Callable[[Any], None]:
        """What the loop calls after each step; see `execute`."""

        def report(status: Any) -> None:
            if status.incident:
                if lead:
                    emit(Event("train", status.step, status.steps, "steps", note=status.incident))
                return
            self.seconds = status.seconds
            if lead and self.due(status.step == status.steps or status.evaluated):
                note = f"{self.rate(status.step):.3g} steps/s"
                note = self.forecast(status.step, status.steps) or note
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

    def forecast(self, step: int, steps: int) -> str:
        """Said for seconds, as soon as the first steps tell: how long a long run takes on this machine and
        the memory it holds. By then every phase was played, so it holds what it will hold.
        """
        now = time.monotonic()
        began, first = self._first = self._first or (now, step)
        since = now - began
        if step == first or not FORECAST_AFTER <= since <= FORECAST_AFTER + FORECAST_FOR:
            return ""
        left = since / (step - first) * (steps - step)
        if left < SOON:
            return ""
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
        return (
            f"takes about {left / 60:.0f} min and {held / 2**30:.1f} GB of memory on this machine; "
            "minutes= ends it earlier, with the best so far"
        )

    def rate(self, step: int) -> float:
        """Steps a second over the last few reports."""
        self._marks = [*self._marks[-8:], (time.monotonic(), step)]
        then, first = next(((t, s) for t, s in self._marks if s >= 0))
        return (step - first) / max(1e-9, self._marks[-1][0] - then)
