"""New rows for the rows of a frame: one for each, with the values it has; what it lacks is made up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from genpipe.bundle import Bundle
from genpipe.bundle.complete import complete
from genpipe.draws import Draws
from genpipe.errors import UsageError
from genpipe.seeds import numpy_rng


def follow(bundle: Bundle, frame: pd.DataFrame, conditions: Mapping[str, Any], *, seed: int) -> pd.DataFrame:
    """One new row for each of the frame's, with its index. conditions: column -> value of every row.

    Raises UsageError where the generator does not know a value, or cannot be given a column beforehand.
    """
    for name, value in conditions.items():
        if name in frame.columns or value is None or isinstance(value, Mapping):
            found = "a column of the frame too" if name in frame.columns else "no single value"
            expected = "one value for all rows, or a column of the frame"
            raise UsageError(
                "CONDITION", where=f"conditions: {str(name)[:80]}", found=found, expected=expected
            )
        frame = frame.assign(**{str(name): value})
    bundle.codec.check_rows(len(frame))
    given, size = _given(bundle, frame), bundle.block_rows
    told = set(given.schema.names) <= set(bundle.schema.conditions)
    made = []
    for block, start in enumerate(range(0, len(frame), size)):
        some = given.slice(start, size)
        made.append(
            _told(bundle, some, seed, block) if told else complete(bundle, some, seed=seed, block=block)
        )
    table = pa.Table.from_batches(made).replace_schema_metadata(None)
    return table.to_pandas().set_index(frame.index)


def _given(bundle: Bundle, frame: pd.DataFrame) -> pa.RecordBatch:
    """The frame's columns in the types of the schema; every value is one the generator knows."""
    codes, shares = {}, {}
    for name in frame.columns:
        date = bundle.schema.field(name).kind == "date"
        try:
            codes[name], found = pd.factorize(frame[name])
            values = [v.date() if date and isinstance(v, datetime) else v for v in found.tolist()]
            shares[name] = dict.fromkeys(values, 1.0)
        except TypeError:
            raise UsageError("CONDITION", where=name, found="a list", expected="single values") from None
        if len(shares[name]) != len(values):
            raise UsageError("CONDITION", where=name, found="values of several types", expected="one type")
    wanted = bundle.check_conditions({name: values for name, values in shares.items() if values})
    if wanted.filters:
        raise UsageError(
            "CONDITION",
            where="frame",
            found=f"column {next(iter(wanted.filters))!r}, which this generator cannot be given beforehand",
            expected="columns among " + ", ".join([*bundle.schema.conditions, *wanted.observed]),
            fix="ask for it in params.conditions, or train 'tabular_any_order'",
        )
    typed = {
        name: mix.values.take(pa.array(codes[name], mask=codes[name] < 0))
        for name, mix in {**wanted.classes, **wanted.observed}.items()
    }
    if not typed:  # nothing but missing values
        free = {name: pa.nulls(len(frame), bundle.schema.field(name).arrow()) for name in frame.columns}
        return pa.RecordBatch.from_pydict(free)
    return pa.RecordBatch.from_pydict(typed)


def _told(bundle: Bundle, given: pa.RecordBatch, seed: int, block: int) -> pa.RecordBatch:
    """Rows of the classes that are given; those of the others are drawn."""
    path, table = (seed, "predict", block), bundle.codec.conditions
    rng = numpy_rng(*path, "records")
    told = bundle.codec.draw_conditions(given.num_rows, rng)
    for k, name in enumerate(table.names):
        there = given.column(name).is_valid().to_numpy(zero_copy_only=False)
        told[there, k] = table.codes(given)[there, k]
    draws = Draws(*path, total=given.num_rows, device=bundle.device)
    return bundle.codec.identify(bundle.draw(told, None, draws, rng), block * bundle.block_rows, seed)
