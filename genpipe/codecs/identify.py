"""Made-up identifiers: row n of a seed gets string number P(n) of the field's pattern, P a permutation.

So values are unique by construction over all blocks, shards and workers, and known from the row's number
alone. P is a Feistel network over the least even number of bits that holds all numbers, walked until it falls
among them (Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). It scatters; it is no
cipher.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.pii import PATTERNS, completed
from genpipe.codecs.sketch import mix
from genpipe.errors import UsageError
from genpipe.fields import AnyField, Identifier, Made
from genpipe.pattern import language
from genpipe.schema import Schema
from genpipe.seeds import derive

ROUNDS, MOST = 6, 2**62  # MOST: numbers that are permuted; a larger pattern is divided into so many stretches


def permute(numbers: np.ndarray, size: int, seed: int) -> np.ndarray:
    """(B,) numbers in [0, size), size at most 2^62 -> (B,) int64, all different where the numbers are."""
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = [np.uint64(derive(seed, "round", r)) for r in range(ROUNDS)]
    out = numbers.astype(np.uint64)
    rows = np.arange(len(out))
    while len(rows):
        left, right = out[rows] >> half, out[rows] & mask
        for key in keys:
            left, right = right, left ^ (mix(right + key) & mask)
        out[rows] = (left << half) | right
        rows = rows[out[rows] >= np.uint64(size)]
    return out.astype(np.int64)


def identify(schema: Schema, batch: pa.RecordBatch, start: int, seed: int) -> pa.RecordBatch:
    """The batch as rows start, start + 1, .. of the stream that `seed` names: fields with a pattern, a
    minimum or pii get the values of these rows, missing where they were missing.
    """
    check_rows(schema, start + batch.num_rows)
    columns = list(batch.columns)
    for i, field in enumerate(schema.fields):
        if capacity(field) is not None:
            made = _values(field, start, batch.num_rows, derive(seed, "identify", field.name))
            columns[i] = pc.if_else(columns[i].is_valid(), made, pa.scalar(None, made.type))
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def pattern_of(field: AnyField) -> str | None:
    """The pattern of the field's made-up texts, its own or that of its personal data."""
    if isinstance(field, Made) and field.pattern is not None:
        return field.pattern
    return None if field.pii is None or field.pii == "none" else PATTERNS[field.pii]


def capacity(field: AnyField) -> int | None:
    """How many values the field has for made-up identifiers; None where these do not depend on the row."""
    if (pattern := pattern_of(field)) is not None:
        return language(pattern).size
    if isinstance(field, Identifier) and field.minimum is not None:
        return 2**63 - field.minimum
    return None


def check_rows(schema: Schema, stop: int) -> None:
    """Raise a UsageError where a field has fewer values than rows [0, stop) need."""
    for field in schema.fields:
        most, what = capacity(field), field.pattern if isinstance(field, Made) else None
        if most is not None and most < stop and (what is not None or field.pii in (None, "none")):
            what = what or "minimum"
            raise UsageError(
                "PATTERN",
                where=field.name,
                found=f"{stop} rows, but {what} has only {most} different values",
                expected=f"at most {most} rows",
                fix="ask for fewer rows, or train on a schema with a longer pattern or a lower minimum",
            )


def made_values(field: AnyField, rows: int, rng: np.random.Generator) -> pa.Array | None:
    """Legal values for rows whose place in a stream is not known: different, where there are enough."""
    most = capacity(field)
    if most is None:
        return None
    seed, start = int(rng.integers(2**62)), int(rng.integers(max(1, min(most, MOST) - rows + 1)))
    return _values(field, start, rows, seed)


def _values(field: AnyField, start: int, rows: int, seed: int) -> pa.Array:
    numbers = np.arange(start, start + rows)
    if isinstance(field, Identifier) and field.minimum is not None:
        return pa.array(numbers + field.minimum)
    pattern = pattern_of(field)
    assert pattern is not None
    strings, kind = language(pattern), field.pii if pattern in PATTERNS.values() else None
    size = min(strings.size, MOST)
    # a larger language is met at one string in each of MOST equal stretches
    stretch = strings.size // size
    within = derive(seed, "within") % stretch
    places = permute(numbers % size, size, seed).tolist()
    return pa.array([completed(kind, strings[p * stretch + within]) for p in places], pa.string())
