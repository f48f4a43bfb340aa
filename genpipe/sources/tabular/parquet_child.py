"""Parses Parquet in a process of its own, which may take so much memory and no more, and knows no secrets.

Run as a script by parquet.py; it imports nothing of genpipe. A file comes as one line of JSON on stdin (rows
of a batch; the path, or the size of what is fetched by asking). Frames go to stdout: a letter, eight bytes of
length, that many bytes:

    M  JSON: rows, names of the columns     B  a batch, as an Arrow stream     E  the end
    R  offset and length: send these bytes  X  JSON: what is wrong
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import threading
from typing import BinaryIO

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

HEAD = struct.Struct("<cQ")
RANGE = struct.Struct("<QQ")
BUFFER = 2**18  # bytes of a column read at a time
LEAST_ROWS = 16


class Pipe:
    """The parent's end of both pipes; Arrow's threads may ask for bytes while a batch is sent."""

    def __init__(self, requests: BinaryIO, frames: BinaryIO) -> None:
        self.requests, self.frames = requests, frames
        self.lock = threading.Lock()

    def send(self, kind: bytes, data: bytes | memoryview = b"") -> None:
        with self.lock:
            self._write(kind, data)

    def fetch(self, offset: int, length: int) -> bytes:
        with self.lock:
            self._write(b"R", RANGE.pack(offset, length))
            return self.requests.read(length)

    def _write(self, kind: bytes, data: bytes | memoryview) -> None:
        self.frames.write(HEAD.pack(kind, len(data)))
        self.frames.write(data)
        self.frames.flush()


class Fetched(io.RawIOBase):
    """A file that the parent reads for us: an object store's keys stay with it."""

    def __init__(self, pipe: Pipe, size: int) -> None:
        self.pipe, self.size, self.at = pipe, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self.size - self.at)
        data = self.pipe.fetch(self.at, left if size is None or size < 0 else min(size, left))
        self.at += len(data)
        return data


def send_file(pipe: Pipe, request: dict) -> None:
    """Every batch of a file. bytes: what a batch should stay below, as far as the footer tells."""
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


def main(memory: int) -> None:
    pipe = Pipe(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what anybody prints is no frame
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = psutil.Process().memory_info().vms + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while line := pipe.requests.readline():
        try:
            send_file(pipe, json.loads(line))
        except (MemoryError, pa.ArrowMemoryError):
            pipe.send(b"X", b'{"memory": true}')
        except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
            told = (str(error).splitlines() or [type(error).__name__])[0][:500]
            pipe.send(b"X", json.dumps({"told": told}).encode())


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except (BrokenPipeError, KeyboardInterrupt):  # the parent is gone
        os._exit(1)
