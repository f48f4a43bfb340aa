"""Row keys: one uint64 per row, equal for equal values or for one entity, and the split a key falls into.

Short strings are hashed a column at a time, eight bytes a round, by the mixer of splitmix64 (Steele et al.,
"Fast splittable pseudorandom number generators", 2014); long values go through BLAKE2. Nothing is seeded, so
a key is the same on every machine. It decides splits and counts distinct values; it is no cryptography.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LONG, WORD = 64, 8
MOST_KEYS = 2**20  # of 16 bytes
NULL = np.uint64(0x9E3779B97F4A7C15)
ODD = np.uint64(0x9FB21C651E98DF25)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(x: np.ndarray) -> np.ndarray:
    """(B,) uint64 -> (B,) uint64: the finaliser of splitmix64."""
    x = x ^ (x >> np.uint64(30))
    x *= _M1  # in place from here on: memory traffic is the cost
    x ^= x >> np.uint64(27)
    x *= _M2
    x ^= x >> np.uint64(31)
    return x


def row_keys(batch: pa.RecordBatch, columns: tuple[str, ...] = ()) -> np.ndarray:
    """(B,) uint64 over the named columns, or all of them."""
    names = columns or tuple(batch.schema.names)
    keys = np.zeros(batch.num_rows, np.uint64)
    for name in names:
        keys ^= keys >> np.uint64(32)  # floats may differ in high bits alone, which no product moves down
        keys *= ODD
        keys += _words(batch.column(name))
    return mix(keys)


def entity_keys(
    batch: pa.RecordBatch, columns: tuple[str, ...], *, unnamed: Literal["apart", "together"] = "apart"
) -> np.ndarray:
    """(B,) uint64, equal for rows of one entity however its name is spelled. A row without a name is one of
    its own, or, where entities are counted, all of them are one: they may be one person's.
    """
    named = [_spelled(batch.column(name)) for name in columns]
    keys = row_keys(pa.RecordBatch.from_arrays(named, names=list(columns)))
    absent = np.any([c.is_null().to_numpy(zero_copy_only=False) for c in named], axis=0)
    if not absent.any():
        return keys
    return np.where(absent, row_keys(batch) if unnamed == "apart" else NULL, keys)


def _spelled(column: pa.Array) -> pa.Array:
    """Texts without capitals, blanks, punctuation and leading zeros: 0756.12 and 756-12 are one person's."""
    if not pa.types.is_string(column.type):
        return column
    distinct = column.dictionary_encode()
    plain = pc.replace_substring_regex(pc.utf8_lower(distinct.dictionary), r"[^\p{L}\p{N}]+", "")
    return pc.replace_substring_regex(plain, "^0+(.)", r"\1").take(distinct.indices)


def holdout_mask(keys: np.ndarray, share: float) -> np.ndarray:
    """(B,) bool: True for the `share` of all possible keys that are held out."""
    return mix(keys + NULL) < np.uint64(min(int(share * 2**64), 2**64 - 1))


class Occurrences:
    """Numbers equal keys in the order they come: 0 for the first of its kind. Exact for the first MOST_KEYS
    different keys; later ones get the number of all rows before them, which no two rows share.
    """

    def __init__(self) -> None:
        self.keys, self.counts, self.rows = np.zeros(0, np.uint64), np.zeros(0, np.int64), 0
        self.full = False

    def number(self, keys: np.ndarray) -> np.ndarray:
        """(B,) uint64 -> (B,) int64."""
        kinds, of, times = np.unique(keys, return_inverse=True, return_counts=True)
        order = np.argsort(of, kind="stable")
        rank = np.empty(len(keys), np.int64)  # among the equal ones of this batch
        rank[order] = np.arange(len(keys)) - np.repeat(np.cumsum(times) - times, times)
        at = np.minimum(np.searchsorted(self.keys, kinds), max(0, len(self.keys) - 1))
        known = self.keys[at] == kinds if len(self.keys) else np.zeros(len(kinds), bool)
        before = np.zeros(len(kinds), np.int64)
        before[known] = self.counts[at[known]]
        self.counts[at[known]] += times[known]
        self.full |= bool(len(self.keys) + (~known).sum() > MOST_KEYS)
        if not self.full:
            places = np.searchsorted(self.keys, kinds[~known])
            self.keys = np.insert(self.keys, places, kinds[~known])
            self.counts = np.insert(self.counts, places, times[~known])
        else:
            before[~known] = self.rows
        self.rows += len(keys)
        return before[of] + rank


def spread_mask(keys: np.ndarray, numbers: np.ndarray, share: float) -> np.ndarray:
    """(B,) bool: rows to hold out, `numbers` telling equal keys apart. Of the first n rows of one key the
    held-out ones are n * share, rounded up or down; the first is as `holdout_mask` has it.
    """
    begin = 1.0 - (mix(keys + NULL) >> np.uint64(11)) / 2.0**53  # of (0, 1]; held out at once below `share`
    held: np.ndarray = np.floor((numbers + 1) * share + begin) > np.floor(numbers * share + begin)
    return np.where(numbers == 0, holdout_mask(keys, share), held)


def column_keys(column: pa.Array) -> np.ndarray:
    """(B,) uint64: a uniform hash of every value; nulls share one."""
    return mix(_words(column))


def run_keys(texts: Sequence[str | None], length: int) -> tuple[np.ndarray, np.ndarray]:
    """(keys of every run of `length` characters, number of the text each is of); none spans two texts."""
    lengths = np.array([len(t or "") for t in texts], dtype=np.int64)
    text = np.frombuffer("".join(t or "" for t in texts).encode("utf-32-le", "surrogatepass"), "<u4")
    owner, keys, step = np.repeat(np.arange(len(texts)), lengths), text.astype(np.uint64), 1
    if len(text) < length:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    while step < length:  # of pairs, of fours, of eights .. and at last of two that overlap
        more = min(step, length - step)
        keys = mix(keys[:-more] * ODD + keys[more:])
        step += more
    inside = owner[: len(keys)] == owner[length - 1 :]
    return keys[inside], owner[: len(keys)][inside]


def _words(column: pa.Array) -> np.ndarray:
    """(B,) uint64: a word per value, different for different values as far as words go; nulls share one."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), NULL)
    if pa.types.is_struct(kind):  # images and audio: the content counts, not the file name
        return _words(pc.struct_field(column, "bytes"))
    if pa.types.is_list(kind):
        return np.fromiter(
            (_digest(np.asarray(v, "<f8").tobytes()) for v in column.to_pylist()), np.uint64, len(column)
        )
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        words = _string_words(column)
    else:
        if pa.types.is_boolean(kind):
            column = column.cast(pa.uint8())
        values = column.cast(_integer(kind)) if pa.types.is_temporal(kind) else column
        values = values.fill_null(0) if values.null_count else values
        bits = values.to_numpy(zero_copy_only=False)
        if bits.dtype.kind == "f":
            bits = bits.astype("<f8") + 0.0  # -0.0 and 0.0 are one value
            words = bits.view(np.uint64)
        else:
            words = bits.astype(np.int64, copy=False).view(np.uint64)
    if column.null_count:
        words = np.where(column.is_null().to_numpy(zero_copy_only=False), NULL, words)
    return words


def _integer(kind: pa.DataType) -> pa.DataType:
    return pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _string_words(column: pa.Array) -> np.ndarray:
    _, offsets_buffer, data_buffer = column.buffers()
    if len(column) == 0:
        return np.zeros(0, np.uint64)
    offsets = np.frombuffer(offsets_buffer, np.int32)[column.offset : column.offset + len(column) + 1].astype(
        np.int64
    )
    text = np.frombuffer(data_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    padded = np.concatenate([text, np.zeros(WORD, np.uint8)])
    # every unaligned 8-byte window as one word, without copying
    words = np.ndarray((len(padded) - WORD + 1,), "<u8", buffer=padded, strides=(1,))
    keep = np.array([(1 << (8 * n)) - 1 for n in range(WORD + 1)], np.uint64)
    keys = lengths.astype(np.uint64)
    longest = int(min(lengths.max(), LONG))
    for at in range(0, longest, WORD):
        rows: np.ndarray | slice = slice(None) if at == 0 else np.flatnonzero(lengths > at)
        word = words[starts[rows] + at] & keep[np.minimum(lengths[rows] - at, WORD)]
        keys[rows] = (mix(keys[rows]) if at else keys) * ODD + word
    for row in np.flatnonzero(lengths > LONG):
        keys[row] = _digest(text[starts[row] : starts[row] + lengths[row]].tobytes())
    return keys
