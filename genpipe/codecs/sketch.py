"""Statistics that merge exactly: any cut of the rows into batches and files, in any order, gives the same.

Counts, extremes and greatest common divisors merge as they are. Quantiles come from a bottom-k sample: the
k distinct rows with the smallest content hash, each with its exact multiplicity (Cohen & Kaplan,
"Summarizing data using bottom-k sketches", PODC 2007; equal rows share a hash, as in the KMV sketch of
Bar-Yossef et al. 2002). A row among the k smallest of the whole is among the k smallest of each piece it
occurs in, so nothing depends on the order of merging. No floating-point sum is ever merged: it would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLE_ROWS = 50_000
SAMPLE_CELLS = 5_000_000  # rows x columns a sample may hold: a table of 1,000 columns keeps 5,000 rows
EXACT_DISTINCT = 10_000  # up to so many distinct values of a column are counted exactly
_NULL, _PRIME = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x100000001B3)


def mix(h: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64: every input bit reaches every output bit."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray = h ^ (h >> np.uint64(31))
    return found


def hash_rows(columns: list[pa.Array], rows: int) -> np.ndarray:
    """(B,) 64-bit content hashes of rows, the same on every platform and in every batch."""
    total = np.zeros(rows, dtype=np.uint64)
    for column in columns:
        total = mix(total * _PRIME + hash_column(column))
    return total


def hash_column(column: pa.Array) -> np.ndarray:
    """(B,) hashes of one column of numbers, booleans, times, strings, bytes or lists of numbers."""
    kind = column.type
    if pa.types.is_struct(kind):
        return hash_column(pc.struct_field(column, [0]))
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        raw = column.cast(pa.binary()) if pa.types.is_string(kind) else column
        # offsets count from the start of the buffer, also in a slice
        offsets = (
            np.frombuffer(raw.buffers()[1], np.int32, len(raw) + 1, raw.offset * 4)
            if len(raw)
            else np.zeros(1, np.int32)
        )
        data = np.frombuffer(raw.buffers()[2] or b"", np.uint8)
        hashed = _fold(data.astype(np.uint64) + np.uint64(1), offsets.astype(np.int64))
    elif pa.types.is_list(kind):
        inner = hash_column(column.values) if len(column.values) else np.zeros(0, np.uint64)
        hashed = _fold(inner, column.offsets.to_numpy(zero_copy_only=False).astype(np.int64))
    else:
        bits, _ = to_numpy(column)
        hashed = mix(
            (bits + 0.0).view(np.uint64) if bits.dtype.kind == "f" else bits.astype(np.int64).view(np.uint64)
        )
    if column.null_count:
        hashed = np.where(column.is_null().to_numpy(zero_copy_only=False), _NULL, hashed)
    return hashed


def _fold(items: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Polynomial hashes of the runs items[offsets[i]:offsets[i+1]]."""
    lengths = np.diff(offsets)
    out = mix(lengths.astype(np.uint64) + np.uint64(1))
    filled = np.flatnonzero(lengths)
    if len(filled) == 0:
        return out
    first, last = offsets[0], offsets[-1]
    place = np.arange(last - first) - np.repeat(offsets[:-1] - first, lengths)
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(int(lengths.max()), _PRIME, dtype=np.uint64))
        sums = np.add.reduceat(items[first:last] * powers[place], (offsets[:-1] - first)[filled])
        out[filled] = mix(out[filled] + sums)
    return out


def to_numpy(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(values, valid) of a number, boolean or time column; whole numbers stay int64, never via nanoseconds.

    Missing entries hold 0; a NaN in a float column counts as missing, an infinity does not (see columns.py).
    """
    kind = column.type
    if pa.types.is_date32(kind):
        column = column.cast(pa.int32()).cast(pa.int64())
    elif pa.types.is_timestamp(kind) or pa.types.is_boolean(kind):
        column = column.cast(pa.int64())
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    values = (column.fill_null(0) if column.null_count else column).to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        valid = valid & ~np.isnan(values)
        values = np.where(valid, values, 0.0)
    return values, valid


@dataclass(frozen=True)
class Sample:
    """The `size` distinct rows of smallest hash: hashes ascending, multiplicities, named payload."""

    size: int
    hashes: np.ndarray
    weights: np.ndarray
    payload: dict[str, np.ndarray]

    @classmethod
    def of(cls, hashes: np.ndarray, payload: dict[str, np.ndarray], *, size: int) -> Sample:
        return cls(size, hashes, np.ones(len(hashes), dtype=np.int64), payload)._trimmed()

    def _trimmed(self) -> Sample:
        hashes, first, back = np.unique(self.hashes, return_index=True, return_inverse=True)
        weights = np.zeros(len(hashes), dtype=np.int64)
        np.add.at(weights, back, self.weights)
        first = first[: self.size]
        payload = {name: values[first] for name, values in self.payload.items()}
        return Sample(self.size, hashes[: self.size], weights[: self.size], payload)

    def merge(self, other: Sample) -> Sample:
        payload = {name: np.concatenate([v, other.payload[name]]) for name, v in self.payload.items()}
        joined = np.concatenate([self.hashes, other.hashes]), np.concatenate([self.weights, other.weights])
        return Sample(self.size, *joined, payload)._trimmed()


@dataclass(frozen=True)
class Tally:
    """Exact counts of the distinct values of a number column, ascending; `None` once there are too many."""

    values: np.ndarray | None
    counts: np.ndarray | None

    @classmethod
    def of(cls, values: np.ndarray) -> Tally:
        return cls(*np.unique(values, return_counts=True))._bounded()

    def _bounded(self) -> Tally:
        return self if self.values is not None and len(self.values) <= EXACT_DISTINCT else Tally(None, None)

    def merge(self, other: Tally) -> Tally:
        if self.values is None or other.values is None or self.counts is None or other.counts is None:
            return Tally(None, None)
        values, counts = combine(
            np.concatenate([self.values, other.values]), np.concatenate([self.counts, other.counts])
        )
        return Tally(values, counts)._bounded()


def combine(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values ascending with their summed counts."""
    distinct, back = np.unique(values, return_inverse=True)
    total = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(total, back, counts)
    return distinct, total


def quantiles(values: np.ndarray, counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles of ascending `values` that occur `counts` times, linear between the middles of ranks."""
    upto = np.cumsum(counts)
    middle = (upto - 0.5 * counts) / upto[-1]
    found: np.ndarray = np.interp(levels, middle, values)
    return found


def add_counts(a: dict[Any, int], b: dict[Any, int]) -> dict[Any, int]:
    """The counts of both dictionaries together."""
    out = dict(a)
    for key, n in b.items():
        out[key] = out.get(key, 0) + n
    return out
