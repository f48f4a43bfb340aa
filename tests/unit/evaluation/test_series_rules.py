"""The report sees a high below its low, and an hour that does not go on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.evaluation.series import SeriesJudge
from genpipe.evaluation.series_rules import Rules
from genpipe.fields import Series
from genpipe.schema import Schema

NAMES = ("low", "high", "hour", "cloud")


def windows(rows: int, seed: int) -> np.ndarray:
    """(N, 12, 4)"""
    rng = np.random.default_rng(seed)
    low = rng.normal(0, 5, (rows, 1)) + rng.normal(0, 1, (rows, 12)).cumsum(1)
    hour = (rng.integers(0, 24, (rows, 1)) + np.arange(12)) % 24
    cloud = rng.integers(0, 9, (rows, 12))
    return np.stack([low, low + rng.exponential(0.3, low.shape), hour, cloud], -1)


def table(x: np.ndarray) -> pa.Table:
    return pa.table({name: list(x[..., c]) for c, name in enumerate(NAMES)})


def test_rules_are_those_of_all_windows_and_no_others() -> None:
    rules = Rules.of(windows(500, 0))
    assert rules.order == ((0, 1),) and set(rules.moves) == {2}
    assert rules.kept(windows(300, 1)) == 1.0
    assert Rules.of(windows(50, 0)).kept(windows(300, 1)) is None


def test_broken_windows_are_counted() -> None:
    """A fifth of the windows has one step out of order, a half one hour too many."""
    rules, x = Rules.of(windows(500, 0)), windows(400, 1)
    x[:80, 5, 1] = x[:80, 5, 0] - 0.1
    x[:200, 7, 2] = (x[:200, 7, 2] + 1) % 24
    assert rules.kept(x) == (0.8 + 0.5) / 2
    x[..., 2] += 0.5  # hours that there are not
    assert rules.kept(x) == 0.4


def test_the_judge_tells_it() -> None:
    schema = Schema(kind="series", fields=tuple(Series(name=n, length=12) for n in NAMES))
    judge, x = SeriesJudge(table(windows(500, 0)), schema), windows(400, 1)
    whole = judge.parts(judge.view(table(x)))
    x[:, 3, 2] = x[:, 4, 2]
    broken = judge.parts(judge.view(table(x)))
    assert whole["rules"] == 1.0 and broken["rules"] == 0.5
    assert all(abs(whole[n] - broken[n]) < 0.1 for n in ("values", "increments", "autocorrelation"))
