"""What a table's codec does with the awkward columns, with large data, and with secrets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs import sketch
from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.columns import Fixed, Placeholder
from genpipe.codecs.conditions import spread_draws
from genpipe.codecs.tabular import codec as tabular
from genpipe.codecs.tabular.choice import Choice
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.errors import DataError, UsageError
from genpipe.fields import AnyField, Boolean, Category, Identifier, Image, Integer, Number, Text
from genpipe.schema import Schema


def batch_of(*columns: tuple[AnyField, object], target: str | None = None) -> pa.RecordBatch:
    schema = Schema(kind="tabular", fields=tuple(f for f, _ in columns), target=target)
    return pa.RecordBatch.from_arrays([pa.array(v, f.arrow()) for f, v in columns], schema=schema.arrow())


def codec_of(batch: pa.RecordBatch, **config: Any) -> TabularCodec:
    rare = {"rare": "protect" if "rare_below" in config else "keep"}
    codec = fit(TabularCodec, Schema.from_arrow(batch.schema), [batch], CodecConfig(**rare | config))
    assert isinstance(codec, TabularCodec)
    return codec


def test_columns_without_news_take_no_position() -> None:
    batch = batch_of(
        (Integer(name="n"), [1, 2, 3]),
        (Category(name="constant"), ["k"] * 3),
        (Number(name="null", nullable=True), [None] * 3),
        (Integer(name="big"), [2**60 + 1] * 3),
        (Boolean(name="sometimes", nullable=True), [True, None, True]),
        (Identifier(name="id"), ["a", "b", "c"]),
        (Text(name="note"), ["x", "y", "z"]),
        (Text(name="never", nullable=True), [None] * 3),
    )
    codec = codec_of(batch)
    assert [type(c) for c in codec.columns[1:4]] == [Fixed] * 3
    assert [c.field.name for c in codec.learnt] == ["n", "sometimes"]
    assert codec.spec("tokens").vocabulary == (3, 2)
    back = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0))
    for name in ("constant", "null", "big", "sometimes", "never"):
        assert back.column(name).equals(batch.column(name))
    assert all(v.startswith("note-") for v in back.column("note").to_pylist())


@pytest.mark.parametrize("field", [Category(name="only"), Number(name="only"), Boolean(name="only")])
def test_nothing_to_learn_is_said_so(field: AnyField) -> None:
    value = {"category": "a", "number": 1.5, "boolean": True}[field.kind]
    batch = batch_of((field, [value] * 4), (Identifier(name="id"), list("abcd")))
    with pytest.raises(DataError, match=r"no column to learn: only \(fixed\), id \(placeholder\)"):
        codec_of(batch)


def test_placeholders_differ_within_and_across_blocks() -> None:
    batch = batch_of((Identifier(name="id", storage="integer"), range(50)), (Integer(name="n"), [1, 2] * 25))
    codec = codec_of(batch)
    arrays = codec.encode(batch, "tokens")
    blocks = [
        codec.decode(arrays, "tokens", np.random.default_rng(s)).column("id").to_pylist() for s in range(20)
    ]
    assert len({i for block in blocks for i in block}) == 20 * 50


def test_placeholders_are_missing_as_often_as_the_values_they_stand_for() -> None:
    notes = [None if i % 4 else f"n{i}" for i in range(2_000)]
    batch = batch_of((Text(name="note", nullable=True), notes), (Integer(name="n"), [1, 2] * 1_000))
    codec = codec_of(batch)
    back = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0))
    assert abs(back.column("note").null_count - 1_500) < 80
    assert len(set(back.column("note").drop_null().to_pylist())) == 2_000 - back.column("note").null_count


def test_rare_values_leave_no_trace() -> None:
    rng = np.random.default_rng(0)
    n = 1_000
    name = ["Smith"] * 600 + ["Jones"] * 390 + ["Zyxwvut"] * 5 + ["Qux"] * 5
    batch = batch_of(
        (Category(name="name"), name),
        (Integer(name="pay"), [*rng.integers(1_000, 2_000, n - 1).tolist(), 987_654_321]),
        (Category(name="all_rare"), [f"secret{i}" for i in range(n)]),
        (Category(name="label"), ["yes"] * 500 + ["no"] * 498 + ["whistleblower"] * 2),
        target="label",
    )
    codec = codec_of(batch, rare_below=10)
    text = json.dumps(codec.to_json())
    for secret in ("Zyxwvut", "987654321", "secret", "whistleblower"):
        assert secret not in text
    assert isinstance(codec.columns[2], Placeholder)
    choice = codec.columns[0]
    assert isinstance(choice, Choice) and choice.rare == pytest.approx(0.01) and choice.vocabulary == 3
    back = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0))
    now = back.column("name").to_pylist()
    assert now[:990] == name[:990] and set(now[990:]) <= {"Smith", "Jones"}
    assert back.column("label").to_pylist()[:998] == batch.column("label").to_pylist()[:998]
    keep = codec_of(batch, rare="keep")  # on demand every value survives
    back = keep.decode(keep.encode(batch, "vector"), "vector", np.random.default_rng(0))
    assert back.column("name").equals(batch.column("name"))
    assert back.column("pay").to_pylist()[-1] == pytest.approx(
        987_654_321, abs=keep.tolerance("vector")["pay"]
    )


def test_what_training_did_not_show_becomes_the_nearest_thing_it_did() -> None:
    train = batch_of(
        (Integer(name="n", nullable=True), [1, 2, 9, 9]),
        (Category(name="c", nullable=True), ["a", "b", "b", "b"]),
        (Boolean(name="y", nullable=True), [True, True, False, True]),
        target="y",
    )
    codec = codec_of(train)
    new = pa.RecordBatch.from_pydict(
        {"n": [-50, 8, None], "c": ["z", None, "a"], "y": [None, False, True]}, train.schema
    )
    for layout in codec.layouts:
        back = codec.decode(codec.encode(new, layout), layout, np.random.default_rng(0))
        assert back.column("n").to_pylist()[:2] == [1, 9]
        assert back.column("c").to_pylist() == ["b", "b", "a"]
        assert back.column("y").to_pylist() == [True, False, True]


@pytest.mark.parametrize("pieces", [1, 7])
def test_large_columns_are_sampled_and_still_merge_exactly(
    monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    monkeypatch.setattr(sketch, "EXACT_DISTINCT", 50)
    monkeypatch.setattr(tabular, "SAMPLE_ROWS", 4_000)
    rng = np.random.default_rng(0)
    values = rng.normal(size=30_000)
    values[:6_000] = 0.25
    batch = batch_of(
        (Number(name="x"), rng.permutation(values)),
        (Number(name="y", nullable=True), rng.exponential(size=30_000)),
    )
    whole = codec_of(batch)
    cuts = np.sort(rng.choice(30_000, pieces - 1, replace=False)).tolist()
    parts = [batch.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, 30_000], strict=True)]
    other = fit(TabularCodec, whole.schema, parts[::-1], CodecConfig(rare="keep"))
    assert json.dumps(whole.to_json()) == json.dumps(other.to_json())
    arrays = whole.encode(batch, "tokens")
    shares = np.bincount(arrays["x"][:, 0]) / 30_000
    assert shares.max() == pytest.approx(0.2)  # the spike is an atom of its own
    assert np.sort(shares)[:-1].max() < 0.02
    for name in ("x", "y"):
        back = whole.decode(arrays, "tokens", rng).column(name).to_numpy()
        was = batch.column(name).to_numpy()
        assert (
            np.abs(
                np.quantile(back, np.linspace(0.01, 0.99, 50)) - np.quantile(was, np.linspace(0.01, 0.99, 50))
            ).max()
            < 0.15
        )
        exact = whole.decode(whole.encode(batch, "vector"), "vector", rng).column(name).to_numpy()
        assert np.abs(exact - was).max() <= whole.tolerance("vector")[name]


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        (Number(name="n"), [1.0, float("inf")], r"\[?n: the number inf; expected at most 1e\+150"),
        (Number(name="n"), [1.0, float("nan")], "n: 1 missing values; expected none"),
        (Integer(name="n"), [1, None], "n: 1 missing values; expected none"),
        (Category(name="n"), ["a", None], "n: 1 missing values; expected none"),
    ],
)
def test_values_the_schema_rules_out_are_named(field: AnyField, values: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        codec_of(batch_of((field, values), (Integer(name="m"), [1, 2])))


def test_a_table_holds_no_pictures_and_no_vector_of_a_million_columns() -> None:
    picture = [{"bytes": b"", "path": None}] * 2
    with pytest.raises(UsageError, match="p: a field of kind image in a table"):
        codec_of(
            batch_of((Image(name="p", height=1, width=1, channels=1), picture), (Integer(name="n"), [1, 2]))
        )
    codec = codec_of(batch_of((Category(name="c"), [f"v{i}" for i in range(20_001)])))
    assert codec.spec("tokens").vocabulary == (141, 142)  # two digits, see test_digits.py
    with pytest.raises(
        UsageError, match="a vector of 20001 columns; expected at most 20000; use layout 'tokens'"
    ):
        codec.spec("vector")


def test_shares_are_how_often_each_code_occurs() -> None:
    rng = np.random.default_rng(0)
    ages = pa.array(rng.poisson(40, 5000), mask=rng.random(5000) < 0.1)
    names = pa.array(rng.choice(["a", "b", "c"], 5000, p=[0.6, 0.3, 0.1]))
    schema = Schema(
        kind="tabular", fields=(Integer(name="age", nullable=True), Category(name="name"), Number(name="x"))
    )
    batch = pa.RecordBatch.from_arrays([ages, names, pa.array(rng.normal(size=5000))], schema=schema.arrow())
    codec = fit(TabularCodec, schema, [batch], CodecConfig(rare="keep"))
    codes, spec = codec.encode(batch, "tokens")["x"], codec.spec("tokens")
    for t, (size, shares) in enumerate(zip(spec.vocabulary, spec.frequencies, strict=True)):
        counted = np.bincount(codes[:, t], minlength=size) / 5000
        assert np.abs(counted - shares).max() < 1e-6 and abs(sum(shares) - 1) < 1e-6
    assert spec.ordered == (True, False, True)


def test_condition_classes_come_as_often_as_their_shares_say() -> None:
    drawn = spread_draws(np.array([700, 200, 100]), 1000, np.random.default_rng(0))
    assert np.abs(np.bincount(drawn, minlength=3) - [700, 200, 100]).max() <= 1
    assert not np.array_equal(drawn, np.sort(drawn))  # in random order
