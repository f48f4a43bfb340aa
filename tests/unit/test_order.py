"""What is published of the column that orders rows: no end and no step that only few reach."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import LEAST
from genpipe.fields import Date, Number, Timestamp
from genpipe.related.order import ordered

DAY = np.arange(0, 3000, 10)


def ten(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows in the order of thirty parents and of themselves, the parent of each)."""
    who = np.arange(len(rows)) % 30
    at = np.lexsort((rows, who))
    return rows[at], who[at]


@pytest.mark.parametrize("field", [Date(name="d"), Number(name="d", decimals=1)])
def test_one_that_lies_far_out_is_told_by_no_limit_and_no_step(field: Date | Number) -> None:
    days = DAY.copy()
    days[0], days[-1] = -5000, 9999  # one person's
    rows, who = ten(days)
    column = pa.chunked_array([pa.array(rows.astype(np.int32)).cast(field.arrow())])
    order, clipped, (learnt, steps) = ordered(field, column, who, who)
    assert -200 < order.low <= 50 and 2940 <= order.high < 3200
    ticks = order.ticks(clipped)
    assert ticks.min() == order.low and ticks.max() == order.high
    again = order.low + np.cumsum(steps.to_numpy() * 1.0)[who == 0]
    assert learnt.minimum == 0 and again == pytest.approx(ticks[who == 0])
    longest = [np.diff(ticks[who == n]).max() for n in range(30)]
    assert 0.9 * np.sort(longest)[-LEAST] <= order.widest <= np.sort(longest)[-LEAST]


def test_what_many_reach_is_exact_and_times_keep_their_grid() -> None:
    minute = 60_000_000
    ticks, who = ten(np.minimum(DAY, 2900) * minute + 7)
    order, _, _ = ordered(
        Timestamp(name="t"), pa.chunked_array([pa.array(ticks).cast(pa.timestamp("us"))]), who, who
    )
    assert order.high == 2900 * minute + 7
    assert (order.low - 7) % (10 * minute) == 0 and order.low <= ticks.min()


def test_of_few_the_range_is_told_roughly() -> None:
    column, one = pa.chunked_array([pa.array([3, 700], pa.int32()).cast(pa.date32())]), np.array([0, 0])
    order = ordered(Date(name="d"), column, one, one)[0]
    assert (order.low, order.high, order.widest) == (0, 1024, 0)
