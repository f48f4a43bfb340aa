"""Joining Ray: one `connect()` for every stage, quiet, from the main thread, once per process.

Ray's daemons die with the *thread* that started them, so flows connect before they submit tasks.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from itertools import islice
from typing import Any

from genpipe.errors import GenpipeError, InfrastructureError, UsageError
from genpipe.settings import Settings, read_settings
from genpipe.stages import mailbox
from genpipe.stages.embedded_ray import EmbeddedRay
from genpipe.stages.heartbeat import heard, watched
from genpipe.stages.placement import Need, check_workers, chosen_device, nodes, room
from genpipe.stages.watch import Watch, wait_for_door
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
    # Ray ends a process so long after a head is gone, by default a minute, even if it has joined another:
    # see watch.py, which is sooner and says so
    "RAY_gcs_rpc_server_reconnect_timeout_s": "1000000",
}
LEAST = Need(memory=0)
WAIT_SECONDS = 1.0
JOIN_SECONDS = 20.0
# seconds without an answer: what is embedded does not come back; a cluster's head may, and Ray gives up at 60
LOCAL_PATIENCE, CLUSTER_PATIENCE = 3.0, 30.0
SHORT = "see that this machine has memory, disk and CPUs to spare"
log = logging.getLogger("genpipe.cluster")
_embedded: EmbeddedRay | None = None
_watch: Watch | None = None
_gone = False


def connect(settings: Settings | None = None) -> dict[str, float]:
    """Start or join Ray unless this process has already, or what it had is gone; returns the cluster's
    resources.
    """
    settings = settings or read_settings()
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    import ray

    if _watch is not None and not _watch.knock() and _is_lost(_watch):
        disconnect()
    if not ray.is_initialized():
        if threading.current_thread() is not threading.main_thread():
            raise UsageError(
                "THREAD",
                found="Ray started from a thread",
                fix="call genpipe.stages.cluster.connect() in the main thread first",
            )
        local = settings.ray_address == "local"
        try:
            _start_embedded(settings) if local else _join(settings)
        except GenpipeError:
            raise
        except Exception as error:  # Ray raises what it likes, Exception itself among it
            raise InfrastructureError(
                "RAY",
                where=f"RAY_ADDRESS={settings.ray_address}",
                found=(str(error).splitlines() or [type(error).__name__])[0],
                fix=SHORT if local else "start the cluster, or unset RAY_ADDRESS to run one here",
            ) from error
        _begin_watch(settings)
    return ray.cluster_resources()


def _start_embedded(settings: Settings) -> None:
    global _embedded
    for last in (False, True):
        try:
            _embedded = EmbeddedRay(settings)
            break
        except Exception as error:  # on a busy machine its parts miss each other: once more
            if last:
                raise
            log.warning("Ray did not start (%s); trying again", error)
    atexit.register(disconnect)  # before Ray's own: the folder goes after the processes that use it


def _join(settings: Settings) -> None:
    """Ray itself tries an address for a quarter of an hour before it says that nobody is there."""
    import ray

    host, _, port = settings.ray_address.rpartition(":")
    if host and port.isdigit() and not wait_for_door((host, int(port)), JOIN_SECONDS):
        raise ConnectionError(f"nobody answers there for {JOIN_SECONDS:g} s")
    ray.init(address=settings.ray_address, log_to_driver=False, logging_level=logging.ERROR)


def _begin_watch(settings: Settings) -> None:
    global _watch, _gone
    import ray

    _gone, context = False, ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    node = next(n for n in ray.nodes() if n["NodeID"] == context.get_node_id())
    doors = {
        "the head of Ray": (host, int(port)),
        "the Ray node of this process": (node["NodeManagerAddress"], int(node["NodeManagerPort"])),
    }
    local = settings.ray_address == "local"
    again = "run the same command again: what is finished is kept"
    _watch = Watch(
        doors,
        patience=LOCAL_PATIENCE if local else CLUSTER_PATIENCE,
        where=f"RAY_ADDRESS={settings.ray_address}",
        fix=f"{SHORT}; {again}" if local else f"see that the cluster is up, and {again}",
    )


def _is_lost(watch: Watch) -> bool:
    try:
        watch.settle()
    except InfrastructureError:
        return True
    return False


def check_alive(*, settled: bool = False) -> None:
    """Raise InfrastructureError where the Ray that this process joined is gone, and leave it.

    settled: after a failure of Ray's, wait until that can be told. In a worker nothing is checked: it ends
    with its node.
    """
    global _gone
    if _watch is None:
        return
    try:
        _watch.settle() if settled else _watch.check()
    except InfrastructureError:
        _gone = True
        if threading.current_thread() is threading.main_thread():
            disconnect()  # now, since Ray Tune would ask the head for something at exit, and never end
            mailbox.close()
        raise


def is_gone() -> bool:
    return _gone or (_watch is not None and _watch.lost is not None)


def while_alive(work: Callable[[], Any]) -> None:
    """Do what waits for Ray in a thread of its own, which is left to itself where Ray is gone."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="ray-work", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(WAIT_SECONDS / 4)
        check_alive()
    if failed:
        check_alive(settled=True)
        ours = isinstance(failed[0], GenpipeError)
        # its frames would keep Ray's actors alive, and their CPUs taken
        raise failed[0].with_traceback(None) if ours else failed[0]


def first_ready(waiting: Sequence[Any]) -> Any:
    """The first of some tasks to end; raises where Ray is gone instead of waiting for ever."""
    import ray

    while True:
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=WAIT_SECONDS)
        check_alive()
        if ready:
            return ready[0]


@contextmanager
def errors_of_tasks(what: str) -> Iterator[None]:
    """What a task raised on purpose, as it was; what Ray says of lost workers and nodes, as one of ours."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, GenpipeError) else error) from None
    except ray.exceptions.RayError as error:
        raise InfrastructureError(
            "RAY",
            where=what,
            found=(str(error).splitlines() or [type(error).__name__])[0],
            expected="workers, nodes and memory that last as long as the work",
            fix="run the same command again: what is finished is kept",
        ) from error


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
    board = uuid.uuid4().hex
    window = 2 * room(need, there)
    task = ray.remote(max_retries=3, **need.options)(heard(function, board))
    waiting = iter(jobs)
    flying = deque(task.remote(*job) for job in islice(waiting, window))
    try:
        with watched(board), errors_of_tasks(function.__name__):
            while flying:
                result = ray.get(first_ready([flying[0]]))
                flying.popleft()
                flying.extend(task.remote(*job) for job in islice(waiting, 1))
                yield result
    finally:
        while flying and not is_gone():
            _, left = ray.wait(list(flying), num_returns=len(flying), timeout=WAIT_SECONDS)
            flying = deque(left)


def where_to_draw(settings: Settings, workers: int | None) -> tuple[str, bool]:
    """(device for drawing rows, whether only workers of the cluster have it). workers: 0 is this process."""
    if workers == 0 or settings.ray_address == "local" or settings.device == "cpu":
        return resolve_device(settings.device), False
    connect(settings)
    device = chosen_device(settings, nodes())
    return device, device == "cuda"


def disconnect() -> None:
    """Leave Ray, stopping the embedded one."""
    global _embedded, _watch
    import ray

    if _watch is not None:
        _watch.end()
        _watch = None
    if (ending := _embedded) is not None:
        _embedded = None
        atexit.unregister(disconnect)
        ending.stop()
    elif ray.is_initialized():
        ray.shutdown()
