"""Digits after the point: by majority where the rest is the dust of arithmetic, else of all values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from genpipe.fields import Number
from genpipe.sources.columns import Column, Place, observe
from genpipe.sources.decimals import Digits, digits, repaired
from genpipe.sources.tabular.convert import convert_column
from genpipe.sources.tabular.infer import infer_field
from genpipe.sources.tabular.normalise import normalise

RNG = np.random.default_rng(0)
HERE = Place("made/up.csv", 2)


def settled(values: np.ndarray, pieces: int) -> tuple[int | None, int]:
    found = Digits()
    for piece in np.array_split(values, pieces):
        found = found.merge(digits(piece))
    return found.settled(len(values), float(np.abs(values).max()))


def some(usual: np.ndarray, other: np.ndarray, *, every: int = 40) -> np.ndarray:
    return np.where(np.arange(len(usual)) % every == 7, other, usual)


ROWS = 4000
DEGREES = np.round(RNG.uniform(30, 50, ROWS), 4)
AMOUNTS = np.round(RNG.uniform(1e6, 9e6, ROWS), 2)


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(
    ("values", "wanted", "dust"),
    [
        (DEGREES, 4, False),
        (some(DEGREES, DEGREES + 7.2e-15), 4, True),
        (some(DEGREES, DEGREES - 2e-11), 4, True),
        (some(AMOUNTS, AMOUNTS + 4.7e-10), 2, True),
        (np.round(RNG.uniform(1, 9, ROWS), 2) + np.round(RNG.uniform(1, 9, ROWS), 2), 2, True),
        (some(np.floor(DEGREES), np.floor(DEGREES) + 7.2e-15), 0, True),
        (some(np.round(DEGREES, 1), np.full(ROWS, 5.55e-17)), 1, True),
        (some(DEGREES, np.round(DEGREES + 1.3e-6, 6)), 6, False),  # finer, and written so
        (some(AMOUNTS, np.round(AMOUNTS + 0.00125, 5)), 5, False),
        (some(np.zeros(ROWS), RNG.random(ROWS)), None, False),  # rain on few days
        (some(np.zeros(ROWS), RNG.random(ROWS) * 1e-17), None, False),  # all there is, however small
        (some(np.round(RNG.random(ROWS), 3), 10.0 ** -RNG.uniform(4, 20, ROWS)), None, False),
        (RNG.random(ROWS), None, False),
    ],
)
def test_dust_tells_nothing_and_finer_values_do(
    values: np.ndarray, wanted: int | None, dust: bool, pieces: int
) -> None:
    found, dusty = settled(values, pieces)
    assert found == wanted and (dusty > 0) == dust
    if wanted is not None and dust:
        assert dusty == (values != np.round(values, wanted)).sum()
        assert np.array_equal(repaired(values, wanted), np.round(values, wanted))


def test_only_dust_is_repaired() -> None:
    values = np.array([1.25, 1.2500000000000002, 1.2512, 0.30000000000000004, 1e300, -1.1, 12345.6700012])
    assert repaired(values, 2).tolist() == [1.25, 1.25, 1.2512, 0.3, 1e300, -1.1, 12345.6700012]


@pytest.mark.parametrize("text", [True, False])
def test_a_column_with_dust_is_read_without_it_and_says_so(text: bool) -> None:
    values = pa.array([*some(DEGREES, DEGREES + 7.2e-15).tolist(), None])
    column, typed = observe("lat", values.cast(pa.string()) if text else values, HERE)
    field = infer_field(column)
    assert isinstance(field, Number) and field.decimals == 4
    assert f"dust of arithmetic in {ROWS // 40} of {ROWS}" in field.reason
    read = convert_column(typed, field, HERE).to_pylist()
    assert read == [*DEGREES.tolist(), None]


def test_numbers_of_32_bits_are_read_as_they_were_written() -> None:
    values = normalise(pa.array([*DEGREES.tolist(), None, float("nan")], pa.float32()), "lat", HERE)
    assert values.type == pa.float64() and values.to_pylist() == [*DEGREES.tolist(), None, None]


@pytest.mark.parametrize(
    ("small", "decimals"), [("1e-05", 5), ("2.5E-06", 7), ("1e-3", None), ("6.02e+23", None)]
)
def test_an_exponent_counts_digits_but_of_numbers_that_programs_write_so(
    small: str, decimals: int | None
) -> None:
    column, _ = observe("share", pa.array(["0.25", "0.5"] * 50 + [small]), HERE)
    field = infer_field(column)
    assert isinstance(field, Number) and field.decimals == decimals


def test_no_value_at_all_has_no_digits() -> None:
    assert Column("x").digits.settled(0, 0.0) == (0, 0)
