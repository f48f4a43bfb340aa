"""Do large tables cost the same per row, and how much memory do they take?

    python -m benchmarks.table_scaling [--rows 100000 1000000] [--columns 50]

A generated table (a third choices, a third whole numbers, a third real numbers, all hanging together) of each
size is ingested from Parquet; the default recipe is trained for a fixed number of steps, and rows are sampled
to committed Parquet, each in a process of its own on one core. What grows with a table is the codec and the
encoding: CPU microseconds per row and column must not grow. Peak memory is the largest resident set.

Writes benchmarks/results/table_scaling.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parent / "results" / "table_scaling.json"
STEPS, SAMPLED, CHUNK = 200, 200_000, 100_000
FIT_GIB, SAMPLE_GIB = 6.0, 2.0


def write_table(path: Path, rows: int, columns: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for start in range(0, rows, CHUNK):
        rng = np.random.default_rng(start)
        size = min(CHUNK, rows - start)
        common = rng.normal(size=size)
        made: dict[str, Any] = {}
        for i in range(columns):
            noisy = common + rng.normal(size=size) * (1 + i % 5)
            if i % 3 == 0:
                made[f"c{i}"] = np.char.add("v", np.digitize(noisy, np.linspace(-4, 4, 3 + i)).astype(str))
            elif i % 3 == 1:
                made[f"c{i}"] = np.rint(np.exp(noisy / 3) * 100).astype(np.int64)
            else:
                made[f"c{i}"] = np.round(noisy, 3)
        table = pa.table(made)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def stage(name: str, folder: Path) -> dict[str, float]:
    """One stage in this process: its CPU seconds and largest memory."""
    import torch

    import genpipe
    from genpipe.bundle import Bundle
    from genpipe.stages.prepare import prepare
    from genpipe.training import finish, loop, score  # noqa: F401  imports are not part of it

    torch.set_num_threads(1)
    data, began = genpipe.ingest(str(folder / "table.parquet"), name="table"), time.process_time()
    out: dict[str, float] = {}
    if name == "prepare":
        codec = prepare(data)
        out["codec_cpu_s"] = time.process_time() - began
        began = time.process_time()
        for batch in data.batches("train"):
            codec.encode(batch, "tokens")
        out["encode_cpu_s"] = time.process_time() - began
    elif name != "ingest":
        model = genpipe.train(
            data, recipe={"training": {"epochs": None, "steps": STEPS, "evaluate_every": STEPS}}
        )
        if name == "sample":
            Bundle.open(model.uri).sample(1)
            began = time.process_time()
            genpipe.generate(model, rows=SAMPLED, workers=0)
        out[f"{name}_cpu_s"] = time.process_time() - began
    return out | {f"{name}_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def measure(rows: int, columns: int) -> dict[str, float]:
    found: dict[str, float] = {"rows": rows, "columns": columns}
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "table.parquet", rows, columns)
        one_core = {"OMP_NUM_THREADS": "1", "GENPIPE_CPUS": "1", "GENPIPE_HOME": str(Path(folder) / "home")}
        for name in ("ingest", "prepare", "fit", "sample"):
            command = [sys.executable, "-m", "benchmarks.table_scaling", "--stage", name, folder]
            told = subprocess.run(
                command, check=True, capture_output=True, text=True, env=os.environ | one_core
            )
            found |= json.loads(told.stdout.splitlines()[-1])
    found["us_per_row_and_column"] = 1e6 * (found["codec_cpu_s"] + found["encode_cpu_s"]) / rows / columns
    found["sampled_rows_per_cpu_s"] = SAMPLED / found["sample_cpu_s"]
    return {k: round(v, 4) for k, v in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(stage(options.stage[0], Path(options.stage[1]))))
        return 0
    results = []
    for rows in options.rows:
        results.append(measure(rows, options.columns))
        print(json.dumps(results[-1]), flush=True)
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    growth = results[-1]["us_per_row_and_column"] / results[0]["us_per_row_and_column"]
    largest = max(results, key=lambda r: r["rows"])
    print(f"cost per row, {results[-1]['rows']} against {results[0]['rows']} rows: {growth:.2f}")
    print(f"memory at {largest['rows']} rows: fit {largest['fit_gib']:.2f} GiB (target {FIT_GIB}),", end=" ")
    print(f"sampling {largest['sample_gib']:.2f} GiB")
    return 0 if largest["fit_gib"] <= FIT_GIB else 1


if __name__ == "__main__":
    sys.exit(main())
