"""prefect.yaml for real: a server, a worker of our pool, `deploy --all`, and a run of generate/nightly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_parts import PrefectParts, prefect_parts

ROWS = 300


@pytest.fixture
def parts(home: Path, tmp_path: Path) -> Iterator[PrefectParts]:
    with prefect_parts(tmp_path) as parts:
        parts.start_worker()
        yield parts


def test_the_deployments_run(table_bundle: str, parts: PrefectParts, tmp_path: Path) -> None:
    from genpipe.dataset import Dataset
    from genpipe.registry import publish

    publish(table_bundle, name="people", metrics={"fidelity": 0.5}, holdout="toy")
    done = parts.prefect("deploy", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    listed = parts.prefect("deployment", "ls").stdout
    for name in (
        "ingest/nightly",
        "generate/nightly",
        "pipeline/weekly",
        "tables/weekly",
        "generate-tables/on-demand",
        "train/on-demand",
        "promote/on-demand",
        "generate/on-demand",
        "encode/on-demand",
        "interpolate/on-demand",
        "clean/weekly",
    ):
        assert name in listed

    output = tmp_path / "delivered"
    wanted = ["-p", f"rows={ROWS}", "-p", f"output={output}", "-p", "workers=0"]
    done = parts.prefect(
        "deployment", "run", "generate/nightly", *wanted, "--watch", "--watch-timeout", "150"
    )
    assert done.returncode == 0, done.stdout + done.stderr + parts.log("worker")
    assert Dataset(str(output)).rows("generated") == ROWS

    refused = parts.prefect("deployment", "run", "generate/nightly", "-p", "rows=ten")
    assert refused.returncode != 0
    assert "is not of type 'integer'" in refused.stdout + refused.stderr
