"""Does size cost its rows and no more? CPU seconds, time and memory of every stage, as tables grow.

    python -m benchmarks.scale [--rows 100000 1000000 10000000] [--only ingest wide] [--columns 20]

A made-up table (a third choices, a third whole numbers, a third real numbers, all hanging together). Each
figure is a process of its own on one core, watched from outside with all that it starts; what the same
command costs on 1,000 rows, start-up above all, is taken off before CPU is divided by rows. The second table
has what depends on more than rows: many columns, files, workers, a limit of minutes.

Writes benchmarks/results/scale.json, a row at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.watching import Watched, watch

RESULT = Path(__file__).parent / "results" / "scale.json"
CHUNK, FEW = 100_000, 1_000
FILES = 10  # of a folder that is read through Ray
SMALL_FILES = 10_000
WIDE_ROWS, WIDE = 2_000, (1_000, 2_000, 4_000, 15_000)
LIMIT_MINUTES = 0.2


def made_table(rows: int, columns: int, seed: int) -> Any:
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    common, made = rng.normal(size=rows), dict[str, Any]()
    for i in range(columns):
        noisy = common + rng.normal(size=rows) * (1 + i % 5)
        if i % 3 == 0:
            levels = np.array([f"v{n}" for n in range(200)])
            made[f"c{i}"] = levels[np.digitize(noisy, np.linspace(-4, 4, 3 + i % 100))]
        elif i % 3 == 1:
            made[f"c{i}"] = np.rint(np.exp(noisy / 3) * 100).astype(np.int64)
        else:
            made[f"c{i}"] = np.round(noisy, 3)
    return pa.table(made)


def write_table(path: Path, rows: int, columns: int) -> None:
    """A Parquet or CSV file, by its suffix; chunk by chunk."""
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    writer: Any = None
    for start in range(0, rows, CHUNK):
        table = made_table(min(CHUNK, rows - start), columns, start)
        if writer is None:
            kind = pacsv.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter
            writer = kind(path, table.schema)
        writer.write_table(table)
    writer.close()


@dataclass(frozen=True)
class Stage:
    """code: what a process runs, with `rows` given. needs: stages whose outputs it takes, run before it."""

    code: str
    goal: str
    needs: tuple[str, ...] = ()


ONE_STEP = "{'training': {'epochs': None, 'steps': 1, 'evaluate_every': 1}}"
STAGES = {
    "ingest csv": Stage("genpipe.ingest('table.csv', name='csv', workers=0)", "2.5 us a row, 400 MB"),
    "ingest parquet": Stage(
        "genpipe.ingest('table.parquet', name='parquet', workers=0)", "1.5 us a row, 400 MB"
    ),
    "first step": Stage(
        f"genpipe.train('parquet', name='model', recipe={ONE_STEP})",
        "20 s at 10^7 rows, 1 GB",
        ("ingest parquet",),
    ),
    "evaluate": Stage("genpipe.evaluate('model')", "10 / 25 CPU s at 10^6 / 10^7 rows", ("first step",)),
    "generate": Stage(
        "genpipe.generate('model', rows=rows, workers=0)", "100,000 rows a CPU s", ("first step",)
    ),
    "generate, 2 workers": Stage(
        "genpipe.generate('model', rows=rows, workers=2, seed=1)",
        "1.1 times the CPU of none",
        ("first step",),
    ),
}


def run(code: str, home: Path, *, cpus: int = 1, rows: int = 0) -> Watched:
    """The code in a process of its own, in the folder `home`."""
    env = {"OMP_NUM_THREADS": "1", "GENPIPE_CPUS": str(cpus), "GENPIPE_HOME": str(home / "home")}
    program = f"import os, genpipe\nos.chdir({str(home)!r})\nrows = {rows}\n{code}"
    return watch([sys.executable, "-c", program], os.environ | env, memory=True)


def told(found: Watched) -> dict[str, float]:
    return {
        "cpu_s": round(found.cpu_seconds, 2),
        "s": round(found.seconds, 1),
        "peak_mb": round(found.peak / 2**20),
    }


def stages(rows: int, columns: int, wanted: Callable[[str], bool]) -> dict[str, dict[str, float]]:
    """name -> figures, each at this many rows."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        needed = {n for name, stage in STAGES.items() if wanted(name) for n in (name, *stage.needs)}
        needed |= {n for name in needed for n in STAGES[name].needs}
        for kind in ("csv", "parquet"):
            if f"ingest {kind}" in needed:
                write_table(home / f"table.{kind}", rows, columns)
        for name, stage in STAGES.items():
            if name in needed:
                found[name] = told(run(stage.code, home, cpus=2 if "2" in name else 1, rows=rows))
    return found


def by_rows(
    sizes: list[int], columns: int, wanted: Callable[[str], bool], keep: Callable[[Any], None]
) -> None:
    if not any(map(wanted, STAGES)):
        return
    fixed = stages(FEW, columns, wanted)
    print(f"{'stage':22} {'rows':>10} {'CPU s':>8} {'s':>7} {'peak MB':>8} {'us a row':>9}   goal")
    for rows in sizes:
        for name, figures in stages(rows, columns, wanted).items():
            spent = figures["cpu_s"] - fixed[name]["cpu_s"]
            figures |= {"us_a_row": round(1e6 * spent / rows, 2), "fixed_cpu_s": fixed[name]["cpu_s"]}
            keep({"case": name, "rows": rows, "columns": columns, **figures})
            print(
                f"{name:22} {rows:10,} {figures['cpu_s']:8.1f} {figures['s']:7.1f} {figures['peak_mb']:8.0f} "
                f"{figures['us_a_row']:9.2f}   {STAGES[name].goal}",
                flush=True,
            )


def folder_of_csv(rows: int, columns: int) -> list[tuple[str, dict[str, float], str]]:
    """Ten files, in one process and through Ray as it is by default."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "days").mkdir()
        for number in range(FILES):
            write_table(home / "days" / f"{number}.csv", rows // FILES, columns)
        alone = told(run("genpipe.ingest('days', name='alone', workers=0)", home))
        split = told(run("genpipe.ingest('days', name='split')", home, cpus=2))
    return [
        (f"{FILES} CSVs of {rows // FILES:,}, one process", alone, ""),
        (f"{FILES} CSVs of {rows // FILES:,}, Ray", split, "CPU 1.1 times one process, half its time"),
    ]


def wide() -> list[tuple[str, dict[str, float], str]]:
    found = []
    for columns in WIDE:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            write_table(home / "wide.csv", WIDE_ROWS, columns)
            figures = told(run("genpipe.ingest('wide.csv', workers=0)", home))
            goal = "12 s" if columns == 4_000 else "linear"
            found.append((f"{WIDE_ROWS:,} rows x {columns:,} columns", figures, goal))
    return found


def small_files() -> list[tuple[str, dict[str, float], str]]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "small").mkdir()
        for number in range(SMALL_FILES):
            rows = [f"{number * 10 + i},{(number + i) % 7},{i / 3:.2f}" for i in range(10)]
            (home / "small" / f"{number:05d}.csv").write_text("\n".join(["id,kind,value", *rows]) + "\n")
        figures = told(run("genpipe.ingest('small', workers=0)", home))
    return [(f"{SMALL_FILES:,} CSVs of 10 rows", figures, "1 ms a file")]


def minutes() -> list[tuple[str, dict[str, float], str]]:
    from genpipe.recipes import recipes_for

    found = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_table(home / "table.parquet", 200_000, 20)
        run("genpipe.ingest('table.parquet', name='table', workers=0)", home)
        for name in recipes_for("tabular"):
            code = f"genpipe.train('table', recipe={name!r}, minutes={LIMIT_MINUTES})"
            goal = f"{60 * LIMIT_MINUTES * 1.1 + 3:.0f} s"
            found.append((f"train {name}, {60 * LIMIT_MINUTES:.0f} s", told(run(code, home)), goal))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--only", nargs="+", help="stages and cases with one of these words in their names")
    options = parser.parse_args()
    kept: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}

    def wanted(name: str) -> bool:
        return not options.only or any(word in name for word in options.only)

    def keep(row: dict[str, Any]) -> None:
        kept[f"{row['case']} | {row.get('rows', '')}"] = row
        RESULT.write_text(json.dumps(kept, indent=1) + "\n")

    by_rows(options.rows, options.columns, wanted, keep)
    cases: dict[str, Callable[[], list[tuple[str, dict[str, float], str]]]] = {
        "folder": lambda: folder_of_csv(max(options.rows), options.columns),
        "wide": wide,
        "small": small_files,
        "minutes": minutes,
    }
    for case, measure in cases.items():
        for name, figures, goal in measure() if wanted(case) else []:
            keep({"case": name, **figures})
            spent = f"{figures['cpu_s']:8.1f} CPU s {figures['s']:7.1f} s {figures['peak_mb']:6.0f} MB"
            print(f"{name:44} {spent}   {goal}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
