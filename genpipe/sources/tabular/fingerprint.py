"""A hash of rows in memory: of what they are, whoever made them."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pyarrow as pa


class Fingerprint:
    """A hash of the columns' names, types and values, batch by batch."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, batch: pa.RecordBatch) -> None:
        """Copied first: below a null and past the last bit a driver leaves whatever its memory held."""
        try:
            clean = batch.take(pa.array(np.arange(batch.num_rows)))
        except pa.ArrowNotImplementedError:  # Arrow cannot copy views, which no driver of ours makes
            clean = batch
        with pa.ipc.new_stream(_Hashed(self._digest), clean.schema) as writer:
            writer.write_batch(clean)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class _Hashed(io.RawIOBase):
    """A file whose bytes go into a hash and nowhere else."""

    def __init__(self, digest: Any) -> None:
        self.digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data)
