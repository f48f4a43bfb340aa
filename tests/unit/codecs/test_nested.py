"""Codes within other columns: no pair comes out that enough rows of training do not have."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.constraints import Within
from genpipe.errors import DataError
from genpipe.fields import Category, Integer
from genpipe.schema import Schema
from genpipe.sources.codes import find_codes
from genpipe.sources.repeats import look

ROWS = 6_000
RULES = (Within(column="city", of=("state",)), Within(column="code", of=("state", "city")))


def addresses(rows: int = ROWS, *, seed: int = 0) -> pa.RecordBatch:
    """Twelve states of ten cities each, some of one name; three codes a city, the last in few rows."""
    rng = np.random.default_rng(seed)
    state, city = rng.integers(0, 12, rows), rng.integers(0, 10, rows)
    code = 10_000 + 700 * state + 11 * city + np.minimum(rng.geometric(0.6, rows) - 1, 2)
    code[:30] = 900_000 + np.arange(30)  # one row each
    names = [f"Springfield {c}" if c < 4 else f"Town {s}-{c}" for s, c in zip(state, city, strict=True)]
    columns = {
        "state": pa.array([f"S{s}" for s in state]),
        "city": pa.array(names),
        "code": pa.array(code),
        "n": pa.array(rng.integers(0, 9, rows)),
    }
    return pa.RecordBatch.from_pydict(columns)


def schema(target: str | None = None) -> Schema:
    kinds = (Category(name="state"), Category(name="city"), Integer(name="code"), Integer(name="n"))
    return Schema(kind="tabular", fields=kinds, constraints=RULES, target=target)


def fitted(given: Schema, **config: object) -> tuple[TabularCodec, pa.RecordBatch]:
    batch = addresses().cast(given.arrow())
    codec = fit(TabularCodec, given, [batch.slice(0, 1000), batch.slice(1000)], CodecConfig(**config))  # type: ignore[arg-type]
    assert isinstance(codec, TabularCodec)
    return TabularCodec.from_json(given, json.loads(json.dumps(codec.to_json()))), batch


def pairs(batch: pa.RecordBatch) -> dict[tuple[object, ...], int]:
    rows = list(zip(*(batch[n].to_pylist() for n in ("state", "city", "code")), strict=True))
    return {row: rows.count(row) for row in set(rows)}


@pytest.mark.parametrize("target", [None, "state"])
@pytest.mark.parametrize("layout", ["tokens", "vector"])
def test_any_codes_are_pairs_that_five_rows_have(target: str | None, layout: str) -> None:
    codec, batch = fitted(schema(target))
    known = pairs(batch)
    rng, spec = np.random.default_rng(0), codec.spec(layout)
    if layout == "tokens":
        x = np.stack([rng.integers(0, size, 2_000) for size in spec.vocabulary], 1)
    else:
        x = rng.uniform(-1, 1, (2_000, *spec.shape)).astype(np.float32)
    condition = rng.integers(0, 12, (2_000, 1 if target else 0))
    made = codec.decode({"x": x, "condition": condition}, layout, rng)
    assert all(known[row] >= 5 for row in pairs(made)) and codec.holds(made).all()
    if target:
        assert made["state"].to_pylist() == [codec.conditions.values[0][c] for c in condition[:, 0]]


def test_real_rows_come_back() -> None:
    codec, batch = fitted(schema())
    made = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0))
    for name, least in (("state", 1.0), ("city", 1.0), ("code", 0.98)):
        assert np.mean(np.array(batch[name]) == np.array(made[name])) >= least
    assert not {*made["code"].to_pylist()} & {*range(900_000, 900_030)}
    assert "900000" not in json.dumps(codec.to_json())
    kept, _ = fitted(schema(), rare="keep")
    again = kept.decode(kept.encode(batch, "tokens"), "tokens", np.random.default_rng(0))
    assert again.equals(batch)


def test_a_network_tells_few_apart() -> None:
    codec, _ = fitted(schema())
    sizes = {c.field.name: c.vocabulary for c in codec.learnt}
    assert sizes["city within state"] == 10 and sizes["code within state, city"] == 4  # and the rare ones


def test_nothing_is_left_without_a_pair() -> None:
    with pytest.raises(DataError, match="0 pairs"):
        fitted(schema(), rare_below=400)


@pytest.mark.parametrize("wrong", [[], [1, 1], [0]])
def test_others_than_those_of_the_schema_are_refused(wrong: list[int]) -> None:
    codec, _ = fitted(schema())
    content = json.loads(json.dumps(codec.to_json()))
    known = content["relations"]["nested"]
    content["relations"]["nested"] = [known[i] for i in wrong]
    with pytest.raises(ValueError, match="codes within others"):
        TabularCodec.from_json(codec.schema, content)


def test_found_where_rows_of_a_code_agree() -> None:
    batch = addresses()
    found = [r.constraint for r in find_codes(look(batch), schema().fields, ("n",))]
    assert [str(c) for c in found] == ["code within state, city"]  # of cities there are too few
    assert not find_codes(look(batch), schema().fields, ("code",))
    rng = np.random.default_rng(1)
    shuffled = {n: batch[n].take(pa.array(rng.permutation(ROWS))) for n in batch.schema.names}
    assert not find_codes(look(pa.RecordBatch.from_pydict(shuffled)), schema().fields, ())
