"""Thirty nights in one process: does anything grow, stay open, stay behind, or keep it from ending?

    make soak          (python -m benchmarks.soak [--nights 30] [--rows 900])

Each night the folder gets a file, and `genpipe.run` ingests it, trains, judges, registers and delivers; with
`retention: {keep: 3}`. On one night the files have a column more (drift); on another a file is broken, the
night must fail, and the next, with the file mended, must go on. For retention alone nights lie days apart.
Exit status 1 where a check fails. Writes benchmarks/results/soak.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil

RESULTS = Path(__file__).parent / "results" / "soak.json"
KEEP = 3
EXIT_SECONDS = 20.0
# of the last third of the nights against the second: what a night may add
MB_A_NIGHT, FILES_A_NIGHT, HANDLES, RSS_MB_A_NIGHT = 0.5, 12, 10, 15.0


def put(folder: Path, night: int, rows: int, *, drifted: bool) -> Path:
    rng = np.random.default_rng(night)
    city = rng.integers(0, 3, rows)
    columns: dict[str, Any] = {
        "age": rng.integers(18, 80, rows),
        "city": np.array(["Oslo", "Rome", "Lima"])[city],
        "income": rng.normal(40 + city, 5).round(1),
    }
    if drifted:
        columns["member"] = rng.choice(["yes", "no"], rows)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path = folder / f"{night:04d}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def look(home: Path) -> dict[str, float]:
    me = psutil.Process()
    files = [p for p in home.rglob("*") if p.is_file()]
    return {
        "mb": sum(p.stat().st_size for p in files) / 1e6,
        "files": len(files),
        "handles": me.num_fds(),
        "threads": me.num_threads(),
        "children": len(me.children(recursive=True)),
        "rss_mb": me.memory_info().rss / 2**20,
    }


def nights(home: Path, folder: Path, count: int, rows: int) -> list[dict[str, Any]]:
    import genpipe
    from genpipe.errors import GenpipeError
    from genpipe.stages import retention

    clock = {"days": 0.0}
    retention.time = SimpleNamespace(time=lambda: time.time() + 86_400 * clock["days"])  # type: ignore[assignment]
    drift, broken = count // 3, 2 * count // 3
    spec = {
        "name": "people",
        "source": {"path": str(folder)},
        "recipe": "tabular_trees",
        "generate": {"rows": rows},
        "retention": {"keep": KEEP},
    }
    told = []
    for night in range(count):
        if night == drift:  # all files have the column from now on, as after a migration
            for earlier in range(night):
                put(folder, earlier, rows, drifted=True)
        path = put(folder, night, rows, drifted=night >= drift)
        if night == broken:
            path.write_bytes(path.read_bytes()[:-200] + b'\n"never closed,1,2\n')
        before, began = psutil.Process().cpu_times(), time.monotonic()
        clock["days"] = 2.0
        try:
            genpipe.run(spec)
            said = "ok"
        except GenpipeError as error:
            said = f"{error.code}: {error.found}"[:160]
            put(folder, night, rows, drifted=True)
        after = psutil.Process().cpu_times()
        cpu = after.user + after.system - before.user - before.system
        told.append({"night": night, "cpu_s": cpu, "s": time.monotonic() - began, "said": said, **look(home)})
        print(
            json.dumps({k: round(v, 1) if isinstance(v, float) else v for k, v in told[-1].items()}),
            flush=True,
        )
    return told


def problems(told: list[dict[str, Any]], ended_after: float, left: list[str]) -> list[str]:
    third = len(told) // 3
    found = []

    def a_night(key: str) -> float:
        """What a night adds in the end: the last third of the nights, from its least to its most."""
        some = [night[key] for night in told[-third:]]
        return (some[-1] - some[0]) / max(len(some) - 1, 1)

    for key, most in (("mb", MB_A_NIGHT), ("files", FILES_A_NIGHT), ("rss_mb", RSS_MB_A_NIGHT)):
        if a_night(key) > most:
            found.append(f"{key} grow by {a_night(key):.2f} a night (at most {most})")
    for key in ("handles", "threads"):
        if told[-1][key] > told[third][key] + HANDLES:
            found.append(f"{key}: {told[third][key]} after {third} nights, {told[-1][key]} at the end")
    bad = [night for night in told if night["said"] != "ok"]
    if [night["night"] for night in bad] != [2 * len(told) // 3]:
        found.append(f"the bad night alone should fail: {bad}")
    if ended_after > EXIT_SECONDS:
        found.append(f"the process ended {ended_after:.0f} s after its work (at most {EXIT_SECONDS:.0f})")
    return found + [f"left in the temporary folder: {name}" for name in left[:5]]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        home, folder = map(Path, options.inside)
        told = nights(home, folder, options.nights, options.rows)
        (home.parent / "told.json").write_text(json.dumps({"nights": told, "done": time.time()}))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        for name in ("home", "days", "tmp"):
            (top / name).mkdir()
        env = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
        env |= {"GENPIPE_HOME": str(top / "home"), "GENPIPE_CPUS": "1", "TMPDIR": str(top / "tmp")}
        inside = ["--inside", str(top / "home"), str(top / "days")]
        sizes = ["--nights", str(options.nights), "--rows", str(options.rows)]
        subprocess.run([sys.executable, "-m", "benchmarks.soak", *sizes, *inside], env=env, check=True)
        ended = time.time()
        made = json.loads((top / "told.json").read_text())
        left = sorted(p.name for p in (top / "tmp").iterdir())
    found = problems(made["nights"], ended - made["done"], left)
    rounded = [{k: round(v, 2) if isinstance(v, float) else v for k, v in n.items()} for n in made["nights"]]
    end = {"ended_after_s": round(ended - made["done"], 1), "left": left, "problems": found}
    RESULTS.write_text(json.dumps({"nights": rounded, **end}, indent=1) + "\n")
    for problem in found:
        print(f"PROBLEM {problem}")
    ended_after = f"the process ended {end['ended_after_s']} s after its work"
    print(f"{len(made['nights'])} nights; {ended_after}; {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
