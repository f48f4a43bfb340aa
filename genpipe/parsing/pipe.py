"""What a decoding process and its parent say to each other.

A file comes as one line of JSON on stdin (what is asked; the path, or the size of what is fetched by asking).
Frames go to stdout: a letter, eight bytes of length, that many bytes:

    M  JSON: what is known of the file      B  a piece of it     E  the end
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
from collections.abc import Callable
from typing import Any, BinaryIO

import psutil

HEAD = struct.Struct("<cQ")
RANGE = struct.Struct("<QQ")


class Pipe:
    """The decoder's end of both pipes; its threads may ask for bytes while a piece is sent."""

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

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def serve(
    send_file: Callable[[Pipe, dict[str, Any]], None],
    *,
    full: tuple[type[BaseException], ...] = (MemoryError,),
    wrong: tuple[type[BaseException], ...],
) -> None:
    """Send one file after the other, until stdin ends. argv: the bytes that may be taken from here on.

    full, wrong: what `send_file` raises where memory or the file is at fault.
    """
    pipe = Pipe(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what anybody prints is no frame
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = psutil.Process().memory_info().vms + int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        while line := pipe.requests.readline():
            try:
                send_file(pipe, json.loads(line))
            except full:
                pipe.send(b"X", b'{"memory": true}')
            except wrong as error:
                told = (str(error).splitlines() or [type(error).__name__])[0][:500]
                pipe.send(b"X", json.dumps({"told": told}).encode())
    except (BrokenPipeError, KeyboardInterrupt):  # the parent is gone
        os._exit(1)
