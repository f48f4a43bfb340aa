"""A worker killed while it submits: what becomes of the slot of a CANCEL_NEW deployment, and who is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect_parts import ROOT, PrefectParts, prefect_parts

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]
FLOW = "from prefect import flow\n\n@flow\ndef deliver():\n    pass\n"
DEPLOYMENT = """
name: delivery
deployments:
  - name: nightly
    entrypoint: deliver.py:deliver
    work_pool: {name: genpipe}
    concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}
    schedules: [{cron: "0 3 * * *", timezone: UTC, slug: nightly}]
"""
ALERTS = """
import asyncio, sys
from datetime import timedelta
sys.path.insert(0, sys.argv[1])
import alerts
async def day(*_): return timedelta(seconds=float(sys.argv[3]))
alerts.period, alerts.SUBMITTED = day, timedelta(seconds=60)
asyncio.run(alerts.replace(asyncio.run(alerts.automations(sys.argv[2], timedelta(0)))))
"""
SUBMITTED = ("Pending", "Submitting")  # a worker took it, and nobody runs it yet
LEASE = "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION"
STORAGE = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
IN_FILES = "prefect.server.concurrency.lease_storage.filesystem"  # as infra/ says


@contextmanager
def nightly(folder: Path, **more: str) -> Iterator[PrefectParts]:
    """The deployment deliver/nightly on a server whose leases last 30 s, the least that Prefect allows."""
    (folder / "deliver.py").write_text(FLOW)
    (folder / "prefect.yaml").write_text(DEPLOYMENT)
    with prefect_parts(folder, **{LEASE: "30"}, **more) as parts:
        done = parts.prefect("deploy", "--all", where=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: parts.environment["PREFECT_API_URL"]}):
            yield parts


def begin() -> str:
    """Another night."""
    from prefect.deployments import run_deployment

    return str(run_deployment("deliver/nightly", timeout=0).id)  # type: ignore[union-attr]


def state(run: str) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(run).state.name)


def until(run: str, *names: str, seconds: float = 90) -> str:
    end = time.monotonic() + seconds
    while (now := state(run)) not in names and time.monotonic() < end:
        time.sleep(0.05)
    return now


def killed_while_it_submits(parts: PrefectParts, folder: Path, *, restart: bool) -> str:
    """A run that a worker took and nobody runs; with another worker, and maybe the server anew."""
    parts.start_worker(folder)
    run = begin()
    assert until(run, *SUBMITTED) in SUBMITTED
    parts.kill("worker")
    assert state(run) in SUBMITTED, "the flow's process was quicker than the kill"
    if restart:
        parts.kill("server")
        parts.start_server()
    parts.start_worker(folder)
    assert until(begin(), "Cancelled", "Completed") == "Cancelled", "the slot is held"
    return run


def nights(seconds: float) -> list[str]:
    """How runs end, one after the other, until one completes or so long."""
    ends, end = [], time.monotonic() + seconds
    while time.monotonic() < end and ends[-1:] != ["Completed"]:
        ends.append(until(begin(), "Cancelled", "Completed"))
        time.sleep(2)
    return ends


@pytest.mark.parametrize(("storage", "restart"), [("memory", False), ("files", True)])
def test_a_slot_is_given_back_when_its_lease_ends(
    storage: str, restart: bool, home: Path, tmp_path: Path
) -> None:
    more = {STORAGE: IN_FILES} if storage == "files" else {}
    with nightly(tmp_path, **more) as parts:
        killed_while_it_submits(parts, tmp_path, restart=restart)
        assert nights(90)[-1] == "Completed"


def test_leases_in_memory_are_lost_with_the_server_and_every_later_night_is_cancelled(
    home: Path, tmp_path: Path
) -> None:
    """Prefect's default; docs/operations.md says how a slot is given back by hand."""
    with nightly(tmp_path) as parts:
        dead = killed_while_it_submits(parts, tmp_path, restart=True)
        assert set(nights(45)) == {"Cancelled"}, "long after the lease would have ended"
        assert state(dead) in SUBMITTED
        done = parts.prefect("flow-run", "delete", dead)
        assert done.returncode == 0, done.stdout + done.stderr
        assert nights(60)[-1] == "Completed"


def test_the_automations_end_the_dead_run_and_tell_what_is_missing(home: Path, tmp_path: Path) -> None:
    """infra/alerts.py with seconds for minutes, on a server that loses its leases."""
    with nightly(tmp_path) as parts, receiver() as (url, heard):
        make_block(url)
        names = install(parts, "custom-webhook/alerts", period=20).splitlines()
        assert install(parts, "custom-webhook/alerts", period=20).splitlines() == names
        assert sorted(installed()) == sorted(names) and len(names) == 4
        dead = killed_while_it_submits(parts, tmp_path, restart=True)
        assert until(dead, "Crashed", seconds=180) == "Crashed"
        assert nights(30)[-1] == "Completed"
        end = time.monotonic() + 60
        while len({each["body"].partition(":")[2].split(":")[0] for each in heard}) < 2:
            assert time.monotonic() < end, heard
            time.sleep(0.5)
    told = "\n".join(each["body"] for each in heard)
    assert "genpipe: deliver/nightly is missing: no run completed within" in told
    assert "genpipe: deliver/nightly ended badly: a run failed, crashed or was cancelled" in told
    assert "Deployment concurrency limit reached" in told


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web hook, and what it heard."""
    heard: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", heard
    finally:
        server.shutdown()


def installed() -> list[str]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return [each["name"] for each in client.request("POST", "/automations/filter", json={}).json()]


def make_block(url: str) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    told = {"subject": "{{subject}}", "body": "{{body}}"}
    CustomWebhookNotificationBlock(name="alerts", url=url, json_data=told).save("alerts")


def install(parts: PrefectParts, notify: str, *, period: float) -> str:
    command = [sys.executable, "-c", ALERTS, str(ROOT / "infra"), notify, str(period)]
    done = subprocess.run(
        command, env=os.environ | parts.environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
