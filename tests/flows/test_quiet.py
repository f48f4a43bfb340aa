"""A night in which nothing changed is seen without a flow; one in which anything did, or is gone, is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genpipe.flows.summary import Summary

HEAVY = ["torch", "ray", "mlflow", "prefect", "sklearn", "pandas"]
SECOND = f"""
import sys
from genpipe.cli import execute
assert execute(["run", sys.argv[1]]) == 0
print("loaded", sorted(set({HEAVY}) & set(sys.modules)))
"""


class Ran(Exception):
    """The whole road was begun."""


@contextmanager
def away(path: Path) -> Iterator[None]:
    aside = path.with_name(f"{path.name}-aside")
    path.rename(aside)
    yield
    aside.rename(path)


def test_what_did_not_change_is_seen_without_a_flow(
    api: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genpipe.flows.pipeline import run_spec
    from genpipe.flows.quiet import unless_quiet
    from genpipe.pipeline import load_spec
    from genpipe.registry.promotion import CHAMPION
    from genpipe.registry.tracking import client

    rng, table, file = np.random.default_rng(0), tmp_path / "calm.csv", tmp_path / "calm.yaml"
    rows = [f"{rng.integers(18, 90)},{rng.normal(170, 9):.1f},{rng.choice(['f', 'm'])}" for _ in range(600)]
    table.write_text("\n".join(["age,height,sex", *rows]) + "\n")
    recipe = {"base": "tabular_autoregressive", "training": {"steps": 60, "evaluate_every": 30}}
    spec: dict[str, Any] = {"name": "calm", "source": {"path": "calm.csv", "target": "sex"}, "recipe": recipe}
    file.write_text(json.dumps(spec | {"generate": {"rows": 200, "workers": 0, "output": "made.csv"}}))
    monkeypatch.delenv("PREFECT_API_URL")  # the flow knows its server by other settings

    def road() -> Summary:
        return run_spec(load_spec(str(file)), progress=lambda event: None)

    def begun() -> Summary:
        raise Ran

    def night(work: Callable[[], Summary] = begun, tag: str = "") -> tuple[Summary, bool]:
        return unless_quiet(str(file), tag, work)

    first, quiet = night(road)
    assert not quiet and first.registered is not None
    again, quiet = night()
    assert quiet
    real, keep = road(), {"seconds", "fixed"}  # what a run says that finds everything done
    assert again.model_dump(exclude=keep) == real.model_dump(exclude=keep)
    environment = {**os.environ, "GENPIPE_HOME": str(api)}
    command = [sys.executable, "-c", SECOND, str(file)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "loaded []", "nothing heavy is loaded to see that nothing changed"
    assert "nothing changed since the last run" in told.stderr and "200 rows" in told.stdout

    to, version = client(), str(first.registered["version"])
    generated = Path(first.generated["uri"] if first.generated else "")
    for gone in (tmp_path / "made.csv", generated, Path(first.model["uri"]), api / "mlflow.db.whole"):
        with away(gone), pytest.raises(Ran):
            night()
        assert night()[1]
    to.delete_registered_model_alias("calm", CHAMPION)
    with pytest.raises(Ran):
        night()
    to.set_registered_model_alias("calm", CHAMPION, version)
    with away(next((api / "mlartifacts").rglob(f"{to_source(to, version)}/artifacts"))), pytest.raises(Ran):
        night()
    with pytest.raises(Ran):
        night(tag="another")
    with monkeypatch.context() as patch, pytest.raises(Ran):
        patch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")  # where a server is, every night is seen
        night()
    before = table.read_text()
    table.write_text(before + "44,171.0,f\n")
    with pytest.raises(Ran):
        night()


def to_source(to: Any, version: str) -> str:
    """The id of the logged model that a version holds."""
    return str(to.get_model_version("calm", version).source).removeprefix("models:/")
