"""When steps are: what is usual, what is a gap, and that no window crosses one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from genpipe.fields import Number, Timestamp
from genpipe.sources import timing
from genpipe.sources.timing import Differences, Timing, parse_step
from genpipe.sources.windows import deal, uncovered

HOUR = 3.6e9
TIMES = Timing({"t": Timestamp(name="t")}, "t")


def usual(times: np.ndarray) -> Timing:
    found = Differences()
    found.add(None, times)
    return found.usual(TIMES)


def test_one_gap_among_few_steps_is_a_gap() -> None:
    hours = np.delete(np.arange(60.0), slice(20, 30)) * HOUR
    found = usual(np.random.default_rng(0).permutation(hours))
    assert (found.step, found.usual) == (HOUR, HOUR) and found.gap(None) == 1.5 * HOUR
    assert found.uneven == 1 / 49


def test_weekends_are_no_gaps_unless_a_step_is_said() -> None:
    days = np.arange(1000.0)
    found = usual(days[days % 7 < 5] * 24 * HOUR)
    assert found.step == 24 * HOUR and found.usual == 72 * HOUR
    assert found.gap(None) > 72 * HOUR > found.gap("1d") == 36 * HOUR


def test_entities_are_apart_and_equal_times_and_missing_ones_are_no_step() -> None:
    found = Differences()
    found.add(pa.array(["a", "b", "a", "b", "a"]), np.array([0.0, 1000.0, 2.0, 1002.0, np.nan]))
    assert found.usual(TIMES).step == 2.0
    assert Differences().usual(TIMES) == TIMES


def test_of_many_rows_whole_entities_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SAMPLE", 1000)
    found, names = Differences(), pa.array([f"e{i % 100}" for i in range(500)])
    for block in range(20):
        found.add(names, np.repeat(np.arange(5.0), 100) + 5 * block)
        assert found.rows <= 1500
    assert found.mask and found.usual(TIMES).uneven == 0 and found.usual(TIMES).step == 1


@pytest.mark.parametrize(("said", "number"), [("15min", 900), ("1 h", 3600), (0.5, 0.5), ("2d", 172_800)])
def test_steps_are_read_as_people_write_them(said: str | float, number: float) -> None:
    assert parse_step(said) == number


def test_a_step_of_numbers_is_in_their_unit() -> None:
    assert Timing({"t": Number(name="t")}, "t").gap(2) == 3 and Timing({}, None).gap("1h") == np.inf


@pytest.mark.parametrize("whole", [True, False])
def test_no_window_crosses_a_break_or_a_name(whole: bool) -> None:
    names = np.repeat(np.array([5, 9], np.uint64), [100, 60])
    breaks = np.array([30, 33, 120])
    begins, keys = deal(names, breaks, 8, 3, whole=whole)
    for begin in begins:
        inside = range(begin + 1, begin + 8)
        assert names[begin] == names[begin + 7] and not set(inside) & set(breaks)
    assert len(np.unique(keys)) == 2 if whole else len(np.unique(keys)) > 4
    assert uncovered(begins, 8, 160) == 160 - len({r for b in begins for r in range(b, b + 8)})
    for key in np.unique(keys):  # what is dealt to one split shares no row with another
        mine = {r for b in begins[keys == key] for r in range(b, b + 8)}
        assert not mine & {r for b in begins[keys != key] for r in range(b, b + 8)}
