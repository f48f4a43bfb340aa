"""Workers that stand still: each says every few seconds that it lives, and one that is silent is killed.

Ray notices a process that died, not one that is stopped, thrashes or hangs in a driver: for that it waits for
ever. A killed one it replaces, and what it did is done again, to the same bytes. A worker speaks from a
thread of its own, so a long computation is no silence.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

from genpipe.stages import mailbox

BEAT_SECONDS = 3.0
SILENT_SECONDS = 60.0
log = logging.getLogger("genpipe.heartbeat")


def begin(board: str) -> Callable[[], None]:
    """In a worker: tell whoever watches `board` that this process lives, until it ends or what is returned is
    called.
    """
    import ray

    key, ended = f"{board}/beat/{uuid.uuid4().hex}", threading.Event()
    here = {"node": ray.get_runtime_context().get_node_id(), "pid": os.getpid(), "born": _born(os.getpid())}

    def speak() -> None:
        count = 0
        while not ended.is_set():
            mailbox.put(key, json.dumps(here | {"count": (count := count + 1)}))
            ended.wait(BEAT_SECONDS)

    thread = threading.Thread(target=speak, name="heartbeat", daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()
        mailbox.forget(key)

    return end


@contextmanager
def beating(board: str) -> Iterator[None]:
    """`begin` until the end of the block."""
    end = begin(board)
    try:
        yield
    finally:
        end()


def heard(function: Callable[..., Any], board: str) -> Callable[..., Any]:
    """The function as a Ray task that beats while it runs."""

    @wraps(function)
    def run(*args: Any, **parameters: Any) -> Any:
        with beating(board):
            return function(*args, **parameters)

    return run


@contextmanager
def watched(board: str) -> Iterator[None]:
    """In the driver: kill the workers of `board` that fall silent, until the end of the block."""
    ended = threading.Event()

    def look() -> None:
        seen: dict[str, tuple[str, int]] = {}
        while not ended.wait(BEAT_SECONDS):
            with suppress(Exception):  # Ray itself may be away, which is for others to say
                _look(board, seen, SILENT_SECONDS)
        with suppress(Exception):
            mailbox.forget(f"{board}/beat/")

    threading.Thread(target=look, name="heartbeats", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _look(board: str, seen: dict[str, tuple[str, int]], limit: float) -> None:
    """seen: key -> what it said last, at how many looks since; time in which nobody looked is no silence."""
    for key in mailbox.keys(f"{board}/beat/"):
        said = mailbox.get(key) or ""
        before, looks = seen.get(key, ("", 0))
        seen[key] = (said, looks + 1 if said == before else 0)
        if said and seen[key][1] * BEAT_SECONDS > limit:
            told = json.loads(said)
            mailbox.forget(key)
            if _send_kill(told):
                log.warning("worker %s stood still for %.0f s: killed, Ray replaces it", told["pid"], limit)


def _send_kill(told: dict[str, Any]) -> bool:
    """Whether there was something to kill: a worker that died cannot take its last beat back."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(told["node"], soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(kill_silent).options(scheduling_strategy=there)
    with suppress(ray.exceptions.RayError):  # its node is gone, and the worker with it
        return bool(ray.get(task.remote(told["pid"], told["born"]), timeout=30))
    return False


def kill_silent(pid: int, born: str) -> bool:
    """On the worker's node: kill it, unless it ended and its number is another process's."""
    if _born(pid) != born:
        return False
    os.kill(pid, signal.SIGKILL)
    return True


def _born(pid: int) -> str:
    """When a process began, which tells it from a later one of its number; "" where it has ended."""
    if not Path("/proc/self/stat").exists():
        told = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(told, capture_output=True, text=True, check=False).stdout.strip()
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
