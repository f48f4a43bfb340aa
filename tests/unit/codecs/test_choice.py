"""Choices: rare values kept, redrawn or protected; which label stands for them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.columns import Fixed
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.codecs.tabular.protect import hidden_values, summary
from genpipe.errors import DataError, GenpipeError, UsageError
from genpipe.fields import AnyField, Boolean, Category, Integer
from genpipe.schema import Schema

NAMES = ["Smith"] * 600 + ["Jones"] * 370 + ["Zyx"] * 5 + ["Qux"] * 5 + [None] * 20
SECRETS = ("Zyx", "whistleblower", "secret", "987654321")


def batch_of(*columns: tuple[AnyField, Any], target: str | None = None) -> pa.RecordBatch:
    schema = Schema(kind="tabular", fields=tuple(f for f, _ in columns), target=target)
    return pa.RecordBatch.from_arrays([pa.array(v, f.arrow()) for f, v in columns], schema=schema.arrow())


def codec_of(batch: pa.RecordBatch, **config: Any) -> TabularCodec:
    codec = fit(TabularCodec, Schema.from_arrow(batch.schema), [batch], CodecConfig(**config))
    assert isinstance(codec, TabularCodec)
    return codec


def people() -> pa.RecordBatch:
    pay = np.random.default_rng(0).integers(1_000, 2_000, 999).tolist()
    return batch_of(
        (Category(name="name", nullable=True), NAMES),
        (Integer(name="pay"), [*pay, 987_654_321]),
        (Category(name="all_rare"), [f"secret{i}" for i in range(1_000)]),
        (Boolean(name="flag"), [True] * 3 + [False] * 997),
        (Category(name="label"), ["yes"] * 500 + ["no"] * 498 + ["whistleblower"] * 2),
        target="label",
    )


@pytest.mark.parametrize("layout", TabularCodec.layouts)
def test_protected_values_are_replaced_by_the_label(layout: str) -> None:
    batch = people()
    codec = codec_of(batch, rare="protect", rare_below=10, rare_label="other")
    text = json.dumps(codec.to_json())
    back = codec.decode(codec.encode(batch, layout), layout, np.random.default_rng(0))
    for secret in SECRETS:
        assert secret not in text and secret not in str(back.to_pydict())
    assert back.column("name").to_pylist() == [*NAMES[:970], *["other"] * 10, *[None] * 20]
    # two people with a class of their own are fewer than ten under any name
    assert back.column("label").to_pylist()[498:] == ["yes"] * 2 + ["no"] * 500
    assert set(back.column("flag").to_pylist()) == {False}  # a boolean knows no label: it is redrawn
    assert isinstance(codec.columns[2], Fixed) and codec.columns[2].value == "other"
    again = TabularCodec.from_json(codec.schema, json.loads(text))
    assert again.to_json() == codec.to_json()


def test_what_was_protected_is_told_with_its_rows() -> None:
    batch, config = people(), CodecConfig(rare="protect", rare_below=10, rare_label="(rare)")
    schema = Schema.from_arrow(batch.schema)
    halves = [TabularCodec.observe(batch.slice(a, 500), schema, config) for a in (500, 0)]
    stats = halves[0].merge(halves[1])
    hidden = hidden_values(TabularCodec.build(schema, stats, config), stats, config)
    assert hidden["name"] == {"Zyx": 5, "Qux": 5} and hidden["label"] == {"whistleblower": 2}
    assert hidden["flag"] == {"True": 3} and "987654321" in hidden["pay"]
    assert summary(hidden)["all_rare"] == {"values": 1_000, "rows": 1_000}
    assert sum(int(v) > 2_000 for v in hidden["pay"]) == 1 and 1 <= summary(hidden)["pay"]["rows"] <= 40
    assert summary(hidden, 20) == {"all_rare": {"values": 1_000, "rows": 1_000}}
    assert hidden_values(TabularCodec.build(schema, stats, config), stats, CodecConfig(rare="keep")) == {}


def test_the_ways_of_rare_values_differ_only_where_values_are_rare() -> None:
    batch = batch_of((Category(name="name", nullable=True), NAMES), (Integer(name="n"), [1, 2] * 500))
    made = {
        "keep": codec_of(batch, rare="keep"),
        "protect": codec_of(batch, rare_below=10),
        "label": codec_of(batch, rare_below=10, rare_label="(rare)"),
    }
    assert [c.spec("tokens").vocabulary[0] for c in made.values()] == [5, 4, 4]
    arrays = {r: c.encode(batch, "tokens") for r, c in made.items()}
    back = {
        r: made[r].decode(a, "tokens", np.random.default_rng(0)).column("name") for r, a in arrays.items()
    }
    assert back["keep"].to_pylist() == NAMES
    assert set(back["protect"].to_pylist()[970:980]) <= {"Smith", "Jones"}
    assert back["label"].to_pylist()[970:980] == ["(rare)"] * 10
    sample = codec_of(batch, rare="sample", rare_below=10)  # as it was called before
    assert sample.to_json() == made["protect"].to_json()
    old = CodecConfig.model_validate({"rare": None, "rare_below": 0, "rare_label": "(rare)"})
    assert old == CodecConfig(rare="keep", rare_label="(rare)")  # as recipes were written before
    new = batch_of((Category(name="name", nullable=True), ["Unheard"]), (Integer(name="n"), [1]))
    codec = made["label"]
    made_of = codec.decode(codec.encode(new, "tokens"), "tokens", np.random.default_rng(0))
    assert made_of.column("name").to_pylist() == ["(rare)"]


SIZES = ["S"] * 20 + ["M"] * 20 + ["L"] * 2
LABEL = {"rare_below": 5, "rare_label": "(rare)"}


@pytest.mark.parametrize(
    ("values", "config", "error"),
    [
        (("S", "M", "L"), LABEL, r"codec.rare_label: size: '\(rare\)' should "
         r"replace 1 rare values, but the schema's values do not list it; expected one of S, M, L"),
        (None, {"rare": "keep", "rare_below": 7}, "rare: keep with rare_below: 7; leave one of them out"),
        (None, {"rare_below": 0}, "rare: protect with rare_below: 0; set it to 2 or more, or keep rare"),
        (None, {"rare": "hide"}, "'keep', 'sample' or 'protect'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", [None, "size"])
def test_contradictions_are_refused(values: Any, config: dict, error: str, target: str | None) -> None:
    batch = batch_of(
        (Category(name="size", values=values), SIZES), (Integer(name="n"), [1, 2] * 21), target=target
    )
    with pytest.raises((GenpipeError, ValidationError), match=error):
        codec_of(batch, **config)


def test_pinned_values_are_protected_where_the_list_has_the_label() -> None:
    field = Category(name="size", values=("S", "M", "L", "never", "(rare)"))
    batch = batch_of((field, SIZES), (Integer(name="n"), [1, 2] * 21))
    codec = codec_of(batch, rare_below=2, rare_label="(rare)")
    text = json.dumps(codec.to_json())
    assert '"never"' not in text
    back = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0))
    assert back.column("size").to_pylist() == SIZES
    plain = codec_of(batch)  # without a label a pinned list is kept whole; how rare the rare are is not told
    assert plain.spec("tokens").vocabulary[0] == 5
    assert plain.spec("tokens").frequencies[0] == (0.5, 0.5, 0, 0, 0)


def test_errors_of_labels_are_usage_errors_and_those_of_values_data_errors() -> None:
    batch = batch_of((Category(name="size", values=("S", "M", "L")), SIZES), (Integer(name="n"), [1, 2] * 21))
    with pytest.raises(UsageError):
        codec_of(batch, **LABEL)
    batch = batch_of((Category(name="size", values=("S", "M")), SIZES), (Integer(name="n"), [1, 2] * 21))
    with pytest.raises(DataError, match=r"size: 1 values that the schema does not list; .* S, M"):
        codec_of(batch)
