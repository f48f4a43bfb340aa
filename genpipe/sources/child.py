"""Processes that decode files for us (genpipe/parsing), started when needed, each with a limit of memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from genpipe import store
from genpipe.parsing.pipe import HEAD, RANGE
from genpipe.sources.files import File, regular

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


class Decoders:
    """Processes of one module of genpipe.parsing, that end with this object; any thread may use it.

    memory: bytes each may take.
    """

    def __init__(self, module: str, memory: int) -> None:
        self.module, self.memory = module, memory
        self.idle: list[subprocess.Popen[bytes]] = []

    def frames(self, file: File, request: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
        """(kind, bytes) as parsing/pipe.py has them, up to the end; the last may be an X: what is wrong, as
        {"told": of the file}, {"memory": true}, or {"signal": it died of}.
        """
        child, sound = self.idle.pop() if self.idle else self._start(), False
        try:
            for kind, data in _frames(child, file, request):
                if kind == b"X":
                    sound = "told" in json.loads(data)  # by an exception, after which all is as before
                yield kind, data
                if kind == b"X":
                    return
            sound = True
        finally:
            if sound:
                self.idle.append(child)
            else:
                _stop(child)

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        return subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", f"genpipe.parsing.{self.module}", str(self.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | LEAN | {"PYTHONPATH": path},
            cwd="/",
            bufsize=-1,
        )

    def close(self) -> None:
        while self.idle:
            _stop(self.idle.pop())

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the end of Python little is left to work with
            self.close()


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


def _frames(
    child: subprocess.Popen[bytes], file: File, request: dict[str, Any]
) -> Iterator[tuple[bytes, bytes]]:
    """What the child answers, up to its end; an X frame of {"signal": ...} where it dies."""
    assert child.stdin is not None and child.stdout is not None
    with contextlib.ExitStack() as stack:
        if store.scheme_of(file.uri) == "file":
            regular(file.uri)
            asked = request | {"path": file.uri}
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
                died = -child.wait() if child.wait() < 0 else signal.SIGKILL
                yield b"X", json.dumps({"signal": died}).encode()
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
