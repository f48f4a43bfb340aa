"""Rows that are referred to: alike in what the context decides, and as often as they are popular."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from genpipe.errors import UsageError
from genpipe.fields import Category, Integer, Number
from genpipe.related.flatten import Related, described
from genpipe.related.match import Chooser
from genpipe.related.match_columns import with_likeness
from genpipe.related.nodes import Node, Reference
from genpipe.related.shelf import Shelf

POPULAR = "goods.named by items.good"


def shelf(
    kinds: list[str | None],
    prices: np.ndarray,
    popular: np.ndarray,
    *likeness: tuple[str, float],
    **more: bool,
) -> Shelf:
    handed = pa.table({"goods.kind": kinds, "goods.price": prices, POPULAR: popular})
    fields = (
        Category(name="good.goods.kind"),
        Number(name="good.goods.price"),
        Integer(name=f"good.{POPULAR}"),
    )
    options = {"nullable": False} | more
    named = tuple((f"good.{name}", score) for name, score in likeness)
    reference = Reference(column="good", table="goods", fields=fields, likeness=named, **options)
    return Shelf(pa.table({"key": np.arange(len(kinds))}), handed, reference, POPULAR)


def wanted(kinds: list[str | None], prices: np.ndarray | None = None) -> pa.Table:
    prices = np.zeros(len(kinds)) if prices is None else prices
    absent = pa.array([k is None for k in kinds])
    return pa.table({"good.goods.kind": kinds, "good.goods.price": prices, "good is missing": absent})


def choose(found: Chooser, drawn: pa.Table) -> np.ndarray:
    return found.choose(drawn, np.arange(drawn.num_rows)).to_numpy(zero_copy_only=False)


def test_each_row_has_its_share_of_the_choices_over_all_calls() -> None:
    popular = np.random.default_rng(0).integers(0, 40, 300)
    goods = shelf(["a"] * 300, np.zeros(300), popular)
    found = Chooser(goods, 1)
    rows = np.concatenate([choose(found, wanted(["a"] * 777)) for _ in range(6)])
    expected = popular / popular.sum() * len(rows)
    assert np.abs(np.bincount(rows, minlength=300) - expected).max() < 4  # by chance some differ by 20
    assert (
        rows
        == np.concatenate([choose(f, wanted(["a"] * 777)) for f in [Chooser(goods, 1)] for _ in range(6)])
    ).all()
    pairs = np.stack([rows[:-1], rows[1:]]) % 2  # neighbours tell nothing of each other
    assert abs(np.corrcoef(pairs)[0, 1]) < 0.05


def test_a_choice_is_met_exactly_and_a_number_nearly() -> None:
    kinds, prices = ["a", "b", "c", None] * 100, np.arange(400.0)
    goods = shelf(kinds, prices, np.ones(400), ("goods.kind", 0.9), ("goods.price", 0.3))
    asked = np.array(["a", "b", "c"] * 90)
    near = np.random.default_rng(0).uniform(0, 400, 270)
    rows = choose(Chooser(goods, 0), wanted(list(asked), near))
    assert (np.array(kinds)[rows] == asked).all() and np.abs(prices[rows] - near).max() < 30
    unknown = choose(Chooser(goods, 0), wanted(["z"] * 400))  # any, then
    assert np.bincount(unknown, minlength=400).max() <= 3


def test_one_row_alone_is_named_only_where_the_context_decides() -> None:
    kinds = ["a"] * 40 + ["b"]
    for score, alone in ((0.9, True), (0.1, False)):
        goods = shelf(kinds, np.zeros(41), np.ones(41), ("goods.kind", score))
        rows = choose(Chooser(goods, 0), wanted(["b"] * 100))
        assert (rows == 40).all() == alone and alone == (len(set(rows)) == 1)


def test_missing_stays_missing_and_nothing_popular_is_all_alike() -> None:
    goods = shelf(["a"] * 5, np.zeros(5), np.zeros(5, int), nullable=True)
    rows = Chooser(goods, 0).choose(wanted(["a", None] * 50), np.arange(100))
    assert rows.is_null().to_pylist() == [False, True] * 50 and len(set(rows.drop_null().to_pylist())) == 5
    flat = described(goods.reference, goods.handed, rows)
    assert (
        flat["good is missing"].to_pylist() == [False, True] * 50 and flat["good.goods.kind"].null_count == 50
    )


def test_no_parent_names_a_row_twice_nor_itself() -> None:
    goods = shelf(
        ["a", "b"] * 4, np.zeros(8), np.array([90, 1, 1, 1, 1, 1, 1, 1]), ("goods.kind", 0.9), distinct=True
    )
    found = Chooser(goods, 0, own=np.arange(6) % 8)
    rows = np.stack([choose(found, wanted(["a"] * 6)) for _ in range(7)])
    for parent in range(6):
        assert sorted({*rows[:, parent], parent}) == list(range(8))
    with pytest.raises(
        UsageError, match=r"references.good: a parent whose rows name all 8 of 'goods' already"
    ):
        choose(found, wanted(["a"] * 6))


def test_likeness_is_what_the_context_decides_and_no_more() -> None:
    rng = np.random.default_rng(0)
    segment = rng.integers(0, 3, 5000)
    kind = np.where(rng.random(5000) < 0.8, segment, rng.integers(0, 3, 5000))
    columns = {
        "good.goods.noise": pa.array(rng.choice(list("pqrs"), 5000)),
        "good.goods.price": pa.array(kind * 10 + rng.random(5000)),  # tells of the segment through the kind
        "good.goods.kind": pa.array(np.array(["a", "b", "c"])[kind]),
    }
    fields = (
        Category(name="good.goods.noise"), Number(name="good.goods.price"), Category(name="good.goods.kind"),
    )  # fmt: skip
    reference = Reference(column="good", table="goods", nullable=False, fields=fields)
    node = Node(
        name="items", parent=None, schema_=None, key=(), link=(), order=None, children=(), rows=5000,
        own=(Integer(name="own"),), references=(reference,),
    )  # fmt: skip
    own = pa.table({"own": segment})
    told = pa.table({"customers.segment": pa.array(np.array(["x", "y", "z"])[segment]), **columns})
    held, rows = np.zeros(5000, bool), np.arange(5000)
    related = Related(node, own, rows, held, pa.table({}), rows, rows, told)
    found = with_likeness(related).references[0].likeness
    assert [name for name, _ in found] == ["good.goods.kind"] and 0.3 < found[0][1] < 0.9
    alone = Related(node, own, rows, held, pa.table({}), rows, rows, told.drop_columns(["customers.segment"]))
    assert with_likeness(alone).references[0].likeness == ()
