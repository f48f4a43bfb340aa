"""The set-up script's decisions, without installing anything."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load_torch_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("torch_build", ROOT / "infra/torch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("version", "others", "expected"),
    [
        ("2.13.0", ["sympy", "networkx"], "cpu"),
        ("2.13.0", ["sympy", "nvidia-cublas"], "cuda"),
        ("2.13.0", ["cuda-toolkit"], "cuda"),
        ("2.13.0", ["triton"], "cuda"),
        ("2.13.0+cpu", ["nvidia-ml-py"], "cpu"),
        ("2.13.0+cu130", [], "cuda"),
    ],
)
def test_a_planned_torch_is_told_apart(
    version: str, others: list[str], expected: str, tmp_path: Path
) -> None:
    names = [{"metadata": {"name": name, "version": "1"}} for name in others]
    report = {"install": [{"metadata": {"name": "torch", "version": version}}, *names]}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert load_torch_build().planned(tmp_path / "report.json") == expected


def test_lock_holds_hashes_and_no_addresses_and_no_torch() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text and "file:" not in text, f"{name} names an address"
        entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
        bare = [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry]
        assert not bare, f"{name}: no hash for {bare}"
        forbidden = re.findall(r"^(?:torch|triton|nvidia-\S+|cuda-\S+)==.*$", text, re.MULTILINE)
        assert not forbidden, f"{name}: {forbidden} belong to the device, not to the lock"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(
        ROOT / "infra", tmp_path / "infra", ignore=shutil.ignore_patterns("secrets", "__pycache__")
    )
    return tmp_path


def set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("VENV", "DEVICE", "PYTHON")}
    command = ["sh", "infra/setup.sh", "run"]
    return subprocess.run(
        command, cwd=checkout, env=clean | environment, capture_output=True, text=True, timeout=60
    )


def fake_python(folder: Path, script: str) -> str:
    path = folder / "fake-python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_no_python_says_how_to_get_one(checkout: Path) -> None:
    done = set_up(checkout, PYTHON=fake_python(checkout, "echo 3.9"))
    assert done.returncode == 1
    assert "no Python 3.11, 3.12 or 3.13 found" in done.stderr and "apt-get install python3" in done.stderr


def test_python_without_venv_says_which_package(checkout: Path) -> None:
    script = 'case "$2" in *version_info*) echo 3.12 ;; *) exit 1 ;; esac'
    done = set_up(checkout, PYTHON=fake_python(checkout, script))
    assert done.returncode == 1
    assert "cannot make virtual environments" in done.stderr and "python3.12-venv" in done.stderr


def test_a_folder_that_is_no_environment_is_left_alone(checkout: Path) -> None:
    (checkout / "mine").mkdir()
    (checkout / "mine/thesis.txt").write_text("precious")
    done = set_up(checkout, VENV="mine")
    assert done.returncode == 1 and "is not a virtual environment" in done.stderr
    assert (checkout / "mine/thesis.txt").read_text() == "precious"


def test_unknown_device_is_refused(checkout: Path) -> None:
    done = set_up(checkout, DEVICE="tpu")
    assert done.returncode == 1 and "unknown DEVICE 'tpu'" in done.stderr


def test_two_set_ups_at_once_are_refused(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv/.busy").write_text(str(os.getpid()))
    done = set_up(checkout)
    assert done.returncode == 1 and "another set-up" in done.stderr
