"""The first hour of somebody who did not write the code, as tests/first_hour.py has it. All that differs from
what was expected is printed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
from first_hour import QUICK, THEN, Line
from first_hour_data import make

import genpipe
from genpipe.cli import execute
from genpipe.stages.named_data import datasets_in_store


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """The folder in which a person plays, with no home but the one that is made there."""
    monkeypatch.delenv("GENPIPE_HOME")
    place = tmp_path / "play"
    make(place)
    shutil.copy(place / "people.csv", tmp_path / "people-home.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(genpipe.__file__).parents[1]))
    monkeypatch.chdir(place)
    return place


def typed(lines: Iterable[Line], capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What differs from what was expected."""
    differs = []
    for code, piece, line in lines:
        if line.startswith("$ "):
            done = subprocess.run(
                ["bash", "-c", line[2:]],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=250,
            )
            got, text = done.returncode, done.stdout + done.stderr
        else:
            capfd.readouterr()
            got, text = execute(shlex.split(line)), "".join(capfd.readouterr())
        if got != code or piece not in text or "Traceback" in text:
            differs.append(f"{line}\n   expected {code} {piece!r}, got {got}:\n   {text[-900:]}")
    return differs


def test_the_first_minutes(play: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(QUICK) >= 40
    differs = typed(QUICK, capfd)
    assert not differs, "\n".join([f"{len(differs)} of {len(QUICK)} lines differ", *differs])
    assert len(pd.read_csv("thirties.csv").query("30 <= age < 40")) == 20
    assert len(pd.read_parquet("made")) == 100
    assert "x" not in datasets_in_store()  # what was refused is nobody's dataset


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_first_hour(play: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(QUICK) + len(THEN) >= 150
    differs = typed([*QUICK, *THEN], capfd)
    assert not differs, "\n".join([f"{len(differs)} of {len(QUICK) + len(THEN)} lines differ", *differs])
    assert len(pd.read_excel("made.xlsx", engine="calamine")) == 100
    assert len(pd.read_sql("select * from people", "sqlite:///made2.db")) == 100
    assert set(pd.read_csv("rich.csv").income) == {">50K"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_shells_at_once_and_an_interrupted_one(play: Path) -> None:
    def shell(line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            shlex.split(line),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    both = [shell("genpipe ingest people.csv --target income") for _ in range(2)]
    told = [each.communicate(timeout=250)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], told
    both = [shell("genpipe train people --recipe tabular_trees") for _ in range(2)]
    told = [each.communicate(timeout=250)[0] for each in both]
    assert {each.returncode for each in both} <= {0, 6} and 0 in [each.returncode for each in both], told
    for output in ("one", "one.csv"):
        both = [shell(f"genpipe generate people --rows 3000 --seed {i} --output {output}") for i in (1, 2)]
        told = [each.communicate(timeout=250)[0] for each in both]
        assert sorted(each.returncode for each in both) == [0, 6], told
        assert len((pd.read_csv if output.endswith("csv") else pd.read_parquet)(output)) == 3000
    stopped = shell("genpipe train people --recipe quick-any.yaml --name stopped")
    time.sleep(4)
    os.killpg(stopped.pid, signal.SIGINT)
    said = stopped.communicate(timeout=250)[0]
    assert stopped.returncode in (0, 130) and "Traceback" not in said, said
    again = shell("genpipe train people --recipe quick-any.yaml --name stopped")
    said = again.communicate(timeout=250)[0]
    assert again.returncode == 0, said
