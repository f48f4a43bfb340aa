"""Rows of one unit -> Parquet parts by split, in bounded memory; runs in this process or as a Ray task."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
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
    return source.observe(unit)


def write_unit(
    source: Source, unit: int, schema: Schema, uri: str, attempt: str, holdout: float, skip: frozenset[str]
) -> Written:
    """Write the parts of one unit; names and bytes depend on the unit alone."""
    written = Written()
    with ThreadPoolExecutor(2) as pool:
        writers = {
            split: _Writer(uri, attempt, split, unit, source.options.part, schema, pool)
            for split in ("train", "holdout")
        }
        for batch, keys in source.read(unit, schema, skip=skip, rejects=written.rejects):
            held = (
                holdout_mask(row_keys(batch, schema.key) if keys is None else keys, holdout)
                if holdout
                else None
            )
            if held is None:
                writers["train"].add(batch)
                continue
            writers["train"].add(batch.filter(pa.array(~held)))
            writers["holdout"].add(batch.filter(pa.array(held)))
        for writer in writers.values():
            written.parts += writer.close()
    return written


class _Writer:
    """Gathers batches of one split and writes a part when enough bytes are there, one write at a time."""

    def __init__(
        self,
        uri: str,
        attempt: str,
        split: str,
        unit: int,
        limit: int,
        schema: Schema,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.uri, self.attempt, self.split, self.unit, self.limit, self.pool = (
            uri,
            attempt,
            split,
            unit,
            limit,
            pool,
        )
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
        self.flying = self.pool.submit(
            write_part, self.uri, table, split=self.split, name=name, attempt=self.attempt
        )
        self.batches, self.bytes, self.count = [], 0, self.count + 1
        pa.default_memory_pool().release_unused()  # the allocator's own hoard would outgrow the data

    def _wait(self) -> None:
        if self.flying is not None:
            self.parts.append(self.flying.result())
            self.flying = None

    def close(self) -> list[Part]:
        if self.batches:
            self._flush()
        self._wait()
        return self.parts
