"""How many rows a second are read from databases and sheets, against a CSV of the same table?

    python -m benchmarks.sources [--rows 100000] [--repeats 3] [--postgres postgresql://me@127.0.0.1/postgres]

20 columns: a key, whole numbers, numbers, words, a date, a time, a boolean. Seconds are of CPU, of this
process and its children, from the source to the committed dataset, without a server's own. A PostgreSQL
server is named by its URL (its password by PGPASSWORD), and gets a table `genpipe_bench`. Writes
benchmarks/results/sources.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from genpipe.sheet_file import write_sheet

RESULTS = Path(__file__).parent / "results" / "sources.json"
TABLE = "genpipe_bench"
LEAST = 0.5  # of a CSV's rows a second


def table(rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {"id": np.arange(rows)}
    columns |= {f"whole_{i}": rng.integers(0, 1000, rows) for i in range(5)}
    columns |= {f"number_{i}": rng.normal(size=rows).round(3) for i in range(5)}
    columns |= {f"word_{i}": rng.choice([f"word {j}" for j in range(8 * (i + 1))], rows) for i in range(5)}
    columns["day"] = (np.datetime64("2015-01-01") + rng.integers(0, 3000, rows)).astype("datetime64[D]")
    columns["at"] = np.datetime64("2015-01-01T00:00:00") + rng.integers(0, 3 * 10**8, rows)
    columns["flag"] = rng.integers(0, 2, rows).astype(bool)
    columns["name"] = rng.choice([f"name {j}" for j in range(5000)], rows)
    return pa.table(columns)


def written(data: pa.Table, folder: Path, postgres: str | None) -> dict[str, str]:
    """The places of the table, in every form."""
    pacsv.write_csv(data, folder / "people.csv")
    write_sheet(folder / "people.xlsx", data.schema, [data], rows=data.num_rows)
    kinds = {"int64": "integer", "double": "real", "string": "text", "bool": "boolean"}
    texts = [c.cast(pa.string()) if pa.types.is_temporal(c.type) else c for c in data.columns]
    with closing(sqlite3.connect(folder / "people.db")) as file, file:
        declared = ", ".join(f"{f.name} {kinds.get(str(f.type), 'timestamp')}" for f in data.schema)
        file.execute(f"create table people ({declared}, primary key (id))")
        marks = ", ".join("?" * data.num_columns)
        values = zip(*(c.to_pylist() for c in texts), strict=True)
        file.executemany(f"insert into people values ({marks})", values)
    with duckdb.connect(str(folder / "people.duckdb")) as duck:
        duck.register("rows", data)
        duck.execute("create table people as select * from rows")
    places = {
        "CSV": str(folder / "people.csv"),
        "SQLite": str(folder / "people.db"),
        "DuckDB": str(folder / "people.duckdb"),
        "Excel": str(folder / "people.xlsx"),
    }
    if postgres:
        import adbc_driver_postgresql.dbapi as dbapi

        with dbapi.connect(postgres) as server, server.cursor() as cursor:
            cursor.execute(f"drop table if exists {TABLE}")
            cursor.adbc_ingest(TABLE, data, mode="create")
            cursor.execute(f"alter table {TABLE} add primary key (id)")
            server.commit()
        places["PostgreSQL"] = f"{postgres}#{TABLE}"
    return places


def cpu() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def read(place: str, home: Path) -> tuple[float, Any]:
    """Seconds of CPU, and the dataset."""
    import genpipe

    os.environ["GENPIPE_HOME"] = str(home / str(time.monotonic_ns()))
    began = cpu()
    made = genpipe.ingest(place, name="people")
    gc.collect()  # ends the children, whose seconds count then
    return cpu() - began, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--postgres")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genpipe-bench-") as scratch:
        folder = Path(scratch)
        places = written(table(asked.rows), folder, asked.postgres)
        seconds: dict[str, list[float]] = {name: [] for name in places}
        made: dict[str, Any] = {}
        for turn in range(asked.repeats + 1):
            for name, place in places.items():
                taken, made[name] = read(place, folder)
                if turn:  # the first round warms caches and imports
                    seconds[name].append(taken)
    report = {
        "rows": asked.rows,
        "columns": 20,
        "cpu_seconds": {name: round(median(taken), 3) for name, taken in seconds.items()},
        "of_csv": {
            name: round(median(a / b for a, b in zip(seconds["CSV"], taken, strict=True)), 3)
            for name, taken in seconds.items()
        },
        "cpus": os.cpu_count(),
    }
    for name, taken in report["cpu_seconds"].items():
        share = report["of_csv"][name]
        print(f"{name:10} {asked.rows / taken:10,.0f} rows/s, {share:.2f} of CSV's (at least {LEAST})")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
