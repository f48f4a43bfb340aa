"""The wheel: one top-level package, all it needs in it, and a model made with it answers in an environment of
its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).parent.parent.parent
ONE_PREDICTION = """
import genpipe, mlflow, pandas, sys
assert genpipe.__file__.startswith(sys.prefix), genpipe.__file__
dataset = genpipe.ingest("builtin:titanic", name="people")
model = genpipe.train(dataset, recipe="tabular_trees")
version = genpipe.register(model, name="people", despite="a wheel that is tried, not a release")
made = mlflow.pyfunc.load_model(version.uri).predict(pandas.DataFrame(), params={"rows": 5, "seed": 1})
print(len(made), *made.columns)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves build/ where it works."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "genpipe", "flows"):
        subprocess.run(["cp", "-a", ROOT / name, copy], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--no-index", "-w", out, copy], check=True)
    (made,) = out.glob("genpipe-*.whl")
    return made


def test_it_holds_one_package_with_its_flows_and_its_page(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"genpipe"}
    flows = {path.name for path in (ROOT / "flows").glob("*.py")}
    assert {
        name.removeprefix("genpipe/flows/") for name in names if name.startswith("genpipe/flows/")
    } == flows
    assert {"genpipe/py.typed", "genpipe/evaluation/page/report.html.j2"} <= {*names}


def test_a_model_made_with_it_answers(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "own", symlinks=True)
    python = tmp_path / "own/bin/python"
    (site,) = (tmp_path / "own/lib").glob("python*/site-packages")
    # what it needs, but not the checkout: a folder named so has no .pth files of its own read
    (site / "needs.pth").write_text(f"{Path(numpy.__file__).parent.parent}\n")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, wheel], check=True)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    env |= {"GENPIPE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [python, "-c", ONE_PREDICTION], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("5 ")
