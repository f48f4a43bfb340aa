"""Parquet: M says rows and the names of the columns, B is a batch, as an Arrow stream."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genpipe.parsing.pipe import Fetched, Pipe, serve

BUFFER = 2**18  # bytes of a column read at a time
LEAST_ROWS = 16


def send_file(pipe: Pipe, request: dict[str, Any]) -> None:
    """Every batch of a file. rows: of a batch. bytes: what a batch should stay below, as far as the footer
    tells.
    """
    path = request.get("path")
    source = path if path else Fetched(pipe, request["size"])
    with pq.ParquetFile(
        source,
        page_checksum_verification=True,
        pre_buffer=path is None,  # far away, few large reads; here, page by page
        buffer_size=BUFFER if path else 0,
    ) as file:
        meta, names = file.metadata, file.schema_arrow.names
        pipe.send(b"M", json.dumps({"rows": meta.num_rows, "names": names}).encode())
        groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
        widest = max((g.total_byte_size // max(g.num_rows, 1) for g in groups), default=0)
        row = max(widest, 8 * len(names), 1)
        rows = max(min(request["rows"], request["bytes"] // row), LEAST_ROWS)
        for packed in file.iter_batches(batch_size=rows, use_threads=False):
            batch = unpacked(packed)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            pipe.send(b"B", memoryview(sink.getvalue()))
    pipe.send(b"E")


def unpacked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Dictionaries spelt out: here, where it is known what becomes of them."""
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


if __name__ == "__main__":
    serve(
        send_file,
        full=(MemoryError, pa.ArrowMemoryError),
        wrong=(pa.ArrowException, OSError, ValueError, RecursionError),
    )
