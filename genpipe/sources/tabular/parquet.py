"""Parquet as a stream of batches; what Arrow says of a broken file gets the file's name.

A page may claim any size, and a text of a dictionary may stand in every row: what a file takes is known only
when it is decoded, and pyarrow then dies of it. So that happens in a child (parsing/parquet.py) with a limit.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from genpipe.errors import DataError
from genpipe.sources.child import Decoders
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.limits import beyond, check_growth, check_names

ROWS = 65_536  # of a batch


class ParquetReader(Decoders):
    """Children that parse Parquet, started when needed, that end with it. memory: bytes each may take."""

    def __init__(self, memory: int) -> None:
        super().__init__("parquet", memory)

    def batches(self, file: File) -> Iterator[tuple[pa.RecordBatch, Place]]:
        row, grown = 1, 0
        for kind, data in self.frames(file, {"rows": ROWS, "bytes": self.memory // 8}):
            if kind == b"M":
                _check(file, json.loads(data))
            elif kind == b"B":
                batch = pa.ipc.open_stream(pa.py_buffer(data)).read_next_batch()
                grown += max(batch.nbytes, batch.num_rows)  # a column of nothing but nulls has no bytes
                check_growth(f"{file.uri}:row {row}", file.size, grown, self.memory)
                yield batch, Place(file.uri, row)
                row += batch.num_rows
            else:
                raise self._fault(file, row, json.loads(data))

    def _fault(self, file: File, row: int, told: dict[str, Any]) -> DataError:
        where, fix = f"{file.uri}:row {row}", "raise memory=, or write smaller row groups"
        if told.get("memory"):
            found = f"the {ROWS} rows from here on take more than {self.memory} bytes"
            return beyond(where, found, f"memory={self.memory}", fix)
        if number := told.get("signal"):
            name = signal.Signals(number).name
            found = (
                f"a file on which Arrow dies ({name}), as of damaged ones and of too many levels or columns"
            )
        return DataError(
            "PARQUET",
            where=file.uri,
            found=found if number else told["told"],
            expected="a whole Parquet file",
            fix="write or fetch it again",
        )


def _check(file: File, meta: dict[str, Any]) -> None:
    names: list[str] = meta["names"]
    check_names(names, file.uri)
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise DataError(
            "DUPCOL",
            where=file.uri,
            found=f"several columns named {', '.join(map(repr, twice[:10]))}",
            expected="different names",
        )
    if meta["rows"] == 0 or not names:
        raise DataError(
            "NOROWS", where=file.uri, found=f"{meta['rows']} rows of {len(names)} columns", expected="data"
        )
