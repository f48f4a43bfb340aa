"""A process ends when its work is done: runs of the whole road one after the other, each with a server."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

TWICE = """
import asyncio, random, sys, time, genpipe
draw = random.Random(0)
rows = [(draw.randint(18, 80), draw.choice(["Rome", "Oslo"])) for _ in range(1500)]
lines = "".join(f"{a},{c},{draw.gauss(40 + a, 9):.2f}\\n" for a, c in rows)
open("people.csv", "w").write("age,city,income\\n" + lines)
spec = {"name": "people", "source": {"path": "people.csv"}, "recipe": "tabular_trees"}
for i in range(2):
    genpipe.run(spec | {"generate": {"rows": 200 + i}})
async def notebook():  # its thread runs an event loop
    genpipe.run(spec | {"generate": {"rows": 300}})
asyncio.run(notebook())
open("done", "w").write(str(time.time()))
"""


@pytest.mark.slow
def test_a_process_that_ran_the_road_several_times_ends(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    environment |= {"GENPIPE_HOME": str(tmp_path / "home"), "GENPIPE_CPUS": "1"}
    command = [sys.executable, "-c", TWICE]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    ended = time.time()
    assert run.returncode == 0, run.stderr[-2000:]
    assert ended - float((tmp_path / "done").read_text()) < 20
    with closing(sqlite3.connect(tmp_path / "home/prefect/prefect.db")) as database:
        flows = database.execute("SELECT id, state_type FROM flow_run ORDER BY start_time").fetchall()
        counts = [
            database.execute("SELECT count(*) FROM task_run WHERE flow_run_id = ?", (flow,)).fetchone()[0]
            for flow, _ in flows
        ]
    assert [state for _, state in flows] == ["COMPLETED"] * 3
    assert counts[0] >= 5 and counts[1:] == [counts[0]] * 2, "the task runs of every run are recorded"
