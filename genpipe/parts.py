"""One Parquet file of a dataset, which a stranger may have written: no more comes out than it may hold."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, model_validator

from genpipe.errors import DataError
from genpipe.fields import BLOB, Series, Timestamp
from genpipe.schema import Schema

AGAIN = "ingest or generate again"
DELIVERED, MANIFEST_KEY = "manifest.parquet", b"genpipe.manifest"
OF_ANOTHER = re.compile(r"\.\./([0-9a-f]{20}/data/[0-9a-f]{12}/[a-z0-9-]+\.parquet)")  # version of a dataset
MOST_ROWS_PER_BYTE = 2**14  # a constant column is some hundred bytes a row group
UNSUSPICIOUS, MOST_TIMES = 2**28, 1000  # bytes, and times those in the file, that a piece of data may take


class Part(BaseModel):
    """One Parquet file: path relative to the dataset; `../<request>/data/..`: of another version of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    split: str
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0, lt=2**60)
    sha256: str

    @model_validator(mode="after")
    def _check(self) -> Part:
        if self.rows > self.bytes * MOST_ROWS_PER_BYTE:
            raise ValueError(f"{self.rows} rows in {self.bytes} bytes")
        return self


def damaged(where: str, found: str, expected: str = "") -> DataError:
    return DataError("PART", where=where, found=found, expected=expected, fix=AGAIN)


def dictionaries(schema: Schema) -> list[str]:
    """Columns of a file that are read as dictionaries, so that `in_full` may look before they are spread."""
    out = list[str]()
    for field in schema.arrow():
        if field.type == BLOB:
            out += [f"{field.name}.{part.name}" for part in BLOB]
        elif field.type == pa.string():
            out.append(field.name)
    return out


def check_footer(part: Part, file: pq.ParquetFile, schema: Schema, *, where: str) -> None:
    """Raise a DataError where the footer tells of other columns or rows, or of far more than there is."""
    told, footer = file.schema_arrow, file.metadata
    if footer.num_rows != part.rows:
        raise damaged(where, f"{footer.num_rows} rows", f"{part.rows}")
    for field, wanted in zip(schema.fields, schema.arrow(), strict=True):
        kind = _plain(told.field(field.name).type) if told.names.count(field.name) == 1 else None
        if isinstance(field, Timestamp) and pa.types.is_timestamp(kind):
            continue  # in another unit, maybe: Parquet has no seconds
        if kind != wanted.type:
            raise damaged(where, f"column {field.name!r} of {kind or 'no type'}", str(wanted.type))
    lengths = {f.name: f.length for f in schema.fields if isinstance(f, Series)}
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            most = group.num_rows * lengths.get(chunk.path_in_schema.split(".")[0], 1)
            if chunk.num_values > most:
                raise damaged(
                    where, f"{chunk.num_values} values in {chunk.path_in_schema}", f"at most {most}"
                )
            _check_bytes(chunk.total_uncompressed_size, chunk.total_compressed_size, where=where)


def manifest_file(schema: Schema, manifest: bytes) -> bytes:
    """A manifest as a Parquet file of no rows, which readers of a whole folder take as nothing."""
    sink = pa.BufferOutputStream()
    kind = schema.arrow().with_metadata({MANIFEST_KEY: manifest})
    with pq.ParquetWriter(sink, kind):
        pass
    return sink.getvalue().to_pybytes()


def manifest_in(data: bytes, *, where: str) -> bytes:
    """The manifest that `manifest_file` wrote. Raises DataError for another file."""
    try:
        told = (pq.read_metadata(pa.BufferReader(data)).metadata or {}).get(MANIFEST_KEY)
    except (pa.ArrowException, OSError) as error:
        raise DataError("MANIFEST", where=where, found=str(error).splitlines()[0], fix=AGAIN) from error
    if told is None:
        raise DataError("MANIFEST", where=where, found="no manifest in its footer", fix=AGAIN)
    return bytes(told)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without dictionaries."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain(field.type)) for field in kind])
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def in_full(part: Part, batch: pa.RecordBatch, *, where: str) -> pa.RecordBatch:
    """The batch with texts in place of dictionaries, unless that is far more than the part: 400 kB can hold a
    text of 100 kB in each of a million rows.
    """
    for i, field in enumerate(batch.schema):
        column = _in_full(part, batch.column(i), where)
        if column is not batch.column(i):
            batch = batch.set_column(i, field.with_type(column.type), column)
    return batch


def _in_full(part: Part, column: pa.Array, where: str) -> pa.Array:
    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        inner = [_in_full(part, column.field(name), where) for name in names]
        return pa.StructArray.from_arrays(inner, names, mask=column.is_null())
    if not pa.types.is_dictionary(column.type):
        return column
    sizes = pc.binary_length(column.dictionary).take(column.indices)
    _check_bytes(pc.sum(sizes.cast(pa.int64())).as_py() or 0, part.bytes, where=where)
    return column.dictionary_decode()


def _check_bytes(coming: int, there: int, *, where: str) -> None:
    most = max(UNSUSPICIOUS, MOST_TIMES * there)
    if coming > most:
        raise DataError(
            "LIMIT", where=where, found=f"{there} bytes that become {coming}", expected=f"at most {most}"
        )
