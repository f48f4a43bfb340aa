"""A table that is piped into `genpipe ingest -`."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from genpipe.stages.named_data import latest_of

ROWS = 60


def table() -> pd.DataFrame:
    return pd.DataFrame({"age": range(ROWS), "city": ["Ulm", "Bonn", "Jena"] * (ROWS // 3)})


def packed(form: str) -> bytes:
    out = io.BytesIO()
    if form == "parquet":
        table().to_parquet(out)
    elif form == "sheet":
        table().to_excel(out, index=False, engine="xlsxwriter")
    elif form == "jsonl":
        table().to_json(out, orient="records", lines=True)
    elif form == "json":
        table().to_json(out, orient="records")
    else:
        table().to_csv(out, index=False)
    return gzip.compress(out.getvalue()) if form == "gzip" else out.getvalue()


def piped(data: bytes, *more: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "genpipe.cli", "ingest", "-", "--name", "piped", *more]
    return subprocess.run(command, input=data, capture_output=True)


@pytest.mark.parametrize("form", ["csv", "gzip", "jsonl", "json", "parquet", "sheet"])
def test_what_is_piped_is_a_dataset_and_leaves_nothing(form: str, home: Path) -> None:
    done = piped(packed(form))
    assert done.returncode == 0, done.stderr.decode()
    dataset, _ = latest_of("piped")
    assert dataset.rows() == ROWS and dataset.schema.names == ("age", "city")
    assert not [*(home / "stdin").iterdir()]


def test_the_same_bytes_are_the_same_dataset(home: Path) -> None:
    uris = []
    for data in (packed("csv"), packed("csv"), packed("csv") + b"99,Ulm\n"):
        assert piped(data).returncode == 0
        uris.append(latest_of("piped")[0].uri)
    assert uris[0] == uris[1] != uris[2]


def test_nothing_piped_is_told(home: Path) -> None:
    done = piped(b"")
    assert done.returncode == 3 and b"standard input: 0 bytes" in done.stderr
    assert not [*(home / "stdin").iterdir()]
