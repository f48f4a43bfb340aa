"""Parquet, Arrow and sheets as streams of batches; what is said of a broken file gets the file's name.

A page may claim any size, and a text of a dictionary may stand in every row: what a file takes is known only
when it is decoded, and pyarrow then dies of it. So that happens in a child (parsing/parquet.py) with a limit.
"""

from __future__ import annotations

import importlib.util
import json
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from genpipe.errors import DataError, UsageError
from genpipe.sources.child import Decoders
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.limits import beyond, check_growth, check_names

ROWS = 65_536  # of a batch


WHAT = {
    "parquet": "a whole Parquet file",
    "arrow": "a whole Arrow file",
    "sheet": "a sheet with a row of names",
}


class BatchReader(Decoders):
    """Children that parse files of one format (WHAT), started when needed, that end with it. memory: bytes
    each may take. asked: what the module of genpipe.parsing is asked besides.
    """

    def __init__(self, module: str, memory: int, **asked: Any) -> None:
        super().__init__(module, memory)
        self.asked = {"rows": ROWS, "bytes": memory // 8} | asked

    def batches(self, file: File) -> Iterator[tuple[pa.RecordBatch, Place]]:
        row, grown = 1, 0
        for kind, data in self.frames(file, self.asked):
            if kind == b"M":
                _check(file, meta := json.loads(data))
                row = meta.get("row", row)
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
        number = told.get("signal")
        if told.get("memory") or (number == signal.SIGABRT and self.module == "sheet"):  # as Rust ends then
            found = f"the {ROWS} rows from here on take more than {self.memory} bytes"
            return beyond(where, found, f"memory={self.memory}", fix)
        if number:
            name = signal.Signals(number).name
            found = (
                f"a file on which Arrow dies ({name}), as of damaged ones and of too many levels or columns"
            )
        return DataError(
            self.module.upper(),
            where=file.uri,
            found=found if number else told["told"],
            expected=WHAT[self.module],
            fix="" if self.module == "sheet" and not number else "write or fetch it again",
        )


def check_installed() -> None:
    """Raise UsageError where nothing reads sheets."""
    if importlib.util.find_spec("python_calamine") is None:
        fix = "pip install python-calamine (or genpipe's extra `excel`)"
        raise UsageError("EXTRA", found="the package python-calamine is not installed", fix=fix)


def _check(file: File, meta: dict[str, Any]) -> None:
    names: list[str] = [name for name in meta["names"] if name is not None]
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
