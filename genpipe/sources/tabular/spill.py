"""Batches of the first pass kept for the second: the first in memory, the rest in a file without a name.

What was parsed and typed once need not be parsed again. The file lies in $GENPIPE_HOME, is gone with the
process however that ends, and never takes the last space of its disk. It does not travel: a copy of a source
in another process reads its input again.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import IO

import pyarrow as pa

from genpipe.errors import UsageError
from genpipe.settings import make_folder, read_settings
from genpipe.sources.base import Piece
from genpipe.sources.columns import Place

SPARE = 2 * 2**30  # bytes of disk left to others


@dataclass
class Kept:
    """The batches of one file. schemas: every one they have."""

    schemas: list[pa.Schema] = field(default_factory=list)
    pieces: deque[Piece] = field(default_factory=deque)

    def add(self, piece: Piece, schema: pa.Schema) -> None:
        if schema not in self.schemas:  # thousands of equal ones, strewn over the heap, would hold it open
            self.schemas.append(schema)
        self.pieces.append(piece)

    def drain(self) -> Iterator[Piece]:
        """The pieces, let go one by one."""
        while self.pieces:
            yield self.pieces.popleft()


class Spill:
    """room: bytes that may stay in memory."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.file: IO[bytes] | None = None

    def keep(self, batch: pa.RecordBatch, place: Place, *, disk: bool) -> Piece | None:
        """disk: whether it may go there. None = there is no space for it."""
        if batch.nbytes <= self.room:
            self.room -= batch.nbytes
            return lambda: (batch, place)
        if not disk:
            return None
        try:
            start, size = self._write(batch)
        except (OSError, UsageError):  # a full or read-only disk costs time and nothing else
            return None
        return partial(self._read, start, size, place)

    def _write(self, batch: pa.RecordBatch) -> tuple[int, int]:
        if self.file is None:
            self.file = tempfile.TemporaryFile(dir=make_folder(read_settings().home))  # noqa: SIM115
        disk = os.fstatvfs(self.file.fileno())
        if disk.f_bavail * disk.f_frsize < SPARE + batch.nbytes:
            raise OSError("no space to spare")
        start = self.file.tell()
        with pa.ipc.new_stream(self.file, batch.schema) as writer:
            writer.write_batch(batch)
        self.file.flush()
        return start, self.file.tell() - start

    def _read(self, start: int, size: int, place: Place) -> tuple[pa.RecordBatch, Place]:
        assert self.file is not None
        data = os.pread(self.file.fileno(), size, start)
        return pa.ipc.open_stream(pa.BufferReader(data)).read_next_batch(), place
