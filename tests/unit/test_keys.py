"""Row keys: equal for equal values wherever they lie, different otherwise, and uniform."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from genpipe.fields import BLOB
from genpipe.keys import Occurrences, column_keys, holdout_mask, row_keys, spread_mask

WORDS = ["", "a", "b", "ab", "ba", "abcdefgh", "abcdefghi", "x" * 64, "x" * 65, "é", None]


def test_a_key_depends_on_the_value_alone() -> None:
    column = pa.array(WORDS * 2)
    keys = column_keys(column)
    assert np.array_equal(keys[: len(WORDS)], keys[len(WORDS) :])
    assert len(set(keys.tolist())) == len(WORDS)
    assert np.array_equal(column_keys(column.slice(3, 9)), keys[3:12])
    alone = [int(column_keys(pa.array([w], pa.string()))[0]) for w in WORDS]
    assert alone == keys[: len(WORDS)].tolist()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2, 3, None]),
        pa.array([0.5, 1.5, -1.5, None]),
        pa.array([True, False, None]),
        pa.array([1, 2, None], pa.date32()),
        pa.array([1, 2, None], pa.timestamp("us")),
        pa.array([{"bytes": b"1", "path": "a"}, {"bytes": b"2", "path": "a"}], BLOB),
        pa.array([[1.0, 2.0], [2.0, 1.0]]),
    ],
)
def test_different_values_have_different_keys(values: pa.Array) -> None:
    assert len(set(column_keys(values).tolist())) == len(values)


def test_what_counts_as_equal() -> None:
    zeros = column_keys(pa.array([0.0, -0.0]))
    assert zeros[0] == zeros[1]
    copies = column_keys(pa.array([{"bytes": b"1", "path": "a"}, {"bytes": b"1", "path": "b"}], BLOB))
    assert copies[0] == copies[1]


def test_a_row_is_more_than_the_set_of_its_values() -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1, 2], "b": [2, 1]})
    keys = row_keys(batch)
    assert keys[0] != keys[1]
    assert np.array_equal(row_keys(batch, ("a",)), row_keys(batch.select(["a"])))


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string()])
def test_rows_of_few_values_do_not_collide(kind: pa.DataType) -> None:
    a, b, c = (pa.array(x.ravel()).cast(kind) for x in np.mgrid[:50, :50, -25:25])
    keys = row_keys(pa.RecordBatch.from_arrays([a, b, c], names=["a", "b", "c"]))
    assert len(np.unique(keys)) == len(keys)
    assert abs(holdout_mask(keys, 0.2).mean() - 0.2) < 0.005


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.9])
def test_the_holdout_has_its_share(share: float) -> None:
    held = holdout_mask(column_keys(pa.array(range(100_000))), share)
    assert abs(held.mean() - share) < 0.005


def test_a_column_without_a_value_has_one_key() -> None:
    assert len(np.unique(column_keys(pa.nulls(3)))) == 1
    assert column_keys(pa.nulls(3))[0] == column_keys(pa.array([None, "a"]))[0]


@pytest.mark.parametrize("repeats", [1, 2, 7, 900])
def test_equal_rows_are_spread_over_the_splits_in_the_share_asked_for(repeats: int) -> None:
    keys = np.repeat(column_keys(pa.array(range(2000 // repeats + 1))), repeats)
    seen = Occurrences()
    numbers = np.concatenate([seen.number(part) for part in np.array_split(keys, 5)])
    assert numbers.max() == repeats - 1
    held = spread_mask(keys, numbers, 0.2)
    for key in np.unique(keys):
        assert abs(held[keys == key].sum() - 0.2 * repeats) < 1
    first = numbers == 0
    np.testing.assert_array_equal(held[first], holdout_mask(keys[first], 0.2))


def test_past_the_keys_it_remembers_no_two_rows_share_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genpipe.keys.MOST_KEYS", 3)
    seen = Occurrences()
    keys = np.array([5, 5, 6, 7, 8, 8, 8, 5, 9, 9], np.uint64)
    numbers = np.concatenate([seen.number(part) for part in np.array_split(np.tile(keys, 3), 6)])
    for key in np.unique(keys):
        of = numbers[np.tile(keys, 3) == key]
        assert len(set(of.tolist())) == len(of)
