"""Rows of one unit -> Parquet parts by split, in bounded memory; runs in this process or as a Ray task."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.constraints import Reckoned
from genpipe.dataset import Part, write_part
from genpipe.keys import Occurrences, entity_keys, holdout_mask, mix, row_keys, spread_mask
from genpipe.schema import Schema
from genpipe.sources import Source
from genpipe.sources.base import Reject
from genpipe.stages.ingest.relations import Kept, count

FLYING = 3  # parts encoded at a time


@dataclass(frozen=True)
class Split:
    """holdout: share of rows to hold out. draw: which of many equally good splits this is."""

    holdout: float
    draw: int = 0


@dataclass
class Written:
    """lost: what a source left out, in words -> how much. kept: of each constraint that was counted, see
    relations.py.
    """

    parts: list[Part] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    kept: Kept = field(default_factory=Counter)


def observe_unit(source: Source, unit: int) -> Any:
    """What is in one unit."""
    with lean_memory():
        return source.observe(unit)


def damaged_in(source: Source, unit: int) -> list[Reject]:
    """Files of one unit that were taken unread and are bad."""
    with lean_memory():
        return source.damaged(unit)


def write_unit(
    source: Source,
    unit: int,
    schema: Schema,
    uri: str,
    attempt: str,
    split: Split,
    skip: frozenset[str],
    counted: Sequence[Reckoned] = (),
) -> Written:
    """Write the parts of one unit; names and bytes depend on the unit alone. counted: see `Written.kept`."""
    written, seen = Written(), Occurrences()
    with lean_memory(), ThreadPoolExecutor(FLYING) as pool:
        parts = _Parts(partial(write_part, uri, attempt=attempt), pool)
        train, held_out = (
            _Gathered(split, unit, source.options.part, _columns(source, schema), parts)
            for split in ("train", "holdout")
        )
        for batch, keys, held, lost in source.read(unit, schema, skip=skip, rejects=written.rejects):
            written.lost.update(lost)
            written.kept += count(counted, schema, batch)
            if not split.holdout:
                train.add(batch)
                continue
            if held is None:
                held = held_out_rows(*split_keys(batch, keys, schema), split, seen)
            train.add(batch.filter(pa.array(~held)))
            held_out.add(batch.filter(pa.array(held)))
        train.flush()
        held_out.flush()
        written.parts = parts.close()
    return written


def _columns(source: Source, schema: Schema) -> pa.Schema:
    """Of a part that other versions name, too: nothing in it changes where only other files do."""
    whole = schema.arrow()
    return pa.schema([field.with_nullable(True) for field in whole]) if source.incremental else whole


def count_unit(
    source: Source, unit: int, schema: Schema, holdout: float, draws: int, skip: frozenset[str]
) -> Any:
    """(draws, 2): rows each of so many splits would hold out of one unit, and all rows."""
    seen, out = [Occurrences() for _ in range(draws)], np.zeros((draws, 2), np.int64)
    with lean_memory():
        for batch, given, _, _ in source.read(unit, schema, skip=skip, rejects=[]):
            keys, alone = split_keys(batch, given, schema)
            for draw in range(draws):
                out[draw, 0] += held_out_rows(keys, alone, Split(holdout, draw), seen[draw]).sum()
            out[:, 1] += batch.num_rows
    return out


def split_keys(batch: pa.RecordBatch, keys: np.ndarray | None, schema: Schema) -> tuple[np.ndarray, bool]:
    """(B,) uint64: what is of one entity, or of one `key`, shares a key. And whether rows are about nobody,
    so that equal ones may be in both splits: those of a table.
    """
    alone = keys is None and not schema.about and schema.kind == "tabular"
    if keys is None:
        named = schema.entity and not schema.key
        keys = entity_keys(batch, schema.entity) if named else row_keys(batch, schema.key)
    return keys, alone


def held_out_rows(keys: np.ndarray, alone: bool, split: Split, seen: Occurrences) -> np.ndarray:
    """(B,) bool. Equal keys share a split; but of rows `alone` some train and some are held out, in the share
    of all rows.
    """
    if split.draw:
        keys = mix(keys + np.uint64(split.draw))
    return spread_mask(keys, seen.number(keys), split.holdout) if alone else holdout_mask(keys, split.holdout)


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


class _Parts:
    """Parts being written, few at a time: encoding them is half of the work of the second pass."""

    def __init__(self, write: Callable[..., Part], pool: Executor) -> None:
        self.write, self.pool = write, pool
        self.flying: deque[Future[Part]] = deque()
        self.done: list[Part] = []

    def put(self, table: pa.Table, *, split: str, name: str) -> None:
        self._wait(FLYING - 1)
        self.flying.append(self.pool.submit(self.write, table, split=split, name=name))

    def _wait(self, left: int) -> None:
        while len(self.flying) > left:
            self.done.append(self.flying.popleft().result())
            pa.default_memory_pool().release_unused()

    def close(self) -> list[Part]:
        self._wait(0)
        return self.done


class _Gathered:
    """Gathers batches of one split into parts of about `limit` bytes."""

    def __init__(self, split: str, unit: int, limit: int, schema: pa.Schema, parts: _Parts) -> None:
        self.split, self.unit, self.limit, self.parts, self.schema = split, unit, limit, parts, schema
        self.batches: list[pa.RecordBatch] = []
        self.bytes = self.count = 0

    def add(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self.batches.append(pa.RecordBatch.from_arrays(batch.columns, schema=self.schema))
            self.bytes += batch.nbytes
        if self.bytes >= self.limit:
            self.flush()

    def flush(self) -> None:
        if not self.batches:
            return
        table = pa.Table.from_batches(self.batches, schema=self.schema)
        name = f"{self.split}-{self.unit:05d}-{self.count:05d}"
        self.parts.put(table, split=self.split, name=name)
        self.batches, self.bytes, self.count = [], 0, self.count + 1
