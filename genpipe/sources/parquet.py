"""Parquet as a stream of batches; what Arrow says of a broken file gets the file's name."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from genpipe import store
from genpipe.errors import DataError
from genpipe.sources.columns import Place
from genpipe.sources.files import File


def parquet_batches(file: File, memory: int) -> Iterator[tuple[pa.RecordBatch, Place]]:
    def broken(error: Exception) -> DataError:
        return DataError(
            "PARQUET",
            where=file.uri,
            found=str(error).splitlines()[0],
            expected="a whole Parquet file",
            fix="write or fetch it again",
        )

    row = 1
    try:
        local = store.scheme_of(file.uri) == "file"
        opened = pq.ParquetFile(
            file.uri if local else store.filesystem(file.uri).open(store.path_of(file.uri)),
            page_checksum_verification=True,
        )
        names = opened.schema_arrow.names
        if len(set(names)) < len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise DataError(
                "DUPCOL",
                where=file.uri,
                found=f"several columns named {', '.join(map(repr, twice))}",
                expected="different names",
            )
        if opened.metadata.num_rows == 0 or not names:
            raise DataError(
                "NOROWS",
                where=file.uri,
                found=f"{opened.metadata.num_rows} rows of {len(names)} columns",
                expected="data",
            )
        for batch in opened.iter_batches(batch_size=65_536 if memory >= 64 * 2**20 else 8_192):
            if batch.nbytes > memory:
                raise DataError(
                    "LIMIT",
                    where=f"{file.uri}:row {row}",
                    found=f"{batch.num_rows} rows take {batch.nbytes} bytes",
                    expected=f"at most memory={memory}",
                    fix="raise memory=",
                )
            yield batch, Place(file.uri, row)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise broken(error) from None
