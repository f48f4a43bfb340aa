"""The rows of a batch that are taken: those that `where=` describes, and a share of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field, field_validator

from genpipe.comparison import ORDER, Comparison, holds, in_words, moment
from genpipe.errors import UsageError, unknown
from genpipe.keys import entity_keys, holdout_mask, mix
from genpipe.sources.base import Options, Piece, unset
from genpipe.sources.columns import EXACT_FLOAT, NUMERIC, TEMPORAL, Place
from genpipe.sources.files import suffix_of
from genpipe.sources.tabular.csv import Names
from genpipe.sources.tabular.stats import JSON

LEFT = "where= and sample= left out {n} rows, as asked"


def _share(value: object) -> object:
    """`10%` is .1."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip().removesuffix("%")) / 100
    return value


class RowOptions(Options):
    """where: what a row must be to be taken, `age>=30`; of several, all. sample: share of the rows that are
    taken, .1 or 10%. sample_by: columns whose rows are taken together; by default the entity that is named.
    """

    where: Names | None = Field(default=None, exclude_if=unset)
    sample: Annotated[float | None, BeforeValidator(_share)] = Field(
        default=None, gt=0, lt=1, exclude_if=unset
    )
    sample_by: Names | None = Field(default=None, exclude_if=unset)

    @field_validator("where")
    @classmethod
    def _compares(cls, texts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in texts or ():
            Comparison.parse(text, where="where")
        return texts

    @property
    def some_rows(self) -> bool:
        """Whether rows are left out."""
        return bool(self.where or self.sample)


def some(piece: Piece, options: RowOptions) -> tuple[pa.RecordBatch, Place]:
    """The batch of a piece without the rows that are left out; its place knows how many and which."""
    batch, place = piece()
    mask = np.ones(batch.num_rows, bool)
    for text in options.where or ():
        mask &= _told(batch, Comparison.parse(text, where="where"), place)
    if options.sample:
        mask &= _sampled(batch, options.sample, options.sample_by or (), place)
    if mask.all():
        return batch, place
    rows = np.flatnonzero(mask).astype(np.int32)
    return batch.take(pa.array(rows)), replace(place, left=batch.num_rows - len(rows), rows=rows)


def _sampled(batch: pa.RecordBatch, share: float, together: Sequence[str], place: Place) -> np.ndarray:
    """(B,) bool. It depends on a row's place in its file, or on whom it is about, and on nothing else."""
    if together:
        for name in together:
            _column(batch, name, place, "sample_by")
        keys = entity_keys(batch, tuple(together))
    else:
        file = np.uint64(zlib.crc32(place.uri.rpartition("/")[2].encode()))
        keys = np.arange(place.row, place.row + batch.num_rows).astype(np.uint64) + mix(np.array([file]))
    return holdout_mask(mix(keys), share)  # mixed once more than a split is, which is of other rows


def _told(batch: pa.RecordBatch, asked: Comparison, place: Place) -> np.ndarray:
    """(B,) bool: the rows that a comparison takes; a missing value is never taken."""
    column = _column(batch, asked.column, place, "where")
    if column is None:
        return np.zeros(batch.num_rows, bool)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        found = _texts(pc.utf8_trim_whitespace(column.cast(pa.string())), asked)
    else:
        found = _typed(column, asked)
    return np.asarray(found.to_numpy(zero_copy_only=False), bool)


def _column(batch: pa.RecordBatch, name: str, place: Place, option: str) -> pa.Array | None:
    """None = no row of this batch has it, as may be in JSON."""
    if name in batch.schema.names:
        return batch.column(name)
    if suffix_of(place.uri) in JSON and option == "where":
        return None
    raise unknown("column", name, batch.schema.names, where=option)


def _texts(column: pa.Array, asked: Comparison) -> pa.Array:
    """Texts of a file, which has no types: numbers compare with a number, dates of ISO 8601 with a date."""
    if pc.match_substring_regex(pa.scalar(asked.value), NUMERIC).as_py():
        is_number = pc.match_substring_regex(column, NUMERIC)
        numbers = pc.if_else(is_number, column, None).cast(pa.float64())
        found = holds(asked.sign, numbers, pa.scalar(float(asked.value)))
        if asked.sign in ORDER:
            return found
        words = holds(asked.sign, column, pa.scalar(asked.value))
        if abs(float(asked.value)) >= EXACT_FLOAT:  # several whole numbers are one float
            return words
        return pc.if_else(pc.fill_null(is_number, False), found, words)
    if asked.sign in ORDER:
        if not pc.match_substring_regex(pa.scalar(asked.value), TEMPORAL).as_py():
            raise _no_order(asked)
        column = pc.if_else(pc.match_substring_regex(column, TEMPORAL), column, None)
    return holds(asked.sign, column, pa.scalar(asked.value))


def _typed(column: pa.Array, asked: Comparison) -> pa.Array:
    if pa.types.is_null(column.type):  # as of a block of JSON in which none has it
        return pc.is_valid(column)
    value = _value(asked, column.type)
    if value.type != column.type:  # 2.5 lies between whole numbers
        column = column.cast(value.type, safe=False)
    return holds(asked.sign, column, value)


def _value(asked: Comparison, kind: pa.DataType) -> pa.Scalar:
    try:
        if pa.types.is_integer(kind):
            with suppress(pa.ArrowException, ValueError, OverflowError):
                return pa.scalar(int(asked.value), kind)
            return pa.scalar(float(asked.value))
        if pa.types.is_boolean(kind) and asked.sign in ORDER:
            raise _no_order(asked)
        if pa.types.is_timestamp(kind):
            return moment(asked.value, kind)
        return pa.scalar(asked.value).cast(kind)
    except (pa.ArrowException, ValueError):
        raise UsageError("OPTION", where="where", found=str(asked), expected=in_words(kind)) from None


def _no_order(asked: Comparison) -> UsageError:
    return UsageError(
        "OPTION",
        where="where",
        found=str(asked),
        expected=f"a number, or a date such as 2026-01-31, behind {asked.sign}",
        fix="= and != compare any texts",
    )
