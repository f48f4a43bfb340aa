"""A training job on Ray Train: data-parallel workers, restarted when one dies, resumed by a rerun.

Ray starts, watches and restarts the processes; what they remember is ours (training/checkpoint.py). Ray sees
metrics only, under a name it never saw before and in a scratch folder, because a known name silently resumes,
a store that fails under Ray's own checkpoints ends the run, and orphans of those are never removed.

Progress and errors come back through the cluster's key-value store (mailbox.py).
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from genpipe import errors, store
from genpipe.codecs import CODECS
from genpipe.dataset import Dataset
from genpipe.errors import GenpipeError, InfrastructureError
from genpipe.progress import Event, Progress
from genpipe.recipe import Recipe, make_family
from genpipe.settings import Settings
from genpipe.stages import mailbox
from genpipe.stages.cluster import check_alive, connect, is_gone
from genpipe.stages.heartbeat import beating, begin, watched
from genpipe.stages.placement import Need, check_workers, chosen_device, need_to_train, nodes
from genpipe.stages.ray_internals import (
    carry_by_value,
    cleaner_callback,
    controller_callback,
    dataset_callback,
    orphaned_groups,
)
from genpipe.stages.train.process import TrainingJob, execute
from genpipe.training.data import MEMORY_MB, row_bytes
from genpipe.training.device import parameters

WORKER_RESTARTS = 3  # of one attempt, by Ray: a worker died
PAUSES = (2.0, 10.0)  # seconds before another attempt: Ray itself failed
POLL_SECONDS = 0.25
STOP_SECONDS = 60  # for workers to hear that nobody waits for them any more
log = logging.getLogger("genpipe.train")


def on_ray(job: TrainingJob, workers: int, progress: Progress, settings: Settings) -> None:
    """Run a job on `workers` Ray Train workers until it has a result; `progress` is called in this thread."""
    connect(settings)
    job, need = placed(job, workers, settings)
    check_workers(workers, need, nodes())
    for pause in (*PAUSES, None):
        try:
            return _attempt(job, workers, need, progress, settings)
        except _RayFailed as failure:
            if pause is None:
                raise InfrastructureError(
                    "RAYTRAIN",
                    where=job.run,
                    found=f"{len(PAUSES) + 1} attempts failed; the last: {failure}",
                    expected=f"{workers} workers that stay alive",
                    fix=f"see {settings.logs} and the Ray session's logs; the same command resumes",
                ) from failure
            log.warning("%s: attempt failed (%s); resuming in %g s", job.run, failure, pause)
            time.sleep(pause)


class _RayFailed(Exception):
    """Ray could not bring an attempt to its end."""


def placed(job: TrainingJob, workers: int, settings: Settings) -> tuple[TrainingJob, Need]:
    """The job with its device chosen, and what each of its workers needs."""
    there = nodes()
    device = chosen_device(replace(settings, device=job.device), there)
    dataset, recipe = Dataset(job.dataset), Recipe.model_validate(job.recipe)
    spec = CODECS[recipe.kind].from_json(dataset.schema, job.codec).spec(recipe.layout)
    held = min(dataset.rows("train") * row_bytes(spec), MEMORY_MB * 2**20)
    weights = parameters(make_family(recipe, spec))
    need = need_to_train(held, weights, device, workers=workers, nodes=there)
    return replace(job, device=device, cpus=int(need.cpus)), need


def _attempt(job: TrainingJob, workers: int, need: Need, progress: Progress, settings: Settings) -> None:
    """One TorchTrainer, followed from this thread while it runs in another."""
    steps = job.recipe["training"]["steps"]
    progress(Event("train", 0, steps, "steps", note=f"starting {workers} workers"))
    key = uuid.uuid4().hex
    fit = _Fit(lambda: _trainer(job, workers, need, key, settings).fit(), key)
    last = None
    try:
        with watched(key):
            while fit.is_alive():
                fit.join(POLL_SECONDS)
                check_alive()
                if (told := fit.told) != last and told is not None:
                    last = told
                    progress(Event(**json.loads(told)))
    except BaseException:  # a trial that Ray Tune stops, or Ctrl-C: the workers must give their CPUs back
        if not is_gone():
            mailbox.put(f"{key}/stop", "")
            fit.join(STOP_SECONDS)
        raise
    finally:
        shutil.rmtree(_scratch(key, settings), ignore_errors=True)
    if store.exists(store.join(job.run, "result.json")):
        return
    if fit.posted is not None:
        raise _rebuilt(json.loads(fit.posted))
    check_alive(settled=True)
    release_orphans()
    raise _RayFailed(_first_line(fit.failure) if fit.failure else "no result") from fit.failure


class _Fit:
    """`work` in a thread of its own, as are all questions to Ray: they hang where its head is gone.

    told: the lead's newest progress; posted: an error of ours that a worker told; failure: what work raised.
    """

    def __init__(self, work: Callable[[], Any], key: str) -> None:
        self.told: str | None = None
        self.posted: str | None = None
        self.failure: BaseException | None = None
        self._work, self._key = work, key
        self._thread = threading.Thread(target=self._run, name="ray-train", daemon=True)
        self._thread.start()
        threading.Thread(target=self._listen, name="ray-train-progress", daemon=True).start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.failure = error
        with suppress(Exception):
            self.posted = mailbox.get(f"{self._key}/error")
            mailbox.forget(self._key)

    def _listen(self) -> None:
        with suppress(Exception):
            while self.is_alive():
                self.told = mailbox.get(f"{self._key}/progress") or self.told
                time.sleep(POLL_SECONDS)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)


def _trainer(job: TrainingJob, workers: int, need: Need, key: str, settings: Settings) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from genpipe.stages.train.process_group import torch_config

    scaling = ScalingConfig(num_workers=workers, use_gpu=need.gpus > 0, resources_per_worker=need.resources)
    return lean_trainer(key)(
        _worker,
        train_loop_config={"job": asdict(job), "key": key, "secret": secrets.token_hex()},
        torch_config=torch_config(_scratch(key, settings), settings),
        scaling_config=scaling,
        run_config=RunConfig(
            name=key,
            storage_path=str(_scratch(key, settings)),
            failure_config=FailureConfig(max_failures=WORKER_RESTARTS, controller_failure_limit=0),  # type: ignore[call-arg]
        ),
    )


def release_orphans() -> None:
    """Give back what killed controllers hold: the CPUs of their workers, for which others would wait."""
    from ray.util import remove_placement_group

    for group in orphaned_groups():
        remove_placement_group(group)


def _scratch(key: str, settings: Settings) -> Path:
    return settings.home / "ray" / key


def lean_trainer(board: str) -> type:
    """TorchTrainer without the two actors that have nothing to do here, each a process to start, and with a
    controller that beats on `board` (heartbeat.py): nobody else would notice that it stands still.

    One hands out shards of Ray Data, which is not used; the other cleans up after a controller that was
    killed, but asks the dashboard for it, which we do not start: see `release_orphans`.
    """
    from ray.train.torch import TorchTrainer

    carry_by_value()
    idle = (dataset_callback(), cleaner_callback())

    class Beats(controller_callback()):  # type: ignore[misc]
        def after_controller_start(self, train_run_context: Any) -> None:
            begin(board)

    class LeanTrainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            usual = super()._create_default_callbacks()  # type: ignore[misc]
            return [*(c for c in usual if not isinstance(c, idle)), Beats()]

    return LeanTrainer


def _worker(config: dict[str, Any]) -> None:
    """What runs in each worker process."""
    import ray.train

    from genpipe.training.device import check_gpu
    from genpipe.training.distributed import Ranks

    job, key = TrainingJob(**config["job"]), config["key"]

    def emit(event: Event) -> None:
        mailbox.put(f"{key}/progress", json.dumps(asdict(event) | {"metrics": dict(event.metrics)}))

    def evaluated(metrics: Mapping[str, float]) -> None:
        ray.train.report(dict(metrics))

    def abandoned() -> bool:
        return mailbox.get(f"{key}/stop") is not None

    try:
        check_gpu(job.device)
        with beating(key):
            Ranks.current(job.device).check_peers(config["secret"])
            execute(job, emit=emit, evaluated=evaluated, abandoned=abandoned)
    except GenpipeError as error:  # told to the driver; for Ray all is well, or it would try again
        mailbox.put(f"{key}/error", json.dumps([type(error).__name__, *error.__reduce__()[1][1:]]))
        _leave()
    except RuntimeError:
        if mailbox.get(f"{key}/error") is None:  # else this rank only lost the one that refused
            raise


def _leave() -> None:
    """Close the process group, so that the other ranks fail now and not at the collective timeout."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _rebuilt(told: list[str]) -> GenpipeError:
    """The worker's error, in the driver."""
    kind: type[GenpipeError] = getattr(errors, told[0], GenpipeError)
    return errors.rebuild(kind, *told[1:])


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}"
