"""Generated data as one file, of the format that its name says, or as a table of a database."""

from __future__ import annotations

import json
import math
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from genpipe import store
from genpipe.databases import Address, is_database, open_database
from genpipe.databases.base import Rows
from genpipe.dataset import Dataset
from genpipe.errors import UsageError
from genpipe.sheet_file import check_installed, write_sheet
from genpipe.structs import nested

ONE_FILE = (".csv", ".jsonl", ".parquet", ".arrow", ".feather", ".xlsx")
# formats that people ask for, and that are not written
OTHERS = (
    *(".json", ".ndjson", ".tsv", ".txt", ".gz", ".zip", ".tar", ".xls", ".ods", ".docx", ".doc", ".pdf"),
    *(".html", ".sql", ".orc", ".avro", ".pkl", ".npy", ".npz", ".png", ".wav"),
)
NESTED = (".jsonl", ".parquet", ".arrow", ".feather")  # formats that have structs
VALUES = (".parquet", ".arrow", ".feather", ".xlsx")  # formats that have numbers and dates, others have texts


def one_file(output: str | None) -> bool:
    """Whether an output is to be one file, or in a database. Raises UsageError for a format that is none of
    ours.
    """
    if is_database(output):
        return True
    end = os.path.splitext(str(output or "").rstrip("/"))[1].lower()
    if not output or output.endswith("/") or (store.scheme_of(output) == "file" and Path(output).is_dir()):
        return False
    if end in OTHERS:
        expected = f"a folder, or a file that ends with {', '.join(ONE_FILE)}"
        fix = f"a folder of this name is {output}/"
        raise UsageError("OUTPUT", where=output, found=f"a file of {end}", expected=expected, fix=fix)
    if end == ".xlsx":
        check_installed()
    return end in ONE_FILE


def is_there(output: str) -> bool:
    """Whether there is a file. Of a table its database alone knows."""
    return not is_database(output) and store.exists(output)


def write_tables(datasets: Mapping[str, Dataset], output: str) -> None:
    """All rows of generated data into tables of a database, in one transaction and once. An address that
    names a table names that of the only dataset. See `Database.deliver`.
    """
    address = Address.parse(output)
    if address.table and len(datasets) > 1:
        fix = "leave #table out: each has the table of its name"
        raise UsageError(
            "OUTPUT", where=output, found="one table for several", expected="a database", fix=fix
        )
    rows = [_rows(address.table or name, data) for name, data in datasets.items()]
    with open_database(address, write=True) as database:
        database.deliver(rows)


def _rows(table: str, data: Dataset) -> Rows:
    """What goes into a table."""
    _check_flat(data, "table's")
    schema = data.schema.arrow().remove_metadata()
    output = str(data.manifest.origin.get("output_id", data.fingerprint))
    batches = (batch.select(schema.names).cast(schema) for batch in data.batches("generated"))
    return Rows(table, output, schema, batches, data.rows("generated"))


def write_file(dataset: Dataset, output: str) -> None:
    """All rows of generated data as one file, by its ending: seen when it is whole, and never over another's.

    Text has money, dates and the like in the form in which they came; other formats have their values. Memory
    is one batch. Raises ConflictError where another file has this name.
    """
    end = os.path.splitext(output)[1].lower()
    if end != ".parquet":
        _check_flat(dataset, end)
    with _beside(output) as scratch:
        schema = dataset.schema.arrow().remove_metadata()
        rows = dataset.batches("generated") if end in VALUES else dataset.written("generated")
        if end not in VALUES and (first := next(rows, None)) is not None:
            texts = dict(zip(first.schema.names, first.schema.types, strict=True))
            schema = pa.schema([field.with_type(texts[field.name]) for field in schema])
            rows = chain([first], rows)
        tables = (pa.Table.from_batches([b.select(schema.names).cast(schema)]) for b in rows)
        structs = dataset.schema.structs if end in NESTED else ()
        tables = (nested(table, structs) for table in tables)
        shape = nested(schema.empty_table(), structs).schema
        footer = shape.with_metadata({b"genpipe.origin": store.canonical(dataset.manifest.origin)})
        if end == ".xlsx":
            write_sheet(scratch, shape, tables, rows=dataset.rows("generated"))
        else:
            WRITERS.get(end, _arrow)(scratch, footer, tables)
        store.create_file(output, scratch)


def _parquet(file: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as parquet:
        for table in tables:
            parquet.write_table(table.replace_schema_metadata(schema.metadata))


def _arrow(file: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    with pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as arrow:
        for table in tables:
            arrow.write_table(table.replace_schema_metadata(schema.metadata))


def _csv(file: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    with pa_csv.CSVWriter(file, schema.remove_metadata()) as text:
        for table in tables:
            text.write_table(table)


def _lines(file: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    with open(file, "w", encoding="utf-8") as lines:
        for table in tables:
            lines.writelines(f"{_line(row)}\n" for row in table.to_pylist())


WRITERS = {".parquet": _parquet, ".csv": _csv, ".jsonl": _lines}


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
        if pa.types.is_binary(field.type) or (nested and end not in (".jsonl", ".arrow", ".feather")):
            found = f"column {field.name!r} of {'lists' if nested else 'pictures or sounds'} for a {end} file"
            fix = "deliver it as a folder or as one .parquet file"
            raise UsageError("OUTPUT", found=found, expected="numbers, texts and dates", fix=fix)


def _line(row: dict[str, Any]) -> str:
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(plain, ensure_ascii=False, default=str)


READERS = {
    ".csv": "read_csv",
    ".jsonl": "read_json",
    ".xlsx": "read_excel",
    ".arrow": "read_feather",
    ".feather": "read_feather",
}


def how_to_read(place: str) -> str:
    """The line of Python that reads an output."""
    if is_database(place):
        return ""
    verb = READERS.get(os.path.splitext(place)[1].lower(), "read_parquet")
    more = {"read_json": ", lines=True", "read_excel": ", engine='calamine'"}.get(verb, "")
    return f"pandas.{verb}({place!r}{more})"
