"""Long rows -> whole series: gathered by entity, over the disk where memory does not do, then cut."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.errors import DataError, UsageError
from genpipe.fields import Series
from genpipe.keys import column_keys, mix
from genpipe.schema import Schema
from genpipe.sources.base import Rows

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
                values = pa.array(column.to_numpy()[rows], from_pandas=True)  # NaN is missing
                arrays.append(pa.ListArray.from_arrays(offsets, values))
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


def deal(
    names: np.ndarray, breaks: np.ndarray, window: int, stride: int, *, whole: bool
) -> tuple[np.ndarray, np.ndarray]:
    """First rows of windows, (W,), and the (W,) uint64 keys of their split, for sorted rows of (N,) names.

    breaks: rows that no window crosses. whole: the windows of one name are in one split; else its rows are
    cut into blocks, which are dealt to both.
    """
    starts, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    edges = np.flatnonzero(np.r_[True, names[1:] != names[:-1], True])
    for first, last in itertools.pairwise(edges.tolist()):
        of, number = names[first : first + 1], 0
        block = last - first if whole else max(window, min(10 * window, (last - first) // MANY))
        inner = breaks[np.searchsorted(breaks, first) : np.searchsorted(breaks, last)].tolist()
        for low, high in itertools.pairwise([first, *inner, last]):
            for begin in range(low, high, block):
                found = np.arange(begin, min(begin + block, high) - window + 1, stride)
                number += 1
                key = of[0] if whole else mix(of + np.uint64(number))[0]
                starts.append(found)
                keys.append(np.full(len(found), key, np.uint64))
    return np.concatenate(starts), np.concatenate(keys)


def length_of(lengths: Counter[str], rows: int, window: int | None, entity: str | None) -> int:
    """Steps of a record: the window, or those that all series have. lengths: by series; rows: of all."""
    if window:
        longest = max(lengths.values(), default=rows)
        if longest < window:
            raise DataError(
                "FEWROWS",
                found=f"series of at most {longest} steps",
                expected=f"window={window} or more",
                fix="choose a smaller window=",
            )
        return window
    if not entity:
        raise UsageError(
            "WINDOW",
            found="one long series and no window",
            expected="how many steps make a record",
            fix="pass window=24, or entity= if a column tells series apart",
        )
    several = set(lengths.values())
    if len(several) > 1:
        raise DataError(
            "LENGTH",
            where=entity,
            found=f"series of {min(several)} to {max(several)} steps",
            expected="one length",
            fix=f"pass window={min(several)} or less",
        )
    return several.pop()


def uncovered(begins: np.ndarray, window: int, rows: int) -> int:
    """How many of the rows are in no window."""
    covered = np.zeros(rows + 1, np.int64)
    np.add.at(covered, begins, 1)
    np.add.at(covered, begins + window, -1)
    return int((covered[:-1].cumsum() == 0).sum())


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
