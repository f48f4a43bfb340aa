"""What do real faults do? Prints the table fault, stage, verdict, seconds.

    python -m benchmarks.faults [--kills 100] [--minutes 90] [--no-tests] [--quick]

Of every test that injects one (pytest's mark `faults`: kills, stopped processes, stores that hang,
cut or refuse), with --quick without the slow ones; and of commands killed at random moments (kill_points.py).
Exit code 1 where one of them did not end well.

Writes benchmarks/results/faults.json.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from benchmarks import kill_points

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "faults.json"
Row = tuple[str, str, str, str]
HEAD: Row = ("fault", "stage", "verdict", "seconds")
STAGES = {"first_use": "first use", "store_faults": "store", "alerts": "schedule"}


def tested(quick: bool) -> list[Row]:
    """A row a test."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        marks = "faults and not slow" if quick else "faults"
        command = [sys.executable, "-m", "pytest", "-q", "-m", marks, f"--junitxml={report}", "tests"]
        subprocess.run(command, cwd=ROOT, stdout=sys.stderr)
        cases = ElementTree.parse(report).iter("testcase")
        return [_row(case) for case in cases]


def _row(case: ElementTree.Element) -> Row:
    kind = case.get("classname", "").rsplit(".", 1)[-1].removeprefix("test_")
    stage = STAGES.get(kind, kind.removesuffix("_faults"))
    fault = case.get("name", "").removeprefix("test_").replace("_", " ")
    ends = {child.tag for child in case}
    verdict = "failed" if ends & {"failure", "error"} else "skipped" if "skipped" in ends else "well"
    return re.sub(r"\[(.*)\]$", r": \1", fault), stage, verdict, f"{float(case.get('time', 0)):.0f}"


def show(rows: list[Row]) -> None:
    widths = [max(len(row[k]) for row in (HEAD, *rows)) for k in range(4)]
    for row in (HEAD, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=90, help="at most, for the kills")
    parser.add_argument("--no-tests", action="store_true", help="the random kills alone")
    parser.add_argument("--quick", action="store_true", help="without slow tests")
    asked = parser.parse_args()
    rows = [] if asked.no_tests else tested(asked.quick)
    kills = kill_points.run(asked.kills, asked.minutes, "", 0) if asked.kills else []
    rows += kill_points.table(kills)
    RESULT.write_text(json.dumps([dict(zip(HEAD, row, strict=True)) for row in rows], indent=1) + "\n")
    show(rows)
    bad = [row for row in rows if row[2] == "failed"] + [kill for kill in kills if kill.verdict != "well"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
