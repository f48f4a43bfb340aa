"""The demo as a newcomer runs it, in a process of its own; and again, when everything is there already."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def demo(home: Path) -> tuple[str, str, float]:
    began = time.monotonic()
    command = [sys.executable, "-m", "genpipe.cli", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1200)
    assert done.returncode == 0, done.stderr + "".join(p.read_text() for p in home.glob("logs/demo-*.log"))
    return done.stdout, done.stderr, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(2500)
def test_the_demo_and_the_demo_again(home: Path) -> None:
    from genpipe.dataset import Dataset
    from genpipe.registry import resolve

    out, err, first = demo(home)
    for fact in (
        "fingerprint",
        "trials",
        "winner",
        "Fidelity",
        "verdict",
        "champion",
        "5,000 rows",
        "fixed costs",
        "next",
    ):
        assert fact in out
    assert len(re.findall(r"^  (?:genpipe|mlflow) ", out, re.MULTILINE)) == 3, "three commands to type next"
    trials = re.search(r"trials +(\d+) \((?:(\d+) finished)?", out)
    assert trials and int(trials[1]) >= 6
    # one quiet screen: nothing but our own lines
    assert all(re.match(r"genpipe demo|\[\d+:\d\d\] ", line) for line in err.splitlines()), err
    for name in ("digits", "titanic"):
        assert resolve(f"models:/{name}@champion").reference == f"models:/{name}/1"
        (made,) = (home / "store" / "generated" / name).iterdir()
        dataset = Dataset(str(made))
        dataset.verify()
        assert dataset.rows("generated") == 5000
    fidelity = re.search(r"Fidelity +([\d.]+)", out)
    assert fidelity and float(fidelity[1]) > 0.6

    again, _, second = demo(home)
    assert second < 0.6 * first
    keep = re.compile(r"fingerprint|winner|Fidelity|model |generated")
    assert [x for x in again.splitlines() if keep.match(x)] == [x for x in out.splitlines() if keep.match(x)]
