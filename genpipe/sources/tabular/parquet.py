"""Parquet as a stream of batches; what Arrow says of a broken file gets the file's name.

A page may claim any size, and a text of a dictionary may stand in every row: what a file takes is known only
when it is decoded, and pyarrow then dies of it. So that happens in a child (parquet_child.py) with a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from genpipe import store
from genpipe.errors import DataError
from genpipe.sources.columns import Place
from genpipe.sources.files import File, regular
from genpipe.sources.limits import beyond, check_growth, check_names
from genpipe.sources.tabular import parquet_child
from genpipe.sources.tabular.parquet_child import HEAD, RANGE

ROWS = 65_536  # of a batch
KEPT = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TMPDIR",
)  # environment that names no secrets
LEAN = {  # each of Arrow's threads and arenas would reserve addresses, which is what the limit counts
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "ARROW_IO_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class ParquetReader:
    """Children that parse Parquet, started when needed, that end with it. memory: bytes each may take."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.idle: list[subprocess.Popen[bytes]] = []

    def batches(self, file: File) -> Iterator[tuple[pa.RecordBatch, Place]]:
        child = self.idle.pop() if self.idle else _start(self.memory)
        row, grown, sound = 1, 0, False
        try:
            for kind, data in _frames(child, file, {"rows": ROWS, "bytes": self.memory // 8}):
                if kind == b"M":
                    _check(file, json.loads(data))
                elif kind == b"B":
                    batch = pa.ipc.open_stream(pa.py_buffer(data)).read_next_batch()
                    grown += max(batch.nbytes, batch.num_rows)  # a column of nothing but nulls has no bytes
                    check_growth(f"{file.uri}:row {row}", file.size, grown, self.memory)
                    yield batch, Place(file.uri, row)
                    row += batch.num_rows
                else:
                    wrong = json.loads(data)
                    sound = "told" in wrong  # by an exception of Arrow, after which all is as before
                    raise self._fault(file, row, wrong)
            sound = True
        finally:
            if sound:
                self.idle.append(child)
            else:
                _stop(child)

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

    def close(self) -> None:
        while self.idle:
            _stop(self.idle.pop())

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the end of Python little is left to work with
            self.close()


def _start(memory: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    environment = (
        {name: os.environ[name] for name in KEPT if name in os.environ} | LEAN | {"PYTHONPATH": path}
    )
    script = [sys.executable, "-P", "-s", str(Path(parquet_child.__file__)), str(memory)]
    return subprocess.Popen(
        script,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        bufsize=-1,
    )


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


def _frames(
    child: subprocess.Popen[bytes], file: File, request: dict[str, int]
) -> Iterator[tuple[bytes, bytes]]:
    """What the child answers, up to its end; an X frame of {"signal": ...} where it dies."""
    assert child.stdin is not None and child.stdout is not None
    with contextlib.ExitStack() as stack:
        if store.scheme_of(file.uri) == "file":
            regular(file.uri)
            asked: dict[str, Any] = request | {"path": file.uri}
        else:
            remote = store.filesystem(file.uri).open(store.path_of(file.uri))
            stack.callback(remote.close)
            asked = request | {"size": remote.seek(0, os.SEEK_END)}
        _tell(child, json.dumps(asked).encode() + b"\n")
        while True:
            head = child.stdout.read(HEAD.size)
            kind, length = HEAD.unpack(head) if len(head) == HEAD.size else (b"X", 0)
            data = child.stdout.read(length)
            if len(head) < HEAD.size or len(data) < length:
                yield (
                    b"X",
                    json.dumps({"signal": -child.wait() if child.wait() < 0 else signal.SIGKILL}).encode(),
                )
                return
            if kind == b"E":
                return
            if kind == b"R":
                offset, wanted = RANGE.unpack(data)
                remote.seek(offset)
                _tell(child, remote.read(wanted))
            else:
                yield kind, data


def _tell(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died: reading what it said tells so
        child.stdin.write(data)
        child.stdin.flush()


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
