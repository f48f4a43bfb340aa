"""What is known of a table's training split, and the columns made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.codecs.base import CodecConfig, RowStats, Stats
from genpipe.codecs.choice import make_choice
from genpipe.codecs.columns import Column, Fixed, Placeholder
from genpipe.codecs.numeric import NumberStats, make_scale
from genpipe.codecs.relations import RelationStats
from genpipe.codecs.sketch import Sample, add_counts, combine
from genpipe.constraints import CHOICES, NUMBERS
from genpipe.errors import UsageError
from genpipe.schema import AnyField


@dataclass(frozen=True)
class TabularStats(Stats):
    rows: RowStats
    missing: dict[str, int]
    choices: dict[str, dict[Any, int]]
    numbers: dict[str, NumberStats]
    sample: Sample
    relations: RelationStats

    def merge(self, other: TabularStats) -> TabularStats:
        return TabularStats(
            self.rows.merge(other.rows),
            add_counts(self.missing, other.missing),
            {name: add_counts(c, other.choices[name]) for name, c in self.choices.items()},
            {name: n.merge(other.numbers[name]) for name, n in self.numbers.items()},
            self.sample.merge(other.sample),
            self.relations.merge(other.relations),
        )


def count_values(column: pa.Array) -> dict[Any, int]:
    counted = pc.value_counts(column)
    return dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))


def make_column(field: AnyField, stats: TabularStats, config: CodecConfig) -> Column:
    """The codec of one column, from the statistics of the whole training split."""
    if field.kind in CHOICES:
        return make_choice(field, stats.choices[field.name], config)
    if field.kind in NUMBERS:
        return _scale(field, stats, config)
    if field.kind in ("identifier", "text"):
        return Placeholder(field, stats.missing[field.name] / max(1, stats.rows.rows))
    raise UsageError(
        "FIELD",
        where=field.name,
        found=f"a field of kind {field.kind} in a table",
        expected="numbers, choices, times, identifiers or text",
    )


def _scale(field: AnyField, stats: TabularStats, config: CodecConfig) -> Column:
    number = stats.numbers[field.name]
    missing = 1 - number.valid / max(1, stats.rows.rows)
    if number.low is None or number.high is None:
        return Fixed(field, None)
    if number.tally.values is not None and number.tally.counts is not None:
        values, counts = number.tally.values, number.tally.counts
    else:
        valid = stats.sample.payload[f"{field.name}?"]
        ends = np.array([number.low, number.high], dtype=stats.sample.payload[field.name].dtype)
        values = np.concatenate([stats.sample.payload[field.name][valid], ends])  # a sample may lack them
        values, counts = combine(values, np.concatenate([stats.sample.weights[valid], [1, 1]]))
    return make_scale(
        field, values, counts, step=number.step, low=number.low, high=number.high,
        rows=number.valid, missing=missing, bins=config.bins, rare=config.rare_below,
    )  # fmt: skip
