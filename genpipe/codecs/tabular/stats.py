"""What is known of a table's training split, and the columns made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import CodecConfig, RowStats, Stats
from genpipe.codecs.columns import Column, Fixed, Placeholder
from genpipe.codecs.holders import WHO, Crowd, Holders, coarse, merge_holders
from genpipe.codecs.sketch import EXACT_DISTINCT, Sample, add_counts, combine, hash_column, to_numpy
from genpipe.codecs.tabular.choice import MOST_CATEGORIES, Counted, make_choice
from genpipe.codecs.tabular.lookups import plain
from genpipe.codecs.tabular.numeric import NumberStats, Scale, make_scale
from genpipe.codecs.tabular.relation_stats import RelationStats
from genpipe.constraints import CHOICES, NUMBERS, SCALARS
from genpipe.errors import DataError, UsageError
from genpipe.fields import AnyField

MISSING = np.ones(1, np.uint64)
DROP = "add data, drop the column, or keep what single ones have with codec.rare: keep"


@dataclass(frozen=True)
class TabularStats(Stats):
    """holders: who has each value of a column (of numbers, as long as `numbers` tallies them), and, under its
    name and "?", who misses one. Empty where every row is an entity; else the sample has whom each row is
    about, under WHO.
    """

    rows: RowStats
    missing: dict[str, int]
    choices: dict[str, dict[Any, int]]
    numbers: dict[str, NumberStats]
    sample: Sample
    relations: RelationStats
    holders: dict[str, Holders]

    def merge(self, other: TabularStats) -> TabularStats:
        return TabularStats(
            self.rows.merge(other.rows),
            add_counts(self.missing, other.missing),
            {name: add_counts(c, other.choices[name]) for name, c in self.choices.items()},
            {name: n.merge(other.numbers[name]) for name, n in self.numbers.items()},
            self.sample.merge(other.sample),
            self.relations.merge(other.relations),
            merge_holders(self.holders, other.holders),
        )

    def counted(self, field: AnyField) -> Counted:
        return Counted(self.choices.get(field.name, {}), self.holders.get(field.name), field.arrow())

    def may_miss(self, field: AnyField, k: int) -> bool:
        """Whether values of k entities are missing: fewer leave no trace."""
        held = self.holders.get(f"{field.name}?")
        missing = self.missing[field.name] if held is None else int(held.count(MISSING)[0])
        return missing >= max(1, k)


def find_holders(
    batch: pa.RecordBatch, fields: Iterable[AnyField], who: np.ndarray | None, k: int
) -> dict[str, Holders]:
    """Who has each value of choices and numbers, and who misses one; see TabularStats."""
    out: dict[str, Holders] = {}
    if who is None:
        return out
    for field in fields:
        name, column = field.name, batch.column(field.name)
        there = column.is_valid().to_numpy(zero_copy_only=False)
        if pa.types.is_floating(column.type):
            there &= to_numpy(column)[1]
        out[f"{name}?"] = Holders.of((~there).astype(np.uint64), who, least=k)
        if field.kind in SCALARS:
            limit = EXACT_DISTINCT if field.kind in NUMBERS else MOST_CATEGORIES
            out[name] = Holders.of(hash_column(plain(column)), who, least=k, limit=limit + 1)  # and missing
    return out


def count_values(column: pa.Array) -> dict[Any, int]:
    counted = pc.value_counts(column)
    return dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))


def make_column(
    field: AnyField, stats: TabularStats, config: CodecConfig, ladder: tuple[int, ...] = ()
) -> Column:
    """The codec of one column, from the statistics of the whole training split. ladder: see writing.py."""
    if field.kind in CHOICES:
        return make_choice(field, stats.choices[field.name], config, stats.counted(field))
    if field.kind in NUMBERS:
        return _scale(field, stats, config, ladder)
    if field.kind in ("identifier", "text"):
        absent = stats.missing[field.name] if stats.may_miss(field, config.rare_below) else 0
        absent, rows = coarse([absent, max(1, stats.rows.rows)], config.rare_below)
        return Placeholder(field, round(float(min(1.0, absent / rows)), 9))
    raise UsageError(
        "FIELD",
        where=field.name,
        found=f"a field of kind {field.kind} in a table",
        expected="numbers, choices, times, identifiers or text",
    )


def _scale(field: AnyField, stats: TabularStats, config: CodecConfig, ladder: tuple[int, ...]) -> Column:
    number, k = stats.numbers[field.name], config.rare_below
    if number.low is None or number.high is None:
        return Fixed(field, None)
    absent = stats.rows.rows - number.valid if stats.may_miss(field, k) else 0
    valid, absent = coarse([number.valid, absent], k)
    values, counts, who = _values(field, stats, ends=k < 2)
    crowd = Crowd.of(k, values, counts, who) if k > 1 else None
    if crowd is not None and not crowd.enough():
        if field.nullable:
            return Fixed(field, None)
        raise DataError("FEW", where=field.name, found=f"values of fewer than {k} entities", fix=DROP)
    return make_scale(
        field, values, counts, step=number.step, low=number.low, high=number.high,
        missing=float(absent / (valid + absent)), bins=config.bins, crowd=crowd, ladder=ladder,
    )  # fmt: skip


def _values(
    field: AnyField, stats: TabularStats, *, ends: bool
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """(distinct values ascending, rows of each, whose they are): of all rows, or of a sample where values are
    many. ends: the sample, too, has the extremes.
    """
    number, held = stats.numbers[field.name], stats.holders.get(field.name)
    if number.tally.values is not None and number.tally.counts is not None:
        who = held.who(hash_column(pa.array(number.tally.values))) if held is not None else None
        return number.tally.values, number.tally.counts, who
    valid = stats.sample.payload[f"{field.name}?"]
    values, counts = stats.sample.payload[field.name][valid], stats.sample.weights[valid]
    who = None
    if WHO in stats.sample.payload:
        who = np.unique(values, return_inverse=True)[1], stats.sample.payload[WHO][valid]
    if ends:
        both = np.array([number.low, number.high], dtype=values.dtype)  # a sample may lack them
        values, counts = np.concatenate([values, both]), np.concatenate([counts, [1, 1]])
    return *combine(values, counts), who


def extremes_of(column: Column) -> tuple[Any, Any] | None:
    """The smallest and largest value that a column of numbers or times makes, in storage units."""
    if isinstance(column, Scale):
        ends, _ = to_numpy(column.axis.arrow(np.array([column.axis.low, column.axis.high]), None))
        return ends[0].item(), ends[1].item()
    return (column.value, column.value) if isinstance(column, Fixed) and column.value is not None else None
