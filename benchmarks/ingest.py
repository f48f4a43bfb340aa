"""How fast is ingest against pyarrow's own CSV to Parquet, and does memory stay bounded? One run, one file.

    python -m benchmarks.ingest [--rows 1000000] [--repeats 7]

pyarrow is timed both ways it offers (whole table, and streaming), in turns with ours; the faster one is the
rival. The ratio is the median over the rounds: noise that lasts longer than a round cancels. Ours types,
hashes, splits, checks and commits besides. Peak memory: a fresh process on a file ten times its limit.
Writes benchmarks/results/ingest.json.
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
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

RESULTS = Path(__file__).parent / "results" / "ingest.json"
BLOCK = 50_000
LIMIT = 96 * 2**20


def people(rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "id": np.arange(rows) + seed * rows,
            "age": rng.integers(18, 90, rows),
            "income": np.round(rng.lognormal(10, 1, rows), 2),
            "score": rng.normal(size=rows).round(4),
            "city": rng.choice(["Paris", "London", "New York", "Tokyo", "Lima"], rows),
            "job": rng.choice([f"job {i}" for i in range(200)], rows),
            "member": rng.choice([True, False], rows),
            "joined": (np.datetime64("2015-01-01") + rng.integers(0, 3000, rows)).astype("datetime64[D]"),
            "seen": np.datetime64("2015-01-01T00:00:00") + rng.integers(0, 3 * 10**8, rows),
        }
    )


def write_csv(path: Path, rows: int = 0, size: int = 0) -> int:
    """At least `rows` rows and `size` bytes; returns the rows."""
    with open(path, "wb") as out:
        done = 0
        while done < rows or out.tell() < size:
            pacsv.write_csv(people(BLOCK, done // BLOCK), out, pacsv.WriteOptions(include_header=done == 0))
            done += BLOCK
    return done


def whole(source: Path, target: Path) -> None:
    pq.write_table(pacsv.read_csv(source), target)


def streaming(source: Path, target: Path) -> None:
    reader = pacsv.open_csv(source)
    with pq.ParquetWriter(target, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def ours(source: Path, target: Path) -> None:
    import genpipe

    os.environ["GENPIPE_HOME"] = str(target) + f".{time.monotonic_ns()}"
    genpipe.ingest(str(source))


def seconds(work: Callable[[Path, Path], None], source: Path, target: Path) -> tuple[float, float]:
    """(wall, CPU)"""
    wall, cpu = time.perf_counter(), time.process_time()
    work(source, target)
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(folder: Path, rows: int, repeats: int) -> dict[str, Any]:
    source = folder / "people.csv"
    rows = write_csv(source, rows=rows)
    ways = {"whole": whole, "streaming": streaming, "genpipe": ours}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, work in ways.items():
            taken = seconds(work, source, folder / f"{name}.parquet")
            if turn:  # the first round warms caches and imports
                times[name].append(taken)
    rounds = zip(times["whole"], times["streaming"], times["genpipe"], strict=True)
    return {
        "rows": rows,
        "rows_per_second": {name: rows / min(wall for wall, _ in values) for name, values in times.items()},
        "cpu_seconds": {name: min(cpu for _, cpu in values) for name, values in times.items()},
        "ratio": median(min(a[0], b[0]) / c[0] for a, b, c in rounds),
    }


def peak(folder: Path) -> dict[str, float]:
    """MiB a fresh process grows by on a CSV ten times the limit."""
    source, small = folder / "big.csv", folder / "small.csv"
    write_csv(source, size=10 * LIMIT)
    write_csv(small, rows=1)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ingest", "--child", str(source), str(small)],
        env=os.environ | {"GENPIPE_HOME": str(folder / "memory")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    started, ended = map(float, done.stdout.split())
    return {"csv": source.stat().st_size / 2**20, "limit": LIMIT / 2**20, "start": started, "peak": ended}


def peak_rss() -> float:
    """MiB this process held at most. Not getrusage: a child inherits its parent's figure there."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def child(source: str, small: str) -> None:
    """Print the peak before and after a large ingest; a small one has loaded every library by then."""
    import genpipe

    genpipe.ingest(small, memory=LIMIT)
    started = peak_rss()
    genpipe.ingest(source, memory=LIMIT)
    print(started, peak_rss())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--child", nargs=2)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    with tempfile.TemporaryDirectory(prefix="genpipe-bench-") as scratch:
        folder = Path(scratch)
        report = compare(folder, arguments.rows, arguments.repeats)
        report |= {"memory_mib": peak(folder), "cpus": os.cpu_count()}
    for name, value in report["rows_per_second"].items():
        print(f"{name:10} {value / 1e6:.2f} M rows/s, {report['cpu_seconds'][name]:.2f} s of CPU")
    print(
        "ratio {ratio:.2f} of the faster pyarrow way on {rows} rows (at least 0.5)\n"
        "{memory_mib[csv]:.0f} MiB of CSV with memory={memory_mib[limit]:.0f} MiB: RSS from "
        "{memory_mib[start]:.0f} to {memory_mib[peak]:.0f} MiB".format(**report)
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
