"""Arrow and Feather files: M says whether there are batches and the names of the columns, B is a batch."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from genpipe.parsing.parquet import unpacked
from genpipe.parsing.pipe import Fetched, Pipe, serve


def send_file(pipe: Pipe, request: dict[str, Any]) -> None:
    """Every batch of a file, cut into some of `rows`; each is checked in full, as its bytes are used as they
    are.
    """
    path = request.get("path")
    source = pa.OSFile(path, "rb") if path else pa.PythonFile(Fetched(pipe, request["size"]), mode="r")
    with pa.ipc.open_file(source) as file:
        told = {"rows": file.num_record_batches, "names": file.schema.names}
        pipe.send(b"M", json.dumps(told).encode())
        for number in range(file.num_record_batches):
            whole = file.get_batch(number)
            whole.validate(full=True)
            for start in range(0, whole.num_rows, request["rows"]):
                batch = unpacked(whole.slice(start, request["rows"]))
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema) as writer:
                    writer.write_batch(batch)
                pipe.send(b"B", memoryview(sink.getvalue()))
    pipe.send(b"E")


if __name__ == "__main__":
    serve(
        send_file,
        full=(MemoryError, pa.ArrowMemoryError),
        wrong=(pa.ArrowException, OSError, ValueError, RecursionError),
    )
