"""The embedded Prefect: it starts, it is quiet, and it never outlives the process that started it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest

from genpipe.errors import InfrastructureError
from genpipe.flows.embedded import Server
from genpipe.settings import read_settings

DRIVER = """
import time
from genpipe.flows.embedded import Server
from genpipe.settings import read_settings
server = Server(read_settings())
print(server.child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_killed_driver_leaves_no_server(home: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert driver.stdout is not None
    child = int(driver.stdout.readline())
    assert alive(child)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    end = time.monotonic() + 30
    while alive(child) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(child)


def test_a_server_that_cannot_start_says_where_to_look(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "nonsense://")
    server = Server(read_settings())
    with pytest.raises(InfrastructureError, match=r"prefect-server\.log.*did not start; read that log"):
        server.wait()


@pytest.mark.slow
def test_a_database_that_a_process_was_killed_over_is_put_aside(home: Path) -> None:
    folder = home / "prefect"
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "prefect.db")) as database:  # tables, and no word of their version
        database.execute("CREATE TABLE flow (id)")
    server = Server(read_settings())
    try:
        server.wait()
        (aside,) = folder.glob("prefect.db.aside-*")
        with closing(sqlite3.connect(aside)) as kept:
            assert kept.execute("SELECT count(*) FROM flow").fetchone() == (0,)
    finally:
        server.stop()


def test_it_answers(api: Path) -> None:
    with urlopen(os.environ["PREFECT_API_URL"] + "/health", timeout=10) as answer:
        assert answer.status == 200
    assert (api / "prefect" / "prefect.db").exists()


def test_a_second_run_at_once_gets_a_database_of_its_own(api: Path) -> None:
    second = Server(read_settings())
    try:
        second.wait()
        assert (second.scratch.path / "prefect.db").exists()
        with urlopen(os.environ["PREFECT_API_URL"] + "/health", timeout=10) as answer:
            assert answer.status == 200
    finally:
        second.stop()
    assert not second.scratch.path.exists()
