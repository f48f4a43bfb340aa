"""Constraints and dependencies of tables: any codes decode to rows that hold them, in both layouts."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genpipe.codecs.base import CodecConfig, Stats, fit
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.codecs.tabular.dependencies import proven
from genpipe.errors import DataError, UsageError
from genpipe.fields import AnyField, Boolean, Category, Date, Integer, Number, Timestamp
from genpipe.schema import Schema

ROWS = 600
SHOP = (
    {"type": "inequality", "low": "ordered", "high": "sent"},
    {"type": "inequality", "low": "sent", "high": "paid", "strict": True},
    {"type": "inequality", "low": "opened", "high": "closed"},
    {"type": "inequality", "low": "cost", "high": "price", "strict": True},
    {"type": "inequality", "low": "least", "high": "most"},
    {"type": "sum", "total": "total", "parts": ["net", "tax", "items"]},
    {"type": "combinations", "columns": ["city", "state", "zone"]},
    {"type": "one_to_one", "columns": ["number", "word"]},
    {"type": "determines", "columns": ["city"], "target": "mayor"},
    {"type": "determines", "columns": ["colour", "size"], "target": "code"},
)


def table(
    columns: Mapping[AnyField, Any], constraints: Any = (), target: str | None = None
) -> pa.RecordBatch:
    schema = Schema(kind="tabular", fields=tuple(columns), constraints=constraints, target=target)
    arrays = [v if isinstance(v, pa.Array) else pa.array(v, f.arrow()) for f, v in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())


def fitted(batch: pa.RecordBatch, pieces: int = 1, **config: Any) -> TabularCodec:
    schema, cuts = Schema.from_arrow(batch.schema), np.linspace(0, batch.num_rows, pieces + 1).astype(int)
    parts = [batch.slice(a, b - a) for a, b in pairwise(cuts)]
    rare = {"rare": "protect" if "rare_below" in config else "keep"}
    made = fit(TabularCodec, schema, parts, CodecConfig(**rare | config))
    assert isinstance(made, TabularCodec)
    return made


def shop() -> pa.RecordBatch:
    rng = np.random.default_rng(0)

    def absent() -> np.ndarray:
        return rng.random(ROWS) < 0.15

    def dates(days: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
        return pa.array(days.astype(np.int32), mask=mask).cast(pa.date32())

    ordered = rng.integers(15_000, 15_400, ROWS)
    sent = ordered + rng.integers(0, 9, ROWS)
    opened = rng.integers(0, 2**40, ROWS)
    cost = np.round(rng.lognormal(2, 1, ROWS), 2)
    net, tax = np.round(rng.lognormal(3, 1, ROWS), 2), np.round(rng.lognormal(1, 1, ROWS), 2)
    items, place, word = rng.integers(0, 9, ROWS), rng.integers(0, 7, ROWS), rng.integers(0, 8, ROWS)
    colour, size = rng.integers(0, 4, ROWS), rng.integers(0, 3, ROWS)
    cities = np.array(["Bonn", "Köln", "Paris", "Nice", "Lyon", "Oslo", 'a "b"'], dtype=object)[place]
    moment = pa.timestamp("us", "Europe/Paris")
    return table(
        {
            Date(name="ordered", nullable=True): dates(ordered, absent()),
            Date(name="sent", nullable=True): dates(sent, absent()),
            Date(name="paid"): dates(sent + rng.integers(1, 90, ROWS)),
            Timestamp(name="opened", timezone="Europe/Paris"): pa.array(opened).cast(moment),
            Timestamp(name="closed", timezone="Europe/Paris", nullable=True): pa.array(
                opened + rng.integers(0, 10**6, ROWS) * 60, mask=absent()
            ).cast(moment),
            Number(name="cost", decimals=2): cost,
            Number(name="price", decimals=1, maximum=200.0): np.minimum(np.ceil(cost * 12.001) / 10, 200.0),
            Number(name="least", nullable=True): pa.array(cost * np.pi, mask=absent()),
            Number(name="most"): cost * np.pi + rng.exponential(size=ROWS),
            Number(name="net", decimals=2): net,
            Number(name="tax", decimals=2, nullable=True): pa.array(tax, mask=absent()),
            Integer(name="items"): items,
            Number(name="total", decimals=2): np.round(net + tax + items, 2),
            Category(name="city"): cities,
            Category(name="state", nullable=True): [["NRW", "NRW", None][min(p, 2)] for p in place],
            Integer(name="zone"): place // 2,
            Integer(name="number"): 100 - word * 7,
            Category(name="word", nullable=True): [None if w == 3 else f"word{w}" for w in word],
            Category(name="mayor"): [f"M{p // 3}" for p in place],
            Category(name="colour"): np.array(list("rgbw"))[colour],
            Boolean(name="size"): size == 1,
            Integer(name="code"): colour * 3 + (size == 1),
            Category(name="label"): np.array(["yes", "no"])[rng.integers(0, 2, ROWS)],
        },
        SHOP,
        "label",
    )


@cache
def shop_codec() -> tuple[pa.RecordBatch, TabularCodec]:
    batch = shop()
    return batch, fitted(batch, bins=20)


def random_arrays(codec: TabularCodec, layout: str, seed: int, rows: int = 500) -> dict[str, np.ndarray]:
    spec, rng = codec.spec(layout), np.random.default_rng(seed)
    if layout == "tokens":
        x = rng.integers(-1, np.array(spec.vocabulary) + 1, (rows, *spec.shape)).astype(np.int32)
    else:
        x = rng.normal(size=(rows, *spec.shape)).astype(np.float32) * rng.choice([0.1, 1.0, 10.0])
    return {"x": x, "condition": codec.draw_conditions(rows, rng)}


def decoded(codec: TabularCodec, layout: str, seed: int) -> pd.DataFrame:
    batch = codec.decode(random_arrays(codec, layout, seed), layout, np.random.default_rng(seed))
    assert all(held.all() for held in codec.relations.holds(batch).values())
    for field in codec.schema.fields:
        assert field.nullable or batch.column(field.name).null_count == 0, field.name
    return batch.to_pandas()


@pytest.mark.parametrize("layout", ["tokens", "vector"])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_any_codes_hold_every_constraint(layout: str, seed: int) -> None:
    batch, codec = shop_codec()
    real, made = batch.to_pandas(), decoded(codec, layout, seed)
    for low, high, strict in (("ordered", "sent", 0), ("sent", "paid", 1), ("opened", "closed", 0),
                              ("cost", "price", 1), ("least", "most", 0)):  # fmt: skip
        both = made[[low, high]].dropna()
        assert ((both[low] < both[high]) if strict else (both[low] <= both[high])).all(), (low, high)
    assert made.price.max() <= 200 and (made.price.round(1) == made.price).all()
    whole = made.dropna(subset=["tax"])
    assert (whole.total == (whole.net + whole.tax + whole["items"]).round(2)).all()
    for columns in (
        ["city", "state", "zone"],
        ["number", "word"],
        ["city", "mayor"],
        ["colour", "size", "code"],
    ):
        seen = set(real[columns].astype(object).fillna("").itertuples(index=False, name=None))
        assert set(made[columns].astype(object).fillna("").itertuples(index=False, name=None)) <= seen


@pytest.mark.parametrize("layout", ["tokens", "vector"])
def test_the_way_there_and_back_stays_within_the_tolerance(layout: str) -> None:
    batch, codec = shop_codec()
    back = codec.decode(codec.encode(batch, layout), layout, np.random.default_rng(0))
    allowed = codec.tolerance(layout)
    assert set(allowed) == set(batch.schema.names)
    for name in batch.schema.names:
        was, now = batch.column(name), back.column(name)
        assert was.is_null().equals(now.is_null()), name
        if allowed[name] == 0:
            assert now.equals(was), name
        elif pa.types.is_floating(was.type):
            error = np.abs(was.to_numpy(zero_copy_only=False) - now.to_numpy(zero_copy_only=False))
            assert np.nanmax(error) <= allowed[name], name
    exact = {"city", "state", "zone", "number", "word", "mayor", "colour", "size", "code"}
    assert all(allowed[name] == 0 for name in exact)


@pytest.mark.parametrize("pieces", [2, 7, 60])
def test_any_partition_gives_the_same_codec(pieces: int) -> None:
    batch, whole = shop_codec()
    assert json.dumps(fitted(batch, pieces, bins=20).to_json()) == json.dumps(whole.to_json())
    schema, config = Schema.from_arrow(batch.schema), CodecConfig(bins=20, rare="keep")
    seen: list[Stats] = [TabularCodec.observe(batch.slice(i, 50), schema, config) for i in range(0, ROWS, 50)]
    order = np.random.default_rng(1).permutation(len(seen))
    merged = seen[order[0]]
    for i in order[1:]:
        merged = merged.merge(seen[i])
    assert TabularCodec.build(schema, merged, config).to_json() == whole.to_json()


def test_the_codec_survives_json() -> None:
    batch, codec = shop_codec()
    text = json.dumps(codec.to_json(), sort_keys=True)
    read = TabularCodec.from_json(codec.schema, json.loads(text))
    assert json.dumps(read.to_json(), sort_keys=True) == text
    for layout in codec.layouts:
        arrays = random_arrays(codec, layout, 3)
        one, other = (c.decode(arrays, layout, np.random.default_rng(0)) for c in (codec, read))
        assert one.equals(other)
        assert np.array_equal(read.encode(batch, layout)["x"], codec.encode(batch, layout)["x"])


def test_a_codec_of_before_constraints_is_read() -> None:
    codec = fitted(table({Integer(name="n"): [1, 2, 3]}))
    old = {key: value for key, value in codec.to_json().items() if key != "relations"}
    assert TabularCodec.from_json(codec.schema, old).to_json() == codec.to_json()


def test_columns_that_data_does_not_need_cost_nothing() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 50, 200)
    parts = rng.integers(0, 9, (2, 200))
    codec = fitted(
        table(
            {Integer(name="low"): low, Integer(name="high"): low + rng.integers(0, 9, 200),
             Integer(name="a"): parts[0], Integer(name="b"): parts[1], Integer(name="all"): parts.sum(0)},
            [{"type": "inequality", "low": "low", "high": "high"},
             {"type": "sum", "total": "all", "parts": ["a", "b"]}],
        )
    )  # fmt: skip
    assert [c.field.name for c in codec.learnt] == ["low", "high beyond low", "a", "b"]


def test_a_learnt_difference_keeps_short_durations_of_long_histories() -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(0, 10**9, 2_000)
    end = start + rng.integers(1, 600, 2_000)
    batch = table(
        {Timestamp(name="start", unit="s"): pa.array(start).cast(pa.timestamp("s")),
         Timestamp(name="end", unit="s"): pa.array(end).cast(pa.timestamp("s"))},
        [{"type": "inequality", "low": "start", "high": "end"}],
    )  # fmt: skip
    codec = fitted(batch)
    made = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0)).to_pandas()
    assert (made.end - made.start).max() <= pd.Timedelta(seconds=600)


def test_extreme_whole_numbers_do_not_wrap_around() -> None:
    edge = 2**63 - 1
    batch = table(
        {Integer(name="low"): [-edge, -edge, 0, 5] * 5, Integer(name="high"): [edge, 0, edge, 5] * 5},
        [{"type": "inequality", "low": "low", "high": "high"}],
    )
    codec = fitted(batch)
    for layout in codec.layouts:
        made = decoded(codec, layout, 0)
        assert made.low.between(-edge, 5).all() and made.high.between(0, edge).all()
        assert (made.low <= made.high).all()


def test_a_chain_stays_below_the_last_maximum() -> None:
    rng = np.random.default_rng(0)
    a, b, c = np.sort(rng.integers(0, 100, (3, 300)), axis=0)
    batch = table(
        {Integer(name="a", nullable=True): a, Integer(name="b", nullable=True): pa.array(b, mask=b % 5 == 0),
         Integer(name="c", maximum=100, nullable=True): pa.array(c, mask=c % 7 == 0)},
        [{"type": "inequality", "low": "b", "high": "c"}, {"type": "inequality", "low": "a", "high": "b"}],
    )  # fmt: skip
    codec = fitted(batch)
    for layout in codec.layouts:
        made = decoded(codec, layout, 1)
        both = made.dropna()
        assert (both.a <= both.b).all() and (both.b <= both.c).all() and made.c.max() <= 100


def broken_table(bad: int) -> pa.RecordBatch:
    a, wrong = np.arange(100) % 10, np.arange(100) < bad
    return table(
        {Integer(name="a"): a, Integer(name="b"): np.where(wrong, a - 1, a + 3),
         Category(name="k"): [f"k{i}" for i in a],
         Category(name="v"): np.where(wrong, "vx", np.char.add("v", a.astype(str)))},
        [{"type": "inequality", "low": "a", "high": "b"},
         {"type": "determines", "columns": ["k"], "target": "v"}],
    )  # fmt: skip


def test_bad_rows_are_counted_and_repaired() -> None:
    batch = broken_table(7)
    codec = fitted(batch, dependencies=False)
    assert codec.relations.broken == {"constraints[0] (a <= b)": 7, "constraints[1] (k -> v)": 7}
    for held in codec.relations.holds(batch).values():
        assert np.flatnonzero(~held).tolist() == list(range(7))
    made = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0)).to_pandas()
    assert (made.b == made.a + np.where(np.arange(100) < 7, 0, 3)).all()
    assert (made.v == "v" + made.a.astype(str)).all()


def test_mostly_bad_rows_are_an_error_that_names_the_constraint() -> None:
    with pytest.raises(DataError, match=r"constraints\[0\] \(a <= b\): 60 of 100 .* break it.*half.*correct"):
        fitted(broken_table(60), dependencies=False)


def test_rare_values_leave_no_trace_in_constraints() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 50, 400)
    city = np.where(np.arange(400) < 3, "secretville", np.array(["a", "b"])[low % 2])
    batch = table(
        {Integer(name="low"): low,
         Integer(name="high"): np.where(np.arange(400) == 0, 7_654_321, low + 3 + low % 4),
         Category(name="city"): city, Category(name="land"): np.char.add("land of ", city),
         Category(name="mayor"): np.char.add("M", city), Boolean(name="y"): low % 2 == 0},
        [{"type": "inequality", "low": "low", "high": "high"},
         {"type": "combinations", "columns": ["city", "land"]},
         {"type": "determines", "columns": ["city"], "target": "mayor"}],
        "y",
    )  # fmt: skip
    text = json.dumps(fitted(batch, rare_below=5).to_json())
    assert "secretville" not in text and "7654" not in text and "land of a" in text
    with pytest.raises(
        DataError, match=r"combinations of city, land.*rare_below|no pair that 300 entities have.*rare_below"
    ):
        fitted(batch, rare_below=300)


def educated(rows: int = 2_000) -> pa.RecordBatch:
    rng = np.random.default_rng(0)
    level, age = rng.choice(9, rows), rng.integers(17, 90, rows)
    return table(
        {Category(name="education"): [f"e{i}" for i in level], Integer(name="years"): level * 2,
         Category(name="school"): [f"s{i // 3}" for i in level], Integer(name="age"): age,
         Category(name="group"): [f"g{a // 20}" for a in age], Number(name="pay"): rng.lognormal(size=rows),
         Category(name="constant"): ["c"] * rows, Category(name="key"): [str(i) for i in range(rows)],
         Boolean(name="y"): rng.random(rows) < 0.3},
        target="y",
    )  # fmt: skip


@pytest.mark.parametrize("layout", ["tokens", "vector"])
def test_dependencies_are_found_and_kept(layout: str) -> None:
    batch = educated()
    codec = fitted(batch, pieces=3)
    assert sorted(k.label for k in codec.relations.lookups) == [
        "age -> group", "years -> education", "years -> school",
    ]  # fmt: skip
    assert [c.field.name for c in codec.learnt] == ["years", "age", "pay", "key"]
    made = decoded(codec, layout, 5)
    for one, other in (
        ("education", "years"),
        ("years", "education"),
        ("education", "school"),
        ("age", "group"),
    ):
        assert made.groupby(one)[other].nunique().max() == 1
    off = fitted(batch, dependencies=False)
    assert not off.relations.lookups and {"years", "school", "group"} <= {c.field.name for c in off.learnt}
    assert decoded(off, layout, 5).groupby("education").years.nunique().max() > 1


def test_the_target_stays_and_decides_others() -> None:
    y = np.arange(300) % 3
    columns = {Category(name="twin"): [f"t{i}" for i in y], Integer(name="n"): np.arange(300) % 7,
               Category(name="y"): [f"y{i}" for i in y]}  # fmt: skip
    codec = fitted(table(columns, target="y"))
    assert [k.label for k in codec.relations.lookups] == ["y -> twin"] and len(codec.learnt) == 1
    made = decoded(codec, "tokens", 0)
    assert (made.twin.str[1:] == made.y.str[1:]).all()
    del columns[next(f for f in columns if f.name == "n")]
    assert [c.field.name for c in fitted(table(columns, target="y")).learnt] == [
        "twin"
    ]  # all there is to learn


def test_chance_is_no_dependency() -> None:
    assert proven({("a", 1): 50, ("b", 2): 50})
    assert not proven({("a", 1): 50, ("b", 1): 50})  # constant
    assert not proven({(i, i % 3): 1 for i in range(500)})  # every value once
    assert not proven({(i, i == 3): 100 if i != 3 else 1 for i in range(20)})  # one odd row
    assert not proven({("a", 1): 2, ("b", 2): 2})  # few rows


def test_missing_values_depend_like_any_other() -> None:
    a = np.arange(400) % 5
    codec = fitted(
        table({Category(name="a", nullable=True): [None if i == 2 else f"a{i}" for i in a],
               Integer(name="b", nullable=True): pa.array(a * 3, mask=a == 4),
               Integer(name="n"): np.arange(400) % 11})
    )  # fmt: skip
    made = decoded(codec, "vector", 0).fillna({"a": "", "b": -1})
    assert made.groupby("a").b.nunique().max() == made.groupby("b").a.nunique().max() == 1


def test_a_one_to_one_target_needs_partners_of_its_own() -> None:
    y = np.arange(90) % 3
    batch = table(
        {
            Category(name="y"): [f"y{i}" for i in y],
            Integer(name="code"): np.minimum(y, 1),
            Integer(name="n"): y % 2,
        },
        [{"type": "one_to_one", "columns": ["y", "code"]}],
        "y",
    )
    with pytest.raises(DataError, match=r"1 values without a partner of their own.*determines"):
        fitted(batch)


def test_a_column_named_like_a_made_one_is_refused() -> None:
    columns = {Category(name=n): ["a", "b"] for n in ("x", "y", "x with y")}
    with pytest.raises(UsageError, match=r"'x with y'.*rename"):
        fitted(table(columns, [{"type": "combinations", "columns": ["x", "y"]}]))


def test_dates_of_a_lookup_come_back_as_dates() -> None:
    start = [dt.date(2020, 1, 1), dt.date(1950, 5, 5)] * 50
    codec = fitted(
        table(
            {Category(name="term"): ["a", "b"] * 50, Date(name="start"): start, Integer(name="n"): range(100)}
        )
    )
    assert [k.label for k in codec.relations.lookups] == ["start -> term"]
    assert set(decoded(codec, "tokens", 0).start) == set(start)


NUMBER = st.one_of(
    st.builds(dict, kind=st.just("integer")),
    st.builds(dict, kind=st.just("number"), decimals=st.sampled_from([None, 0, 1, 2, 3])),
)


def made_field(name: str, how: dict[str, Any], **more: Any) -> AnyField:
    return (Integer if how["kind"] == "integer" else Number)(name=name, nullable=True, **{**how, **more})


def rounded_to(field: AnyField, values: np.ndarray) -> np.ndarray:
    decimals = 0 if field.kind == "integer" else getattr(field, "decimals", None)
    return values if decimals is None else np.round(values, decimals) + 0.0


@given(
    low=NUMBER,
    high=NUMBER,
    strict=st.booleans(),
    top=st.one_of(st.none(), st.sampled_from([7, 9.86, 10.05, 12.5])),
    bottom=st.one_of(st.none(), st.sampled_from([0, 1.25])),
    size=st.sampled_from([0.01, 1.0, 1e6]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_inequalities_of_any_decimals_and_limits(
    low: dict[str, Any],
    high: dict[str, Any],
    strict: bool,
    top: float | None,
    bottom: float | None,
    size: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    whole = high["kind"] == "integer"
    limits = {
        "maximum": top and (int(top) if whole else top),
        "minimum": bottom and (int(bottom) if whole else bottom),
    }
    fields = made_field("low", low), made_field("high", high, **limits)
    ends = np.sort(rng.normal(5, 4, (2, 80)) * (size if top is None and bottom is None else 1.0), axis=0)
    values = [rounded_to(f, v) for f, v in zip(fields, ends + [[0], [1]], strict=True)]  # few rows are bad
    if top is not None or bottom is not None:  # ingest keeps to the limits of a column
        lowest, most = limits["minimum"], limits["maximum"]
        values[1] = np.clip(values[1], lowest, most)
        values[0] = np.minimum(values[0], 5.0)
    arrays = [
        pa.array(
            [None if rng.random() < 0.2 else (int(v) if f.kind == "integer" else v) for v in vs], f.arrow()
        )
        for f, vs in zip(fields, values, strict=True)
    ]
    rule = {"type": "inequality", "low": "low", "high": "high", "strict": strict}
    batch = table(dict(zip(fields, arrays, strict=True)), [rule])
    codec = fitted(batch, bins=10)
    for layout in codec.layouts:
        made = decoded(codec, layout, seed)
        both = made.dropna()
        assert ((both.low < both.high) if strict else (both.low <= both.high)).all()
        if top is not None:
            assert not (made.high > limits["maximum"]).any()
        if bottom is not None:
            assert not (made.high < limits["minimum"]).any()
        for field in fields:
            found = made[field.name].dropna().to_numpy(dtype=float)
            assert np.allclose(found, rounded_to(field, found), rtol=1e-12, atol=0)


@given(total=NUMBER, parts=st.lists(NUMBER, min_size=2, max_size=4), seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_sums_of_any_decimals(total: dict[str, Any], parts: list[dict[str, Any]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    fields = [made_field(f"p{i}", how) for i, how in enumerate(parts)]
    values = [rounded_to(f, rng.normal(0, 30, 60)) for f in fields]
    fields.append(made_field("total", total))
    values.append(rounded_to(fields[-1], np.sum(values, axis=0)))
    arrays = {
        f: pa.array(v, mask=rng.random(60) < 0.1).cast(f.arrow()) for f, v in zip(fields, values, strict=True)
    }
    names = [f.name for f in fields[:-1]]
    codec = fitted(table(arrays, [{"type": "sum", "total": "total", "parts": names}]), bins=10)
    assert not codec.relations.broken
    for layout in codec.layouts:
        made = decoded(codec, layout, seed).dropna().astype(float)
        assert np.allclose(made.total, rounded_to(fields[-1], made[names].sum(axis=1).to_numpy()), rtol=1e-9)


@pytest.mark.parametrize("layout", ["tokens", "vector"])
def test_numbers_of_one_to_one_take_values_of_training_alone(layout: str) -> None:
    code = np.arange(600) % 40
    batch = table(
        {
            Integer(name="code"): code**2,
            Integer(name="mass"): code * 100 - 7,
            Integer(name="n"): np.arange(600) % 7,
        },
        [{"type": "one_to_one", "columns": ["code", "mass"]}],
    )
    made = decoded(fitted(batch), layout, 0)
    known = set(zip((code**2).tolist(), (code * 100 - 7).tolist(), strict=True))
    assert (
        set(made[["code", "mass"]].itertuples(index=False, name=None)) <= known and made.code.nunique() > 12
    )


def test_pieces_that_each_show_a_dependency_may_refute_it_together() -> None:
    a = np.arange(400) % 5
    b = np.where(np.arange(400) < 200, a, (a + 1) % 5)
    batch = table({Category(name="a"): [f"a{i}" for i in a], Category(name="b"): [f"b{i}" for i in b]})
    assert [k.label for k in fitted(batch.slice(0, 200), dependencies=True).relations.lookups] == ["a -> b"]
    codec = fitted(batch, pieces=2)
    assert not codec.relations.lookups
    schema = Schema.from_arrow(batch.schema)
    one, other = (
        TabularCodec.observe(batch.slice(i, 200), schema, CodecConfig(rare="keep")) for i in (0, 200)
    )
    assert (
        len(one.relations.found) == len(other.relations.found) == 2 and not one.merge(other).relations.found
    )


@pytest.mark.parametrize("layout", ["tokens", "vector"])
def test_lookups_of_one_source_agree_where_rows_are_bad(layout: str) -> None:
    a = np.arange(900) % 30
    twin = np.where(a == 7, 8, a)  # 7 has no partner of its own in b
    batch = table(
        {Integer(name="a"): a, Integer(name="b"): twin * 3, Category(name="c"): [f"c{i // 4}" for i in a],
         Integer(name="d"): (a + 1) ** 2, Integer(name="n"): np.arange(900) % 7},
        [{"type": "determines", "columns": ["a"], "target": "c"},
         {"type": "one_to_one", "columns": ["a", "b"]},
         {"type": "one_to_one", "columns": ["b", "d"]}],
    )  # fmt: skip
    codec = fitted(batch)
    made = decoded(codec, layout, 0)  # checks that every row holds
    assert len(codec.relations.broken) == 2 and made.a.nunique() > 12
    for one, other in (("a", "b"), ("b", "a"), ("b", "d"), ("d", "b"), ("a", "c")):
        assert made.groupby(one)[other].nunique().max() == 1


def test_tied_columns_are_not_put_right_by_a_lookup() -> None:
    a = np.arange(300) % 10
    batch = table(
        {Integer(name="a"): a, Integer(name="b"): a // 2, Integer(name="c"): np.where(a == 7, 8, a),
         Integer(name="n"): np.arange(300) % 7},
        [{"type": "combinations", "columns": ["a", "b"]}, {"type": "one_to_one", "columns": ["a", "c"]}],
    )  # fmt: skip
    with pytest.raises(DataError, match=r"a <-> c.*1 values without a partner of their own"):
        fitted(batch)
