"""prefect.yaml for real: a server, a worker of our pool, `deploy --all`, and a run of generate/nightly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parent.parent.parent
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
ROWS = 300


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a running Prefect server with a home and a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "true",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "300",
    }
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with open(tmp_path / "server.log", "wb") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2):
                    break
            except OSError:
                assert time.monotonic() < end and child.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.2)
        yield environment
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def prefect(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PREFECT, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200
    )


@pytest.fixture
def worker(server: dict[str, str], tmp_path: Path) -> Iterator[None]:
    done = prefect(server, "work-pool", "create", "genpipe", "--type", "process")
    assert done.returncode == 0, done.stdout + done.stderr
    command = [*PREFECT, "worker", "start", "--pool", "genpipe", "--type", "process"]
    with open(tmp_path / "worker.log", "wb") as log:
        child = subprocess.Popen(
            command, env=server, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
    yield
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def test_the_deployments_run(table_bundle: str, server: dict[str, str], worker: None, tmp_path: Path) -> None:
    from genpipe.dataset import Dataset
    from genpipe.registry import publish

    publish(table_bundle, name="people", metrics={"fidelity": 0.5}, holdout="toy")
    done = prefect(server, "deploy", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    listed = prefect(server, "deployment", "ls").stdout
    for name in (
        "ingest/nightly",
        "generate/nightly",
        "pipeline/weekly",
        "tables/weekly",
        "generate-tables/on-demand",
        "train/on-demand",
        "promote/on-demand",
    ):
        assert name in listed

    output = tmp_path / "delivered"
    wanted = ["-p", f"rows={ROWS}", "-p", f"output={output}", "-p", "workers=0"]
    done = prefect(
        server, "deployment", "run", "generate/nightly", *wanted, "--watch", "--watch-timeout", "150"
    )
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "worker.log").read_text()
    assert Dataset(str(output)).rows("generated") == ROWS

    refused = prefect(server, "deployment", "run", "generate/nightly", "-p", "rows=ten")
    assert refused.returncode != 0
    assert "is not of type 'integer'" in refused.stdout + refused.stderr
