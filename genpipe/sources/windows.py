"""Long rows -> whole series: gathered by entity, over the disk where memory does not do, then cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.errors import DataError
from genpipe.fields import Series
from genpipe.keys import column_keys
from genpipe.schema import Schema
from genpipe.sources.base import Rows
from genpipe.sources.columns import strictest

MANY = 20  # entities, or blocks of a series, from which a split can be drawn
ORDER = "__row"


def windows(
    table: pa.Table, schema: Schema, starts: np.ndarray, keys: np.ndarray, window: int
) -> Iterator[Rows]:
    """Batches of windows; starts: (W,) first rows."""
    step = max(1, 2**20 // window)
    for at in range(0, len(starts), step):
        some = starts[at : at + step]
        rows = (some[:, None] + np.arange(window)).ravel()  # (W, T) -> (W*T,)
        offsets = pa.array(np.arange(0, len(rows) + 1, window, dtype=np.int32))
        arrays = []
        for wanted in schema.fields:
            column = table.column(wanted.name)
            if isinstance(wanted, Series):
                arrays.append(pa.ListArray.from_arrays(offsets, pa.array(column.to_numpy()[rows])))
                continue
            texts = column.take(pa.array(some)).combine_chunks()
            if (
                wanted.name == schema.target
                and not pc.all(
                    pc.equal(column.take(pa.array(some + window - 1)).combine_chunks(), texts)
                ).as_py()
            ):
                raise DataError(
                    "TARGET",
                    where=wanted.name,
                    found="a label that changes within a series",
                    expected="one value per series",
                    fix="leave target= out, or cut the series where it changes",
                )
            arrays.append(texts)
        yield Rows(pa.RecordBatch.from_arrays(arrays, schema=schema.arrow()), keys[at : at + step])


def gather(
    batches: Iterator[pa.RecordBatch], buckets: int, entity: str | None, scratch: str, memory: int
) -> Iterator[pa.Table]:
    """All rows of an entity in one table; several tables pass over the disk when there is much."""
    if buckets == 1:
        held, size = [], 0
        for batch in batches:
            held.append(batch)
            size += batch.nbytes
            if size > memory:
                raise DataError(
                    "LIMIT",
                    found=f"one series of more than {size} bytes",
                    expected=f"at most memory={memory}",
                    fix="raise memory=, or cut the series into files",
                )
        if held:
            yield pa.Table.from_batches(held)
        return
    writers: dict[int, Any] = {}
    for batch in batches:
        bucket = column_keys(batch.column(entity)) % np.uint64(buckets)
        for number in np.unique(bucket).tolist():
            if number not in writers:
                writers[number] = pa.ipc.new_file(f"{scratch}/{number}.arrow", batch.schema)
            writers[number].write_batch(batch.filter(pa.array(bucket == number)))
    for writer in writers.values():
        writer.close()
    for number in sorted(writers):
        with pa.memory_map(f"{scratch}/{number}.arrow") as source:
            yield pa.ipc.open_file(source).read_all()


def is_time(values: pa.Array) -> bool:
    if pa.types.is_temporal(values.type):
        return True
    found = (
        strictest(values.drop_null())
        if pa.types.is_string(values.type) and values.null_count < len(values)
        else None
    )
    return found is not None and found[0].startswith(("date", "timestamp"))


def sort_values(values: pa.Array) -> np.ndarray:
    """(B,) float64 seconds or numbers to sort by."""
    if pa.types.is_string(values.type):
        found = strictest(values)
        if found is None:
            raise DataError(
                "TIMECOL", found="values that are no times", expected="2024-01-31 or 2024-01-31 12:00:00"
            )
        values = found[1]
    if pa.types.is_temporal(values.type):
        zone = getattr(values.type, "tz", None)
        values = values.cast(pa.timestamp("us", zone)).cast(pa.int64())
    return values.cast(pa.float64()).to_numpy(zero_copy_only=False)
