"""generate/on-demand of prefect.yaml: several ask at once, and each gets what was asked for, once."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prefect_parts import prefect_parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROWS, LIMIT = 300, 4
RETRY = "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS"  # of one that waits for a slot


def finished(runs: list[str], seconds: float) -> list[Any]:
    from prefect.client.orchestration import get_client

    end = time.monotonic() + seconds
    with get_client(sync_client=True) as client:
        while True:
            seen = [client.read_flow_run(run) for run in runs]
            if all(run.state.is_final() for run in seen) or time.monotonic() > end:
                return seen
            time.sleep(1)


def test_all_who_ask_at_once_are_served_once(table_bundle: str, home: Path, tmp_path: Path) -> None:
    from prefect.deployments import run_deployment
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from genpipe.dataset import Dataset
    from genpipe.registry import publish

    publish(table_bundle, name="people", metrics={"fidelity": 0.5}, holdout="toy")
    asked = [{"rows": ROWS + n, "seed": n, "output": str(tmp_path / f"asked-{n}")} for n in range(6)]
    asked.append(asked[0])  # the same twice, at once
    with prefect_parts(tmp_path, **{RETRY: "2"}) as parts:
        done = parts.prefect("deploy", "--name", "generate/on-demand")
        assert done.returncode == 0, done.stdout + done.stderr
        with temporary_settings({PREFECT_API_URL: parts.environment["PREFECT_API_URL"]}):
            runs = [
                str(run_deployment("generate/on-demand", parameters=each, timeout=0).id)  # type: ignore[union-attr]
                for each in asked
            ]
            parts.start_worker()
            seen = finished(runs, 420)
        states = Counter(run.state.name for run in seen)
        assert states.keys() <= {"Completed", "Cached"}, (states, parts.log("worker")[-3000:])
    for each in asked:
        assert Dataset(str(each["output"])).rows("generated") == each["rows"]
        assert len(list(Path(str(each["output"])).rglob("generated-*.parquet"))) == 1, "made once"
    spans = [(run.start_time, run.end_time) for run in seen]
    at_once = max(sum(a <= begun < b for a, b in spans) for begun, _ in spans)
    assert 1 < at_once <= LIMIT, "more run at once than prefect.yaml allows"
    waits = sorted((run.start_time - run.created).total_seconds() for run in seen)
    assert waits[-1] > waits[0] + 2, "those beyond the limit waited for a slot"
