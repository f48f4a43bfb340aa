"""Is the Ray that this process joined still there?

Left to itself Ray ends the process, exit code 1 and no word for people, a minute after its head is gone, and
sooner where the node of this process is. So a thread knocks at both, and who waits for Ray asks it meanwhile.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping

from genpipe.errors import InfrastructureError

KNOCK_SECONDS = 1.0
Door = tuple[str, int]


class Watch:
    """doors: what is there -> where it listens. patience: seconds without an answer until it counts as gone.
    where, fix: for the error.
    """

    def __init__(self, doors: Mapping[str, Door], *, patience: float, where: str, fix: str) -> None:
        self.doors, self.patience, self.where, self.fix = dict(doors), patience, where, fix
        self._silent: dict[str, tuple[float, float]] = {}  # the first and the newest knock without an answer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.knock()
            self._ended.wait(min(KNOCK_SECONDS, self.patience / 3))

    def knock(self) -> bool:
        """Whether every door answers now."""
        for what, door in self.doors.items():
            if _answers(door):
                self._silent.pop(what, None)
            else:
                now = time.monotonic()
                self._silent[what] = (self._silent.get(what, (now, now))[0], now)
        return not self._silent

    @property
    def lost(self) -> str | None:
        """What is gone. Time in which nobody knocked, as this process itself was stopped, does not count."""
        silent = list(self._silent.items())
        return next((what for what, (first, last) in silent if last - first >= self.patience), None)

    def check(self) -> None:
        """Raise InfrastructureError where something is gone."""
        if (what := self.lost) is not None:
            host, port = self.doors[what]
            raise InfrastructureError(
                "RAYLOST",
                where=self.where,
                found=f"{what} ({host}:{port}) is gone",
                expected="a Ray that lives as long as the work",
                fix=self.fix,
            )

    def settle(self) -> None:
        """After a failure of Ray's: wait until every door answers, or raise as `check` does."""
        while not self.knock():
            self.check()
            time.sleep(min(KNOCK_SECONDS, self.patience / 3))

    def end(self) -> None:
        self._ended.set()


def _answers(door: Door) -> bool:
    try:
        socket.create_connection(door, timeout=KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


def wait_for_door(door: Door, seconds: float) -> bool:
    """Whether it answers within so many seconds."""
    end = time.monotonic() + seconds
    while not (answered := _answers(door)) and time.monotonic() < end:
        time.sleep(min(KNOCK_SECONDS, seconds / 10))
    return answered
