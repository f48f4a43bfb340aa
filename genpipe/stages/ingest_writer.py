"""Rows of one unit -> Parquet parts by split, in bounded memory; runs in this process or as a Ray task."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from genpipe.dataset import Part, write_part
from genpipe.schema import Schema
from genpipe.sources import Source
from genpipe.sources.base import Reject
from genpipe.sources.keys import holdout_mask, row_keys


@dataclass
class Written:
    parts: list[Part] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def observe_unit(source: Source, unit: int) -> Any:
    """What is in one unit."""
    with lean_memory():
        return source.observe(unit)


def write_unit(
    source: Source, unit: int, schema: Schema, uri: str, attempt: str, holdout: float, skip: frozenset[str]
) -> Written:
    """Write the parts of one unit; names and bytes depend on the unit alone."""
    written = Written()
    with lean_memory(), ThreadPoolExecutor(2) as pool:
        write = partial(write_part, uri, attempt=attempt)
        train = _Writer(write, "train", unit, source.options.part, schema, pool)
        held_out = _Writer(write, "holdout", unit, source.options.part, schema, pool)
        for batch, keys in source.read(unit, schema, skip=skip, rejects=written.rejects):
            if not holdout:
                train.add(batch)
                continue
            held = holdout_mask(row_keys(batch, schema.key) if keys is None else keys, holdout)
            train.add(batch.filter(pa.array(~held)))
            held_out.add(batch.filter(pa.array(held)))
        written.parts = train.close() + held_out.close()
    return written


@contextmanager
def lean_memory() -> Iterator[None]:
    """Arrow on the system's allocator: its own hoards several times what streaming needs at once."""
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.default_memory_pool().release_unused()
        pa.set_memory_pool(usual)


class _Writer:
    """Gathers batches of one split; writes a part when enough bytes are there, one at a time."""

    def __init__(
        self, write: partial[Part], split: str, unit: int, limit: int, schema: Schema, pool: Executor
    ) -> None:
        self.write, self.split, self.unit, self.limit, self.pool = write, split, unit, limit, pool
        self.schema = schema.arrow()
        self.batches: list[pa.RecordBatch] = []
        self.bytes = self.count = 0
        self.flying: Future[Part] | None = None
        self.parts: list[Part] = []

    def add(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self.batches.append(batch)
            self.bytes += batch.nbytes
        if self.bytes >= self.limit:
            self._flush()

    def _flush(self) -> None:
        self._wait()
        table = pa.Table.from_batches(self.batches, schema=self.schema).combine_chunks()
        name = f"{self.split}-{self.unit:05d}-{self.count:05d}"
        self.flying = self.pool.submit(self.write, table, split=self.split, name=name)
        self.batches, self.bytes, self.count = [], 0, self.count + 1

    def _wait(self) -> None:
        if self.flying is not None:
            self.parts.append(self.flying.result())
            self.flying = None
            pa.default_memory_pool().release_unused()

    def close(self) -> list[Part]:
        if self.batches:
            self._flush()
        self._wait()
        return self.parts
