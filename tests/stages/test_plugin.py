"""The example plug-in, built and installed in a folder: known where that is on the path, and nowhere else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import genpipe
from genpipe.bundle import Bundle
from genpipe.errors import DataError, UsageError
from genpipe.recipes import parse_recipe

ROOT = Path(genpipe.__file__).parent.parent
EXAMPLE = ROOT / "examples" / "plugin"
TRAIN = """
import json, sys
import genpipe
SHORT = {"steps": 40, "batch_size": 64, "evaluate_every": 20}
data = genpipe.ingest("builtin:titanic")
flow = genpipe.train(data, recipe={"base": "tabular_flow", "training": SHORT})
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` makes of the example, without a network."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    places = ["--target", str(folder / "site"), str(folder / "source")]
    command = [sys.executable, "-m", "pip", "install", *offline, *places]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "site"


@pytest.fixture
def child(site: Path, home: Path, tmp_path: Path) -> Callable[[str], Any]:
    """Run code where the plug-in is installed; the JSON it prints last."""

    def run(code: str) -> Any:
        env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "GENPIPE_HOME": str(home)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=580
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_plugin_trains_registers_generates_and_serves_a_consumer_of_mlflow(
    child: Callable[[str], Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = child(
        TRAIN
        + """
gan = {"adversarial": "smoothed", "penalty": "r1", "generator": "gated", "critic": "gated"}
gan = genpipe.train(data, recipe={"base": "tabular_gan", "family": gan, "training": SHORT})
registered = genpipe.register(flow, name="flowing", despite="an example")
rows = genpipe.generate(registered.uri, rows=5).pandas()
print(json.dumps([flow.uri, gan.uri, registered.uri, len(rows)]))
"""
    )
    flow, gan, registered, rows = made
    assert rows == 5
    needs = {"flow": {"distribution": "genpipe-flow", "version": "0.1.0"}}
    for uri in (flow, gan):
        assert json.loads(Path(uri, "origin.json").read_text())["plugins"] == needs

    told = child(f"""
import json, mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///{home}/mlflow.db")
model = mlflow.pyfunc.load_model("{registered}")
frame = model.predict(pd.DataFrame(), params={{"rows": 5, "seed": 0}})
needs = mlflow.pyfunc.get_model_dependencies("{registered}")
print(json.dumps([len(frame), open(needs).read()]))
""")
    assert told[0] == 5 and "genpipe-flow==0.1.0" in told[1].splitlines()

    # this process has no such plug-in
    with pytest.raises(DataError, match=r"'flow' of genpipe-flow.*: pip install genpipe-flow==0\.1\.0"):
        Bundle.open(flow)
    with pytest.raises(DataError, match=r"pip install genpipe-flow==0\.1\.0"):
        genpipe.generate(registered, rows=5)
    with pytest.raises(UsageError, match="unknown recipe 'tabular_flow'"):
        parse_recipe("tabular_flow", "tabular")


def test_its_own_tests_run_the_contracts(child: Callable[[str], Any]) -> None:
    assert (
        child(f"""
import pytest
print(int(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir=.", "{EXAMPLE / "test_genpipe_flow.py"}"])))
""")
        == 0
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_plugin_is_searched_and_trained_on_ray(child: Callable[[str], Any]) -> None:
    """Ray's workers are fresh processes, which find the plug-in by themselves."""
    networks, state, alike = child(
        TRAIN
        + """
vary = {"velocity.network": ["mlp", "gated"], "training.steps": [20]}
found = genpipe.tune(data, recipes=["tabular_flow"], vary=vary, trials=2)
ray = genpipe.train(data, recipe={"base": "tabular_flow", "training": SHORT}, workers=1, tag="ray")
networks = sorted(t.choices["family.velocity.network"] for t in found.trials)
print(json.dumps([networks, [t.state for t in found.trials], ray.uri[-8:] == flow.uri[-8:]]))
"""
    )
    assert networks == ["gated", "mlp"] and "failed" not in state
    assert alike, "one Ray worker learns what this process learns"
