"""The commands that kill_points.py kills, with what they need beforehand and what they make."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
GENPIPE = [sys.executable, "-m", "genpipe.cli"]
TRAINING = {"steps": 240, "evaluate_every": 80, "checkpoint_every": 20}
RECIPE = {"base": "tabular_vae", "training": TRAINING}
SPEC: dict[str, Any] = {
    "name": "people",
    "source": {"target": "group"},
    "recipe": {"base": "tabular_vae", "training": TRAINING | {"steps": 160}},
    "train": {"workers": 0},
    "gate": {"fidelity": 0.0},
    "generate": {"rows": 3000, "workers": 0},
}
FIRST = """
import genpipe.flows.embedded as embedded
from genpipe.registry.tracking import client, experiment_id
with embedded.prefect_api():
    print("genpipe-first", experiment_id(client(), "genpipe/people"))
"""


@dataclass(frozen=True)
class Stage:
    """command: its words. share: of the kills. needs: stages whose results lie in the home beforehand.
    begun: what is there once the work itself begins. made: what an undisturbed one would make, in words.
    """

    name: str
    command: Callable[[Path], list[str]]
    share: int
    needs: tuple[str, ...]
    begun: str
    made: Callable[[Path], dict[str, str]]


def dataset(home: Path, folder: str) -> dict[str, str]:
    """Of a committed dataset its parts, as its manifest names them."""
    made = {}
    for manifest in sorted((home / "store" / folder).glob("*/*/manifest.json")):
        told = json.loads(manifest.read_text())
        for part in told["parts"]:
            content = hashlib.sha256((manifest.parent / part["path"]).read_bytes()).hexdigest()
            made[f"{told['name']} {part['path'].rsplit('/', 1)[1]}"] = content
            assert content == part["sha256"], f"{manifest} names other bytes"
    return made


def bundle(home: Path) -> dict[str, str]:
    """The weights that results of runs name."""
    results = [json.loads(p.read_text()) for p in sorted((home / "store/runs").glob("*/result.json"))]
    return {
        f"{told['name']} {name}": hashlib.sha256(Path(told["uri"], name).read_bytes()).hexdigest()
        for told in results
        for name in ("weights.safetensors", "codec.json", "recipe.json")
    }


def trials(home: Path) -> dict[str, str]:
    """Plan and metrics of every trial; which of two equals is chosen is a matter of seconds."""
    (study,) = (home / "store/studies").glob("*/result.json")
    told = [[t["number"], t["state"], t["metrics"]] for t in json.loads(study.read_text())["trials"]]
    plan = study.with_name("plan.json").read_bytes()
    return {"trials": json.dumps(told), "plan": hashlib.sha256(plan).hexdigest()}


def registry(home: Path) -> dict[str, str]:
    code = "from genpipe.registry import resolve; print(resolve('models:/people@champion').reference)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(home), capture_output=True, text=True)
    return {"champion": done.stdout.strip() or done.stderr[-300:]}


STAGES = (
    Stage("first use", lambda _: [sys.executable, "-c", FIRST], 20, (), "mlflow.db.lock", lambda _: {}),
    Stage(
        "ingest",
        lambda home: [*GENPIPE, "ingest", "people.csv", "--target", "group"],
        26,
        (),
        "logs/ingest-*.log",
        lambda home: dataset(home, "datasets"),
    ),
    Stage(
        "train",
        lambda home: [*GENPIPE, "train", "people", "--recipe", "recipe.json"],
        22,
        ("ingest",),
        "logs/train-*.log",
        bundle,
    ),
    Stage(
        "generate",
        lambda home: (
            [*GENPIPE, "generate", model_of(home), "--rows", "20000", "--rows-per-part", "1000"]
            + ["--workers", "0"]
        ),
        24,
        ("ingest", "train"),
        "logs/generate-*.log",
        lambda home: dataset(home, "generated"),
    ),
    Stage(
        "tune",
        lambda home: (
            [*GENPIPE, "tune", "people", "--recipe", "tabular_vae", "--trials", "2"]
            + ["--vary", "steps=[40, 50]"]
        ),
        4,
        ("ingest",),
        "logs/tune-*.log",
        trials,
    ),
    Stage(
        "run",
        lambda home: [*GENPIPE, "run", "spec.json"],
        4,
        (),
        "logs/run-*.log",
        lambda home: bundle(home) | dataset(home, "datasets") | dataset(home, "generated") | registry(home),
    ),
)


def model_of(home: Path) -> str:
    (result,) = (home / "store/runs").glob("*/result.json")
    return str(json.loads(result.read_text())["uri"])


def environment(home: Path) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("GENPIPE", "MLFLOW", "PREFECT", "RAY_"))}
    own |= {"GENPIPE_HOME": str(home), "GENPIPE_CPUS": "2", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return own


def prepared(folder: Path) -> Path:
    """The inputs, and a home in which the stages that others need were run."""
    rng, folder = random.Random(7), folder / "whole"
    folder.mkdir()
    rows = [
        f"{rng.gauss(170, 9):.4f},{rng.gauss(70, 9):.4f},{rng.gauss(40, 9):.3f},{'abc'[k % 3]}"
        for k in range(30_000)
    ]
    (folder / "people.csv").write_text("\n".join(["height,weight,age,group", *rows]) + "\n")
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    # one place for all: the id of a dataset, which lineage tells, is made of where its source lies and when
    # that was written
    source = SPEC["source"] | {"path": str(folder / "people.csv")}
    (folder / "spec.json").write_text(json.dumps(SPEC | {"source": source}))
    return folder
