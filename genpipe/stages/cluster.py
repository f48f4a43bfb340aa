"""Joining Ray: one `connect()` for every stage, quiet, from the main thread, once per process.

Ray's daemons die with the *thread* that started them, so flows connect before they submit tasks.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from genpipe.errors import GenpipeError, InfrastructureError, UsageError
from genpipe.settings import Settings, read_settings
from genpipe.stages.embedded_ray import EmbeddedRay
from genpipe.stages.placement import Need, check_workers, chosen_device, nodes, room
from genpipe.training.device import resolve_device

# set before ray is imported: shorter tail of a fit, no usage reports, no per-second cleaner warnings, no
# box of Ray Tune's settings between our own lines
_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "300",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
LEAST = Need(memory=0)
_embedded: EmbeddedRay | None = None


def connect(settings: Settings | None = None) -> dict[str, float]:
    """Start or join Ray unless this process has already; returns the cluster's resources."""
    settings = settings or read_settings()
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    import ray

    if not ray.is_initialized():
        if threading.current_thread() is not threading.main_thread():
            raise UsageError(
                "THREAD",
                found="Ray started from a thread",
                fix="call genpipe.stages.cluster.connect() in the main thread first",
            )
        try:
            if settings.ray_address == "local":
                _start_embedded(settings)
            else:
                ray.init(address=settings.ray_address, log_to_driver=False, logging_level=logging.ERROR)
        except GenpipeError:
            raise
        except Exception as error:  # Ray raises what it likes, Exception itself among it
            raise InfrastructureError(
                "RAY",
                where=f"RAY_ADDRESS={settings.ray_address}",
                found=(str(error).splitlines() or [type(error).__name__])[0],
                fix="start the cluster, or unset RAY_ADDRESS to run one here",
            ) from error
    return ray.cluster_resources()


def _start_embedded(settings: Settings) -> None:
    global _embedded
    _embedded = EmbeddedRay(settings)
    atexit.register(disconnect)  # before Ray's own: the folder goes after the processes that use it


def in_order(
    function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], *, need: Need = LEAST
) -> Iterator[Any]:
    """Results of a function as Ray tasks, in the order of the jobs, with a window of tasks in flight.

    need: of each task; a UsageError where no node has that.

    After an error the window is waited for and not cancelled: Ray 2.60 aborts the driver when a task
    completes while it is being cancelled ("Tried to complete task that was not pending").
    """
    connect()
    import ray

    check_workers(1, need, there := nodes())
    window = 2 * room(need, there)
    task = ray.remote(max_retries=3, **need.options)(function)
    waiting = iter(jobs)
    flying = deque(task.remote(*job) for job in islice(waiting, window))
    try:
        while flying:
            result = ray.get(flying.popleft())
            flying.extend(task.remote(*job) for job in islice(waiting, 1))
            yield result
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, GenpipeError) else error) from None
    finally:
        if flying:
            ray.wait(list(flying), num_returns=len(flying))


def where_to_draw(settings: Settings, workers: int | None) -> tuple[str, bool]:
    """(device for drawing rows, whether only workers of the cluster have it). workers: 0 is this process."""
    if workers == 0 or settings.ray_address == "local" or settings.device == "cpu":
        return resolve_device(settings.device), False
    connect(settings)
    device = chosen_device(settings, nodes())
    return device, device == "cuda"


def disconnect() -> None:
    """Leave Ray, stopping the embedded one."""
    global _embedded
    import ray

    if (ending := _embedded) is not None:
        _embedded = None
        atexit.unregister(disconnect)
        ending.stop()
    elif ray.is_initialized():
        ray.shutdown()
