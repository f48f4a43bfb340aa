"""Generated data as one file: CSV, JSON Lines or Parquet, as its name ends."""

from __future__ import annotations

import json
import math
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from genpipe import store
from genpipe.dataset import Dataset
from genpipe.errors import UsageError

ONE_FILE = (".csv", ".jsonl", ".parquet")
OTHERS = (".json", ".tsv", ".xlsx", ".xls", ".arrow", ".feather", ".txt", ".gz", ".zip", ".db", ".ndjson")


def one_file(output: str | None) -> bool:
    """Whether an output is to be one file. Raises UsageError for a format that is none of ours."""
    end = os.path.splitext(str(output or "").rstrip("/"))[1].lower()
    if not output or output.endswith("/") or (store.scheme_of(output) == "file" and Path(output).is_dir()):
        return False
    if end in OTHERS:
        expected = f"a folder, or a file that ends with {', '.join(ONE_FILE)}"
        raise UsageError("OUTPUT", where=output, found=f"a file of {end}", expected=expected)
    return end in ONE_FILE


def write_file(dataset: Dataset, output: str) -> None:
    """All rows of generated data as one file, by its ending: seen when it is whole, and never over another's.

    Text has money, dates and the like in the form in which they came; Parquet has their values. Memory is one
    batch. Raises ConflictError where another file has this name.
    """
    end = os.path.splitext(output)[1].lower()
    if end != ".parquet":
        _check_flat(dataset, end)
    with _beside(output) as scratch:
        schema = dataset.schema.arrow().remove_metadata()
        rows = dataset.batches("generated") if end == ".parquet" else dataset.written("generated")
        if end != ".parquet" and (first := next(rows, None)) is not None:
            texts = dict(zip(first.schema.names, first.schema.types, strict=True))
            schema = pa.schema([field.with_type(texts[field.name]) for field in schema])
            rows = chain([first], rows)
        tables = (pa.Table.from_batches([b.select(schema.names).cast(schema)]) for b in rows)
        if end == ".parquet":
            footer = schema.with_metadata({b"genpipe.origin": store.canonical(dataset.manifest.origin)})
            with pq.ParquetWriter(scratch, footer, compression="zstd", write_page_checksum=True) as parquet:
                for table in tables:
                    parquet.write_table(table.replace_schema_metadata(footer.metadata))
        elif end == ".csv":
            with pa_csv.CSVWriter(scratch, schema) as text:
                for table in tables:
                    text.write_table(table)
        else:
            with open(scratch, "w", encoding="utf-8") as lines:
                for table in tables:
                    lines.writelines(f"{_line(row)}\n" for row in table.to_pylist())
        store.create_file(output, scratch)


@contextmanager
def _beside(output: str) -> Iterator[Path]:
    """A hidden file, where it can be given the output's name, gone at the end."""
    local = store.scheme_of(output) == "file"
    folder = Path(os.path.abspath(store.path_of(output))).parent if local else Path(tempfile.gettempdir())
    store.make_folder_for(folder)
    scratch = folder / f".{output.rstrip('/').rsplit('/', 1)[-1]}.{uuid.uuid4().hex}"
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _check_flat(dataset: Dataset, end: str) -> None:
    for field in dataset.schema.arrow():
        nested = pa.types.is_nested(field.type)
        if pa.types.is_binary(field.type) or (nested and end == ".csv"):
            found = f"column {field.name!r} of {'lists' if nested else 'pictures or sounds'} for a {end} file"
            fix = "deliver it as a folder or as one .parquet file"
            raise UsageError("OUTPUT", found=found, expected="numbers, texts and dates", fix=fix)


def _line(row: dict[str, Any]) -> str:
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(plain, ensure_ascii=False, default=str)


def how_to_read(place: str) -> str:
    """The line of Python that reads an output."""
    verb = {".csv": "read_csv", ".jsonl": "read_json"}.get(os.path.splitext(place)[1].lower(), "read_parquet")
    return f"pandas.{verb}({place!r}{', lines=True' if verb == 'read_json' else ''})"
