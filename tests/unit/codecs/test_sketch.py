"""Exact merging, and hashes that do not depend on where in a buffer a row lies."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs import sketch
from genpipe.codecs.sketch import Sample, Tally, hash_rows, quantiles, to_numpy

COLUMNS = {
    "strings": pa.array(["a", "", "ab", None, "é" * 40, "ba"]),
    "floats": pa.array([1.5, None, 0.0, -0.0, float("nan"), 1e300]),
    "integers": pa.array([1, 2, None, 2**62, -5, 0]),
    "booleans": pa.array([True, False, None, True, True, False]),
    "times": pa.array([0, 1, -1, None, 5, 6], pa.timestamp("ns", "UTC")),
    "lists": pa.array([[1.0, 2.0], [], None, [2.0, 1.0], [0.0], [None]], pa.list_(pa.float64())),
    "blobs": pa.array([{"bytes": b, "path": None} for b in (b"a", b"", b"b", b"ab", b"c", b"d")]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_hash_depends_on_the_row_alone(name: str) -> None:
    column = COLUMNS[name]
    whole = hash_rows([column], 6)
    for i in range(6):
        assert hash_rows([column.slice(i, 1)], 1)[0] == whole[i]
    assert (hash_rows([column.slice(2, 3)], 3) == whole[2:5]).all()
    assert (hash_rows([column.take(pa.array([5, 0, 3]))], 3) == whole[[5, 0, 3]]).all()
    assert len(hash_rows([column.slice(0, 0)], 0)) == 0
    assert whole[0] != whole[1]


def test_equal_numbers_have_equal_hashes_and_different_rows_do_not() -> None:
    floats = hash_rows([COLUMNS["floats"]], 6)
    assert floats[2] == floats[3]
    strings = hash_rows([pa.array([f"u{i}" for i in range(100_000)])], 100_000)
    assert len(np.unique(strings)) == 100_000
    one, two = pa.array(["a", "b"]), pa.array(["b", "a"])
    assert len({*hash_rows([one, two], 2), *hash_rows([two, one], 2)}) == 2
    assert len({*hash_rows([one, one], 2), *hash_rows([two, one], 2)}) == 4


def test_the_sample_is_uniform_over_rows_and_keeps_exact_multiplicities() -> None:
    values = np.concatenate([np.arange(20_000), np.repeat(np.arange(50), 9)])
    hashes = hash_rows([pa.array(values)], len(values))
    sample = Sample.of(hashes, {"v": values}, size=2_000)
    assert len(sample.hashes) == 2_000
    assert (sample.weights == np.where(sample.payload["v"] < 50, 10, 1)).all()
    assert abs(sample.payload["v"].mean() / 20_000 - 0.5) < 4 * 0.2887 / np.sqrt(2_000)


def test_a_tally_gives_up_for_good_beyond_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "EXACT_DISTINCT", 5)
    few, more = Tally.of(np.array([1, 1, 2])), Tally.of(np.array([3, 4, 5, 6]))
    assert few.merge(few).counts is not None and few.merge(few).counts.tolist() == [4, 2]
    assert few.merge(more).values is None
    assert few.merge(more).merge(few).values is None
    assert few.merge(few.merge(more)).values is None


def test_quantiles_of_repeated_values_equal_those_of_the_written_out_list() -> None:
    rng = np.random.default_rng(0)
    values, counts = np.sort(rng.normal(size=20_000)), rng.integers(1, 9, 20_000)
    levels = np.linspace(0.05, 0.95, 19)
    expected = np.quantile(np.repeat(values, counts), levels, method="hazen")
    assert np.abs(quantiles(values, counts, levels) - expected).max() < 0.05


def test_whole_numbers_and_times_never_pass_through_floats_or_nanoseconds() -> None:
    early = pa.array([-(2**62) - 1, None], pa.timestamp("s"))  # overflows nanoseconds by far
    values, valid = to_numpy(early)
    assert values.tolist() == [-(2**62) - 1, 0] and valid.tolist() == [True, False]
    assert to_numpy(pa.array([2**53 + 1]))[0].tolist() == [2**53 + 1]
