"""What does a night cost, where a folder gets a file a day? CPU seconds and bytes, as the folder grows.

    python -m benchmarks.nights [--days 120] [--rows 100000] [--format csv] [--every 10]

Every night a file of `rows` rows comes and the folder is ingested, in this process. Every so many nights the
new file alone is ingested into an empty store, in the same minute: the bare ingest of a day that a night is
compared with. At the end the whole folder is ingested into an empty store: it must be the same dataset, and
the bytes of the store of all nights (manifests, the note, every version) are compared with that one's.
Writes benchmarks/results/nights.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from benchmarks.ingest import people

RESULTS = Path(__file__).parent / "results" / "nights.json"


def cpu() -> float:
    """Seconds of this process and of children that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def ingest(source: Path, home: Path) -> tuple[float, Any]:
    """(CPU seconds, the dataset)."""
    import genpipe

    os.environ["GENPIPE_HOME"] = str(home)
    before = cpu()
    made = genpipe.ingest(str(source), name="days", workers=0)
    return cpu() - before, made


def nights(scratch: Path, days: int, rows: int, kind: str, every: int) -> dict[str, Any]:
    folder, home, alone = scratch / "days", scratch / "home", scratch / "alone"
    folder.mkdir()
    alone.mkdir()
    spent, bare = list[float](), dict[int, float]()
    for number in range(days):
        file = folder / f"{number:04d}.{kind}"
        table = people(rows, number)
        pacsv.write_csv(table, file) if kind == "csv" else pq.write_table(table, file)
        if number % every == every - 1:
            os.link(file, alone / file.name)
            bare[number], _ = ingest(alone, scratch / f"bare-{number}")
            (alone / file.name).unlink()
        seconds, made = ingest(folder, home)
        spent.append(seconds)
        if number in bare:
            changed = len(made.manifest.origin.get("changed", []))
            print(
                f"night {number + 1:4}: {seconds:6.2f} CPU s, a bare day {bare[number]:5.2f}, "
                f"{size(home / 'store') / 1e6:8.1f} MB{', drift' if changed else ''}",
                flush=True,
            )
    whole, once = ingest(folder, scratch / "once")
    assert once.fingerprint == made.fingerprint, "another dataset than the folder makes at once"
    data = sum(part.bytes for part in made.manifest.parts)
    last = [number for number in bare if number >= days * 3 // 4]
    return {
        "days": days,
        "rows": rows,
        "format": kind,
        "night_cpu_seconds": {str(n + 1): round(spent[n], 3) for n in bare},
        "bare_day_cpu_seconds": median(bare.values()),
        "whole_cpu_seconds": whole,
        # of the nights around each bare day of the last quarter
        "ratio": median(median(spent[max(0, n - 2) : n + 1]) / bare[n] for n in last),
        "nights_cpu_seconds": sum(spent),
        "data_bytes": data,
        "store_bytes": size(home / "store"),
        "store_files": sum(p.is_file() for p in (home / "store").rglob("*")),
        "bytes_ratio": size(home / "store") / size(scratch / "once" / "store"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv")
    parser.add_argument("--every", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genpipe-bench-") as scratch:
        report = nights(Path(scratch), given.days, given.rows, given.format, given.every)
    print(
        "{days} nights of {rows} rows ({format}): a night of the last quarter costs {ratio:.2f} bare days "
        "(at most 1.5), all nights {nights_cpu_seconds:.0f} CPU s, all at once {whole_cpu_seconds:.0f}\n"
        "the store holds {bytes_ratio:.3f} times what one ingest of all files does (at most 1.1), "
        "in {store_files} files".format(**report)
    )
    RESULTS.parent.mkdir(exist_ok=True)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known["{days} nights of {rows} rows, {format}".format(**report)] = report | {"cpus": os.cpu_count()}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
