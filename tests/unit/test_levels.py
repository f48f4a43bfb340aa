"""Rows that name rows of their own table: how many are above, how many a level gets, what may be told."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from genpipe.fields import Category, Number
from genpipe.related.crowded import crowded
from genpipe.related.flatten import Related
from genpipe.related.grow import spread
from genpipe.related.levels import _inherited, levels_of, share_of, sizes_of
from genpipe.related.match import Chooser
from genpipe.related.nodes import Node, Reference
from genpipe.related.shelf import KIN, Shelf


def test_how_many_are_above_each() -> None:
    assert levels_of(np.array([-1, 0, 1, 1, 4, 4])).tolist() == [0, 1, 2, 2, 0, 1]
    assert levels_of(np.array([-1, 2, 1, 1, 0])).tolist() == [0, -1, -1, -1, 1]
    chain = np.arange(-1, 999)
    assert levels_of(chain).tolist() == list(range(1000))
    shuffled = np.random.default_rng(0).permutation(1000)
    named = np.full(1000, -1)
    named[shuffled[1:]] = shuffled[:-1]
    assert levels_of(named)[shuffled].tolist() == list(range(1000))
    assert levels_of(np.roll(np.arange(1000), 1)).max() == -1


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100, 1999, 2000, 12345])
def test_levels_have_their_share_and_no_row_is_without_one_above(rows: int) -> None:
    levels = (8, 82, 499, 1411)
    sizes = sizes_of(levels, rows)
    assert sum(sizes) == rows and min(sizes) > 0
    if rows >= 2000:
        assert np.abs(np.array(sizes) / rows - np.array(levels) / 2000).max() < 0.002
    cuts = [share_of(sizes, start, min(start + 3, sizes[0])) for start in range(0, sizes[0], 3)]
    assert sum(sum(cut) for cut in cuts) == rows and all(min(cut) > 0 for cut in cuts)


def test_rows_are_named_as_often_as_their_weight_says() -> None:
    rng = np.random.default_rng(0)
    weights = rng.poisson(2, 50)
    named = np.bincount(spread(weights, 2 * weights.sum(), 0.3), minlength=50)
    assert np.abs(named - 2 * weights).max() <= 1 and named.sum() == 2 * weights.sum()
    assert np.bincount(spread(np.zeros(5), 10, 0.9), minlength=5).tolist() == [2] * 5
    assert len(spread(np.array([1, 0, 0]), 4, 0.5)) == 4 and spread(np.array([1, 0, 0]), 4, 0.5).max() == 0


def people(pay: np.ndarray, unit: list[str]) -> Related:
    fields = (Number(name="pay"), Category(name="unit"))
    rows, own = np.arange(len(pay)), pa.table({"pay": pay, "unit": unit})
    node = Node(
        name="staff", parent=None, schema_=None, key=(), link=(), order=None, own=fields, children=(),
        rows=len(pay),
    )  # fmt: skip
    return Related(node, own, rows, rows < 0, pa.table({}), rows, rows, pa.table({}))


def test_what_fewer_than_five_have_is_not_told() -> None:
    pay = np.r_[np.full(20, 100.0), np.linspace(200, 300, 30)]
    unit = ["many"] * 46 + ["four"] * 4
    named = np.r_[np.repeat(np.arange(50), 9), -1]
    told = crowded(people(pay, unit), named)
    found = told["staff.pay"].to_numpy()
    assert np.isnan(found[-1]) and (found[: 20 * 9] == 100).all()
    rare = found[20 * 9 : -1]
    assert not np.isin(rare, pay).any() and np.abs(rare - np.repeat(pay[20:], 9)).max() < 15
    assert len(np.unique(rare)) == len(rare)  # a mean of five would come again and again
    units = told["staff.unit"].to_pylist()
    assert units[: 46 * 9] == ["many"] * 46 * 9 and set(units[46 * 9 :]) == {None}
    few = crowded(people(np.array([1.0, 2.0, 3.0, 4.0]), ["a"] * 4), np.zeros(3, int))
    assert few["staff.pay"].null_count == 3


def shelf(*, kin: bool) -> Shelf:
    """Forty rows of ten families, in turn; nobody names those of family 9."""
    family = np.arange(40) % 10
    handed = pa.table({KIN: family, "t.named by t.up": np.where(family < 9, 1.0, 0.0)})
    reference = Reference(
        column="up", table="t", nullable=True, fields=(), late=True, near=float(kin), before=True
    )
    return Shelf(pa.table({"key": np.arange(40)}), handed, reference, "t.named by t.up", kin=kin)


def test_only_rows_of_the_family_and_before() -> None:
    own = np.repeat(np.arange(40), 5)
    drawn = pa.table({"up is missing": np.zeros(200, bool), f"up.{KIN}": own % 10})
    rows = Chooser(shelf(kin=True), 0).choose(drawn, np.arange(200), own)
    chosen = rows.fill_null(-1).to_numpy(zero_copy_only=False)
    there = chosen >= 0
    assert (there == (own >= 10)).all()  # the first of a family has none before it
    assert (chosen[there] < own[there]).all() and (chosen[there] % 10 == own[there] % 10).all()
    any_ = Chooser(shelf(kin=False), 0).choose(drawn, np.arange(200), own)
    chosen = any_.fill_null(-1).to_numpy(zero_copy_only=False)
    assert (chosen < own).all() and (chosen[own > 0] >= 0).all() and not (chosen % 10 == 9)[own > 0].any()


def test_shares_of_what_is_handed_on_are_rounded_to_fives() -> None:
    """Of a level 22 rows name one of the law and 38 one of the war: as if it were 20 and 40."""
    heads = np.full(20, -1)
    named = np.r_[heads, np.arange(22) % 5, 10 + np.arange(38) % 6]
    unit = ["law"] * 10 + ["war"] * 10 + ["law"] * 22 + ["war"] * 38
    related = people(np.ones(len(named)), unit)
    told = _inherited(related, crowded(related, named), named, levels_of(named), 2)
    assert told == ("unit", ((("law", 0.333), ("war", 0.667)),))


def test_what_few_superiors_have_is_not_told_however_many_report_to_them() -> None:
    """All of level 1 name the head, whose unit is the head's alone; level 2 names twelve."""
    named = np.r_[-1, np.zeros(12, int), 1 + np.arange(120) % 12]
    units = ["law"] * 5 + ["war"] * 7
    unit = ["war", *units, *(units[i % 12] for i in range(120))]
    related = people(np.ones(len(named)), unit)
    told = _inherited(related, crowded(related, named), named, levels_of(named), 3)
    assert told
    first, second = (dict(shares) for shares in told[1])
    assert first.keys() == second.keys() == {"law", "war"}, "not the head's alone, but what all are told"
    few = np.r_[np.full(4, -1), np.arange(60) % 4]
    related = people(np.ones(len(few)), ["law", "war", "law", "war"] * 16)
    told = _inherited(related, crowded(related, few), few, levels_of(few), 2)
    assert told and told[1] == ((),)
