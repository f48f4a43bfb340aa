"""A real Prefect server and a worker of our pool, in processes that a test may kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parent.parent
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


class PrefectParts:
    """environment: of who speaks to the server. folder: of its database and of the logs."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "true",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "300",
            **more,
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start_server(self) -> None:
        self._start("server", ["server", "start", "--host", "127.0.0.1", "--port", str(self.port)], ROOT)
        end = time.monotonic() + 120
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{self.port}/api/health", timeout=2):
                    return
            except OSError:
                assert time.monotonic() < end and self.running["server"].poll() is None, self.log("server")
                time.sleep(0.2)

    def start_worker(self, where: Path = ROOT) -> None:
        """where: the folder in which deployments' entrypoints lie."""
        self._start("worker", ["worker", "start", "--pool", "genpipe", "--type", "process"], where)

    def _start(self, name: str, words: list[str], where: Path) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(
                [*PREFECT, *words],
                env=self.environment,
                cwd=where,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """SIGKILL to a part and all it started."""
        child = self.running.pop(name)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def prefect(self, *words: str, where: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [*PREFECT, *words]
        return subprocess.run(
            command, env=self.environment, cwd=where, capture_output=True, text=True, timeout=200
        )


@contextmanager
def prefect_parts(folder: Path, **more: str) -> Iterator[PrefectParts]:
    """A server with the work pool `genpipe`; at the end nothing of it runs."""
    parts = PrefectParts(folder, **more)
    try:
        parts.start_server()
        done = parts.prefect("work-pool", "create", "genpipe", "--type", "process")
        assert done.returncode == 0, done.stdout + done.stderr
        yield parts
    finally:
        for name in list(parts.running):
            parts.kill(name)
