"""Text -> type: exact, explained, and the same however the rows are cut."""

from __future__ import annotations

from functools import reduce

import pyarrow as pa
import pytest

from genpipe.errors import DataError
from genpipe.sources.columns import Column, Place, observe
from genpipe.sources.tabular.infer import infer_field

MANY = [f"name {i}" for i in range(100)]


def stats(values: list[str | None], pieces: int = 1) -> Column:
    size = -(-len(values) // pieces)
    cuts = [(at, values[at : at + size]) for at in range(0, len(values), size)]
    seen = [observe("x", pa.array(part, pa.string()), Place("f.csv", at + 2))[0] for at, part in cuts]
    return reduce(Column.merge, seen)


@pytest.mark.parametrize("pieces", [1, 3, 7])
@pytest.mark.parametrize(
    "values, kind, why",
    [
        ([str(i % 60) for i in range(100)], "integer", "whole numbers"),
        ([str(i) for i in range(100)], "identifier", "counts the rows"),
        ([str(i * 7) if i % 9 else None for i in range(100)], "integer", "12 missing"),
        ([f"{i}.25" for i in range(100)], "number", "2 decimals"),
        (["1", "2.5"] * 50, "number", "1 decimals"),
        (["1e-3", "2.5"] * 50, "number", "any precision"),
        (["29.0", "1.50"] * 50, "number", "1 decimals"),
        (["0.5"] * 99 + ["0.12345678901"], "number", "any precision"),
        (["0.1"] * 99 + ["12345.0000001"], "number", "7 decimals"),
        (["0", "7", None] * 40, "integer", "whole numbers"),
        (["5"] * 99 + ["07"], "category", "leading zeros"),
        (["True", "false"] * 50, "boolean", "only true and false"),
        (["2024-02-29", "1969-12-31"] * 50, "date", "dates"),
        (["2024-02-29 12:00", "2024-02-29 12:00:00.5"] * 50, "timestamp", "points in time"),
        (["2024-02-29T12:00:00Z", "2024-02-29T12:00:00+02:00"] * 50, "timestamp", "UTC"),
        (["red", "green"] * 50, "category", "2 different texts"),
        (MANY, "identifier", "nearly all differ"),
        (["01234", "99"] * 50, "category", "leading zeros"),
        ([str(2**64 + i) for i in range(100)], "identifier", "more than 18 digits"),
        (["1", "2", "3", "4"] * 30 + ["7+"] * 4, "category", "120 look like numbers"),
        (
            ["yes", "1", "2"] * 40,
            "category",
            "look like numbers or dates, but row 2 of f.csv does not",
        ),
    ],
)
def test_kinds_and_reasons(values: list[str | None], kind: str, why: str, pieces: int) -> None:
    field = infer_field(stats(values, pieces))
    assert field is not None and field.kind == kind and why in field.reason


def test_an_empty_column_has_no_kind() -> None:
    assert infer_field(stats([None] * 9)) is None


@pytest.mark.parametrize("at", [0, 499, 999])
@pytest.mark.parametrize("pieces", [1, 10])
def test_a_stray_word_is_an_error_wherever_it_stands(at: int, pieces: int) -> None:
    values = [str(i) for i in range(1000)]
    values[at] = "n.n."
    with pytest.raises(DataError, match=rf"1 of 1000 values.*'n\.n\.' in row {at + 2} of f\.csv"):
        infer_field(stats(values, pieces))


def test_a_target_of_few_numbers_is_a_choice() -> None:
    column = stats(["0", "1"] * 50)
    field = infer_field(column)
    assert field is not None and field.kind == "integer"
    field = infer_field(column, target=True)
    assert field is not None and field.kind == "category"


@pytest.mark.parametrize("distinct, error", [(10, 0.0), (1000, 0.0), (50_000, 0.1)])
def test_distinct_values_are_counted(distinct: int, error: float) -> None:
    column = stats([f"v{i % distinct}" for i in range(100_000)], pieces=9)
    assert abs(column.distinct - distinct) <= error * distinct


def test_statistics_merge_in_any_order() -> None:
    parts = [stats([f"{i}", "x", None, f"{i}.5"]) for i in range(20)]
    forward, backward = reduce(Column.merge, parts), reduce(Column.merge, parts[::-1])
    assert vars(forward).keys() == vars(backward).keys()
    for name, value in vars(forward).items():
        assert (value == vars(backward)[name]) if name != "sketch" else (value == backward.sketch).all()
