"""A command watched from outside: what it and all that it starts use, Ray's processes included."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

EVERY_SECONDS = 0.1


@dataclass
class Watched:
    """cpu: seconds by process id, as they were last seen. peak: bytes of all processes together, each page
    once (proportional set size). output: what the command printed.
    """

    cpu: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    peak: int = 0
    output: str = ""

    @property
    def cpu_seconds(self) -> float:
        return sum(self.cpu.values())


def watch(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    memory: bool = False,
    see: Callable[[psutil.Process], None] = lambda process: None,
) -> Watched:
    """Run a command to its end. memory: read that, too, which costs. see: is handed each process each time.

    Raises SystemExit where it fails.
    """
    began, found = time.monotonic(), Watched()
    with tempfile.TemporaryFile("w+") as printed:
        run = subprocess.Popen(command, env=dict(env), stdout=printed)
        top = psutil.Process(run.pid)
        looks = 0
        while run.poll() is None:
            held, looks = 0, looks + 1
            weigh = memory and looks % 5 == 1
            with suppress(psutil.Error):
                for process in [top, *top.children(recursive=True)]:
                    with suppress(psutil.Error, IndexError):  # ended, or between fork and exec
                        times = process.cpu_times()
                        found.cpu[process.pid] = times.user + times.system
                        held += process.memory_full_info().pss if weigh else 0
                        see(process)
            found.peak = max(found.peak, held)
            time.sleep(EVERY_SECONDS)
        found.seconds = time.monotonic() - began
        printed.seek(0)
        found.output = printed.read()
    if run.returncode:
        raise SystemExit(f"failed ({run.returncode}): {' '.join(command)}")
    return found
