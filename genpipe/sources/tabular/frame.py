"""A data frame in memory as a source: pandas, Polars, Arrow, or what speaks `__arrow_c_stream__`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
from pyarrow.interchange import from_dataframe

from genpipe.errors import DataError, UsageError
from genpipe.sources.base import Piece
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.limits import check_names
from genpipe.sources.tabular.fingerprint import Fingerprint
from genpipe.sources.tabular.source import TableOptions, TableSource

NAME, ROWS = "frame", 65_536


def is_frame(source: Any) -> bool:
    return hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__")


class FrameSource(TableSource):
    """frame: read as it is now; a later change of it is another source."""

    def __init__(self, frame: Any, options: TableOptions) -> None:
        self.table = arrow_table(frame)
        self.stamp = content(self.table)
        super().__init__((File(NAME, max(1, self.table.nbytes), self.stamp, ""),), options, keeps=False)

    @property
    def identity(self) -> list[Any]:
        return [NAME, self.stamp]

    def check_unchanged(self, units: Iterable[int]) -> None:
        """It is held here."""

    def _pieces(self, file: File) -> Iterator[Piece]:
        row = 1
        for batch in self.table.to_batches(max_chunksize=ROWS):
            if batch.num_rows:
                yield partial(_held, batch, Place(NAME, row))
            row += batch.num_rows


def _held(batch: pa.RecordBatch, place: Place) -> tuple[pa.RecordBatch, Place]:
    return batch, place


def arrow_table(frame: Any) -> pa.Table:
    try:
        if isinstance(frame, pa.Table | pa.RecordBatch):
            table = pa.table(frame) if isinstance(frame, pa.Table) else pa.Table.from_batches([frame])
        elif hasattr(frame, "__arrow_c_stream__"):
            table = pa.table(frame)
        else:
            table = from_dataframe(frame)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        told = str(error).splitlines()[0][:200]
        fix = "make each column of one type: frame.astype({'column': str})"
        raise DataError("FRAME", where=NAME, found=told, expected="a table Arrow can hold", fix=fix) from None
    check_names(table.column_names, NAME)
    if len(set(table.column_names)) < len(table.column_names):
        raise DataError("DUPCOL", where=NAME, found="two columns of one name", expected="different names")
    columns = [
        pa.chunked_array([_spelt(c) for c in column.chunks], type=_spelt(column.type))
        for column in table.columns
    ]
    return pa.table(dict(zip(table.column_names, columns, strict=True)))


def _spelt(values: Any) -> Any:
    """Texts, or their type, in a form Arrow computes with: polars hands over views, and dictionaries."""
    kind = values if isinstance(values, pa.DataType) else values.type
    if pa.types.is_dictionary(kind) and kind.value_type == pa.string_view():
        if kind is values:
            return pa.dictionary(kind.index_type, pa.string())
        return pa.DictionaryArray.from_arrays(values.indices, values.dictionary.cast(pa.string()))
    if kind != pa.string_view():
        return values
    return pa.string() if kind is values else values.cast(pa.string())


def content(table: pa.Table) -> str:
    """A hash of the columns' names, types and values, however they are chunked."""
    fingerprint = Fingerprint()
    for batch in table.combine_chunks().to_batches(max_chunksize=ROWS):
        fingerprint.add(batch)
    return fingerprint.hexdigest()


def open_frame(frame: Any, options: TableOptions, kind: str | None) -> FrameSource:
    if kind not in (None, "tabular"):
        fix = "write it to a Parquet file and ingest that"
        raise UsageError("KIND", found=f"a data frame as {kind}", expected="kind 'tabular'", fix=fix)
    return FrameSource(frame, options)
