"""Prefect without a server of one's own: a small one for this process, gone when the process is gone.

It listens on loopback and asks for a password of this run's own, which only its environment and ours hold. It
keeps its database in $GENPIPE_HOME/prefect, so `prefect server start` shows the runs later. The child
reads a pipe that only we hold: when we end, however hard, the pipe closes and the child ends too.
With PREFECT_API_URL set, nothing is started and that server is used.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from genpipe.errors import InfrastructureError
from genpipe.flows.events import settle
from genpipe.private import Scratch
from genpipe.redaction import link
from genpipe.settings import Settings, make_folder, read_settings

log = logging.getLogger("genpipe.flows")
STARTUP_SECONDS = 90
PASSWORDS = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")
SERVICES = (
    "SCHEDULER",
    "LATE_RUNS",
    "TRIGGERS",
    "EVENT_PERSISTER",
    "PAUSE_EXPIRATIONS",
    "CANCELLATION_CLEANUP",
    "FOREMAN",
)
SILENCE = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_COLORS": "false",
}
SLIM = {
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in SERVICES},
}


class Server:
    """The child process; `wait` returns when it answers."""

    def __init__(self, settings: Settings) -> None:
        home = make_folder(settings.home / "prefect")
        make_folder(settings.logs)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api"
        self.log = settings.logs / "prefect-server.log"
        environment = {**os.environ, **SILENCE, **SLIM, "PREFECT_HOME": str(home)}
        environment.pop("PREFECT_API_URL", None)
        # its API tells whole specs, and loopback is open to every user of this machine
        self.password = f"genpipe:{secrets.token_hex(32)}"
        environment |= dict.fromkeys(PASSWORDS, self.password)
        self.lock = open(home / "lock", "w")  # noqa: SIM115 - held as long as this process lives
        self.scratch = Scratch("prefect")
        self.database = home / "prefect.db"
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # another run has the database, and SQLite serves one server: this run's history is not kept
            self.database = self.scratch.path / "prefect.db"
        url = f"sqlite+aiosqlite:///{self.database}"
        self.own = environment.setdefault("PREFECT_API_DATABASE_CONNECTION_URL", url) == url
        self.command = [sys.executable, "-m", "genpipe.flows.embedded", str(port)]
        self.environment = environment
        self._start()

    def _start(self) -> None:
        self.began = time.monotonic()
        with open(self.log, "ab") as log:
            # its own session: Ctrl-C reaches us alone, and the flow can still record how it ended
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
                cwd=Path(__file__).parents[2],
            )

    def wait(self) -> None:
        """Raises InfrastructureError where it does not answer. One that ends is started again; if it ends
        again, its database, over which a process may have been killed, is put aside for a new one.
        """
        for put_aside in (False, True):
            if self._answers():
                return
            if self.child.poll() is None or not self.own:
                break
            if self.child.stdin:
                self.child.stdin.close()
            if put_aside:
                self._put_aside()
            self._start()
        else:
            if self._answers():
                return
        self.stop()
        found = "the embedded Prefect server did not start"
        fix = "read that log, or set PREFECT_API_URL to a running server"
        raise InfrastructureError("PREFECT", where=str(self.log), found=found, fix=fix)

    def _put_aside(self) -> None:
        aside = self.database.with_name(f"prefect.db.aside-{time.strftime('%Y%m%dT%H%M%S')}")
        for end in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.replace(f"{self.database}{end}", f"{aside}{end}")
        log.warning("%s could not be served; it is now %s", self.database, aside.name)

    def _answers(self) -> bool:
        while time.monotonic() - self.began < STARTUP_SECONDS and self.child.poll() is None:
            try:
                with urlopen(f"{self.url}/health", timeout=2):
                    return True
            except (URLError, OSError):
                time.sleep(0.1)
        return False

    def stop(self) -> None:
        if self.child.stdin:
            self.child.stdin.close()
        self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.lock.close()
        self.scratch.remove()


@contextmanager
def prefect_api(*, prepare: Any = None) -> Iterator[dict[str, float]]:
    """An environment in which flows run here, with or without a server; yields where the seconds went.

    prepare: work to do in this thread while the server boots.
    """
    settings = read_settings()
    os.environ.update({k: v for k, v in SILENCE.items() if k not in os.environ})
    seconds: dict[str, float] = {}
    server = None
    if "PREFECT_API_URL" not in os.environ:
        server = Server(settings)
        own = {
            "PREFECT_API_URL": server.url,
            "PREFECT_API_AUTH_STRING": server.password,
            "PREFECT_HOME": str(settings.home / "prefect"),
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
        }
    else:
        own = {}
    before = {key: os.environ.get(key) for key in own}
    os.environ.update(own)
    try:
        with _timed(seconds, "import Prefect"):
            from prefect.settings import (
                PREFECT_API_AUTH_STRING,
                PREFECT_API_URL,
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
                PREFECT_HOME,
                temporary_settings,
            )
        seconds |= (prepare() or {}) if prepare else {}
        if server is None:
            with _reaching(os.environ["PREFECT_API_URL"]):
                yield seconds
            return
        with _timed(seconds, "wait for Prefect"):
            server.wait()
        # a heartbeat is for runs on other machines, and ends every flow with a second of waiting
        changed: Mapping[Any, Any] = {
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            PREFECT_API_URL: server.url,
            PREFECT_API_AUTH_STRING: server.password,
            PREFECT_HOME: str(settings.home / "prefect"),
        }
        with temporary_settings(changed):
            try:
                yield seconds
            finally:
                settle()
    finally:
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})
        if server:
            server.stop()


@contextmanager
def _reaching(api: str) -> Iterator[None]:
    """What Prefect and its client say of a server of the user's own that does not answer, as our error."""
    from httpx import HTTPError

    try:
        yield
    except (HTTPError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("Failed to reach API"):
            raise
        raise InfrastructureError(
            "PREFECT",
            where=link(api),
            found=str(error).partition("\n")[0] or type(error).__name__,
            fix="see that the server runs, PREFECT_API_URL and PREFECT_API_AUTH_STRING, then run it again",
        ) from error


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began


def _serve(port: int) -> None:
    """The child: Prefect's API until the parent is gone."""

    def follow_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=follow_parent, daemon=True).start()
    import uvicorn

    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
        lifespan="on",
    )


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
