"""Attacks on people: what does a codec tell of one of those whose rows it was fitted to?

The people are made up: some with one row and some with hundreds, numbers missing here and there, towns in
several spellings. What is attacked is codec.json, which is published, and rows decoded from any codes.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from genpipe.bundle import Bundle, save_bundle
from genpipe.bundle.held import check_held, few_held
from genpipe.codecs import CODECS
from genpipe.codecs.base import Codec, CodecConfig, fit
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.codecs.tabular.numeric import Scale
from genpipe.dataset import Dataset, commit, new_attempt, write_part
from genpipe.errors import DataError, PrivacyError
from genpipe.fields import Category, Date, Identifier, Integer, Number, Series, Text
from genpipe.recipe import Recipe
from genpipe.recipes import RECIPES
from genpipe.related.flatten import FAMILY, flat_schema
from genpipe.related.nodes import Node
from genpipe.schema import Schema

KEEP = CodecConfig(rare="keep")
FIELDS = (
    Category(name="insured", nullable=True),  # read as words with few values, not as an identifier
    Date(name="born"),
    Category(name="blood"),
    Integer(name="postcode"),
    Category(name="town"),
    Category(name="diagnosis"),
    Integer(name="day"),
    Number(name="cost", decimals=2),
    Category(name="doctor"),
    Category(name="clinic"),
)
VISITS = Schema(kind="tabular", fields=FIELDS, entity=("insured",))
TOLD = ("insured", "born", "postcode")  # what names a person


def visits(people: int = 300, seed: int = 0) -> pa.RecordBatch:
    """One to twelve visits a person, and one with 500; doctors work in one clinic each."""
    rng = np.random.default_rng(seed)
    number = np.array([f"756.{n}" for n in rng.choice(10**8, people, replace=False)], dtype=object)
    who = np.repeat(np.arange(people), np.where(np.arange(people) == 7, 500, rng.integers(1, 13, people)))
    rows = len(who)
    doctor, town = rng.integers(0, 12, rows), rng.integers(0, 9, people)
    spelt = np.array([[f"Town {t}", f"town {t}", f" TOWN {t}"] for t in range(9)])
    day = np.where(who == 7, 41, rng.integers(1, 366, rows))  # always on the same day, at the same price
    columns = {
        "insured": pa.array(number[who], mask=rng.random(rows) < 0.03),
        "born": pa.array(rng.integers(-14_000, 12_000, people)[who].astype(np.int32)).cast(pa.date32()),
        "blood": pa.array(rng.choice(["A+", "B-", "0+", "AB+"], people)[who]),
        "postcode": pa.array(rng.choice(90_000, people, replace=False)[who] + 10_000),
        "town": pa.array(spelt[town[who], rng.choice(3, rows, p=[0.8, 0.15, 0.05])]),
        "diagnosis": pa.array(rng.choice(["flu", "HIV", "asthma", "none"], people)[who]),
        "day": pa.array(day),
        "cost": pa.array(np.where(who == 7, 123.45, rng.lognormal(5, 1, rows).round(2))),
        "doctor": pa.array(np.array([f"Dr {d}" for d in range(12)])[doctor]),
        "clinic": pa.array(np.array(["North", "South", "West"])[doctor % 3]),
    }
    return pa.RecordBatch.from_arrays([columns[f.name] for f in FIELDS], schema=VISITS.arrow())


def fitted(batch: pa.RecordBatch, schema: Schema, config: CodecConfig | None = None) -> TabularCodec:
    codec = fit(TabularCodec, schema, [batch.slice(i, 1_000) for i in range(0, len(batch), 1_000)], config)
    assert isinstance(codec, TabularCodec)
    return codec


def plain_values(batch: pa.RecordBatch, name: str) -> np.ndarray:
    column = batch.column(name)
    return np.array((column.cast(pa.int32()) if pa.types.is_date32(column.type) else column).to_pylist())


def told_numbers(codec: TabularCodec, name: str) -> set[float]:
    """Every number codec.json tells of a column, in units of the column."""
    column = next(c for c in codec.columns if c.field.name == name)
    if not isinstance(column, Scale):
        return set()
    axis, cells, knots = column.axis, column.cells, column.score.knots if column.score else np.zeros(0)
    origin = axis.low if axis.whole else 0.0
    edges = cells.edges.ravel()
    points = [axis.low, axis.high, *cells.atoms, *column.modes, *(knots + origin)]
    points += [*cells.point(edges), *cells.point(edges + 0.5), *cells.point(edges - 0.5)]
    values = axis.arrow(np.array(points).astype(np.int64 if axis.whole else np.float64), None)
    return set(plain_values(pa.RecordBatch.from_arrays([values], ["x"]), "x").tolist())


def singles(batch: pa.RecordBatch, schema: Schema, name: str) -> set[Any]:
    """Values that one entity alone has."""
    who = [batch.column(n).to_pylist() for n in schema.about] or [list(range(len(batch)))]
    held: dict[Any, set] = {}
    for value, *entity in zip(plain_values(batch, name).tolist(), *who, strict=True):
        held.setdefault(value, set()).add(tuple(entity))
    return {v for v, entities in held.items() if len(entities) == 1}


def rebuilt(codec: TabularCodec, batch: pa.RecordBatch) -> int:
    """People whose number codec.json has, or whose birth date or postcode it ties to something."""
    text = json.dumps(codec.to_json())
    tied = {name: set[Any]() for name in TOLD}
    for lookup in codec.relations.lookups:
        for i, name in enumerate(TOLD):
            if name in (lookup.field.name, *(s.name for s in lookup.sources)):
                tied[TOLD[i]] |= {pair[name == lookup.field.name] for pair in lookup.pairs}
    people = {tuple(row) for row in zip(*(plain_values(batch, n).tolist() for n in TOLD), strict=True)}
    return sum(str(p[0]) in text or any(p[i] in tied[n] for i, n in enumerate(TOLD)) for p in people if p[0])


def test_nobody_of_several_rows_can_be_rebuilt() -> None:
    batch = visits()
    codec = fitted(batch, VISITS)
    assert rebuilt(fitted(batch, VISITS, KEEP), batch) >= 290  # the attack works where all is kept
    assert rebuilt(codec, batch) == 0
    for name in ("born", "postcode", "cost"):
        values, told = plain_values(batch, name), told_numbers(codec, name)
        assert told and not told & {values.min(), values.max()}
        # on a lattice some round number is somebody's, as often as somebody's who was never there
        alone, others = (singles(b, VISITS, name) for b in (batch, visits(seed=9)))
        assert len(told & alone) <= 1.3 * len(told & others) + 3
    assert 123.45 not in told_numbers(codec, "cost") and 123.45 in told_numbers(
        fitted(batch, VISITS, KEEP), "cost"
    )
    # what many have stays exact, and what it decides
    pairs = {(k.sources[0].name, k.field.name): k.pairs for k in codec.relations.lookups}
    assert dict(pairs["doctor", "clinic"]) == {
        f"Dr {d}": ["North", "South", "West"][d % 3] for d in range(12)
    }
    assert {"insured", "born", "postcode"}.isdisjoint(n for pair in pairs for n in pair)


def test_the_same_codec_for_any_partition_of_the_rows_of_entities() -> None:
    batch = visits(80)
    whole = TabularCodec.observe(batch, VISITS, CodecConfig())
    rng = np.random.default_rng(0)
    for pieces in (2, 7):
        parts = np.array_split(rng.permutation(len(batch)), pieces)
        seen = [TabularCodec.observe(batch.take(pa.array(p)), VISITS, CodecConfig()) for p in parts]
        merged = seen[0]
        for stats in seen[:0:-1]:
            merged = stats.merge(merged)
        made = [TabularCodec.build(VISITS, s, CodecConfig()).to_json() for s in (whole, merged)]
        assert json.dumps(made[0]) == json.dumps(made[1])


def test_columns_of_many_values_protect_entities_through_their_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from genpipe.codecs import sketch
    from genpipe.codecs.tabular import stats as tabular_stats

    batch = visits()
    monkeypatch.setattr(sketch, "EXACT_DISTINCT", 200)
    monkeypatch.setattr(tabular_stats, "EXACT_DISTINCT", 200)
    codec = fitted(batch, VISITS)
    told = told_numbers(codec, "cost")
    alone, others = (singles(b, VISITS, "cost") for b in (batch, visits(seed=9)))
    assert told and 123.45 not in told and len(told & alone) <= 1.3 * len(told & others) + 3
    assert rebuilt(codec, batch) == 0


PATIENTS = Schema(
    kind="tabular",
    fields=(
        Date(name="born"),
        Category(name="job"),
        Number(name="income", decimals=2),
        Integer(name="stays"),
        Category(name="diagnosis", nullable=True),
    ),
    target="diagnosis",
)


def patients(rows: int, seed: int) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    columns = [
        pa.array(rng.integers(-9_000, 12_000, rows).astype(np.int32)).cast(pa.date32()),
        pa.array([f"job {n}" for n in (rng.pareto(0.7, rows) * 3).clip(0, 500).astype(int)]),
        pa.array(rng.lognormal(10.4, 0.5, rows).round(2)),
        pa.array(rng.poisson(3, rows)),
        pa.array(
            [["flu", "HIV", None, "asthma"][n] for n in rng.choice(4, rows, p=[0.5, 0.015, 0.01, 0.475])]
        ),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PATIENTS.arrow())


@pytest.mark.parametrize("layout", TabularCodec.layouts)
@pytest.mark.parametrize("rows", [30, 190, 1_500])
def test_rows_of_a_few_people_show_nobodys_values(rows: int, layout: str) -> None:
    shown, never = patients(rows, 1), patients(rows, 2)
    codec = fitted(shown, PATIENTS)
    arrays = codec.encode(shown, layout)
    if layout == "vector":  # no network gives back a row's own scores
        arrays["x"] += np.random.default_rng(0).normal(0, 0.02, arrays["x"].shape)
    made = codec.decode(arrays, layout, np.random.default_rng(0))
    for name in ("income", "born"):
        mine, others = (singles(b, PATIENTS, name) for b in (shown, never))
        hits = [np.isin(plain_values(made, name), list(s)).mean() for s in (mine, others)]
        assert hits[0] <= hits[1] + (0.01 if name == "income" else 0.03)
        told = told_numbers(codec, name)
        assert not told & {plain_values(shown, name).min(), plain_values(shown, name).max()}
    text = json.dumps(codec.to_json())
    jobs, times = np.unique(plain_values(shown, "job"), return_counts=True)
    assert not [j for j, n in zip(jobs, times, strict=True) if n < 5 and f'"{j}"' in text]
    shares = [s for c in codec.learnt for s in c.shares] + [c[-1] for c in codec.conditions.cells]
    assert not [s for s in shares if 0 < s * (rows if s < 1 else 1) < 4]


def test_too_few_people_are_refused_and_the_way_out_is_named() -> None:
    with pytest.raises(DataError, match=r"a training split of 4 rows; expected at least 5.*codec.rare: keep"):
        fitted(patients(4, 0), PATIENTS)
    batch = visits(3)
    with pytest.raises(DataError, match=r"a training split of 3 entities; expected at least 5"):
        fitted(batch, VISITS)


def test_facts_that_many_rows_hold_stay_exact() -> None:
    rng = np.random.default_rng(0)
    product = rng.integers(0, 40, 3_000)
    schema = Schema(
        kind="tabular", fields=(Category(name="product"), Number(name="price", decimals=2), Integer(name="n"))
    )
    price = (rng.integers(100, 9_999, 40) / 100).round(2)[product]
    batch = pa.RecordBatch.from_arrays(
        [pa.array([f"p{p}" for p in product]), pa.array(price), pa.array(rng.integers(1, 9, 3_000))],
        schema=schema.arrow(),
    )
    codec = fitted(batch, schema)
    back = codec.decode(codec.encode(batch, "tokens"), "tokens", rng)
    assert back.column("price").equals(batch.column("price")) and len(codec.relations.lookups) == 1


def test_texts_and_series_are_protected_by_entity() -> None:
    schema = Schema(kind="text", fields=(Text(name="text"), Identifier(name="author")), entity=("author",))
    texts = ["a quiet text", "another text", "text once more"] * 40 + ["\u0416\u0416 text"] * 30
    authors = [f"w{i % 20}" for i in range(120)] + ["the only one"] * 30
    codec = fit(
        CODECS["text"],
        schema,
        [pa.RecordBatch.from_arrays([pa.array(texts), pa.array(authors)], schema=schema.arrow())],
    )
    assert ord("t") in codec.to_json()["points"] and 0x416 not in codec.to_json()["points"]

    schema = Schema(
        kind="series",
        fields=(Series(name="s", length=6, decimals=2), Identifier(name="who")),
        entity=("who",),
    )
    rng = np.random.default_rng(0)
    values = rng.normal(100, 9, (300, 6)).round(2)
    values[:60] = 555.55  # one person's windows
    who = ["outlier"] * 60 + [f"p{i % 30}" for i in range(240)]
    batch = pa.RecordBatch.from_arrays([pa.array(values.tolist()), pa.array(who)], schema=schema.arrow())
    channel = fit(CODECS["series"], schema, [batch]).to_json()["channels"]["s"]
    low, high = values[60:].min(), values[60:].max()
    assert channel["axis"]["high"] < 555_00 and channel["axis"]["low"] != round(low * 100)
    assert not set(np.array(channel["score"]["knots"]) + channel["axis"]["low"]) & {
        low * 100,
        high * 100,
        55555,
    }


def published(codec: Codec, recipe: Recipe, folder: str, origin: dict[str, Any]) -> Bundle:
    return save_bundle(folder, recipe=recipe, codec=codec, weights={}, metrics={}, origin=origin)


@pytest.fixture
def dataset(tmp_path: Any) -> Dataset:
    batch, attempt = visits(), new_attempt()
    part = write_part(str(tmp_path), pa.Table.from_batches([batch]), split="train", name="t", attempt=attempt)
    return commit(str(tmp_path), name="visits", schema=VISITS, parts=[part], origin={})


def test_what_few_have_is_found_in_a_bundle_before_it_is_published(dataset: Dataset, tmp_path: Any) -> None:
    recipe = RECIPES["tabular_trees"]()
    batch, schema = visits(), dataset.schema
    clean = published(fitted(batch, schema), recipe, str(tmp_path / "clean"), {})
    check_held(clean, dataset)
    # a codec that keeps all of them, in a bundle that says it protects
    leaky = published(fitted(batch, schema, KEEP), recipe, str(tmp_path / "leaky"), {})
    found = few_held(leaky, dataset, 5)
    assert {("insured", "values"), ("cost", "numbers")} <= found.keys()
    assert any(what == "pairs" for _, what in found)
    with pytest.raises(PrivacyError, match=r"insured: \d+ values") as caught:
        check_held(leaky, dataset)
    assert caught.value.exit_code == 5 and "756." not in str(caught.value)
    # a person written into another file, and an edge that is one person's cost
    person = batch.column("insured").drop_null()[0].as_py()
    planted = published(fitted(batch, schema), recipe, str(tmp_path / "planted"), {"examples": person})
    with pytest.raises(PrivacyError, match="insured: 1 values"):
        check_held(planted, dataset)
    raw = fitted(batch, schema).to_json()
    costs = sorted(singles(batch, schema, "cost"))
    raw["columns"]["cost"]["axis"]["high"] = round(costs[-1] * 100)
    edited = published(TabularCodec.from_json(schema, raw), recipe, str(tmp_path / "edited"), {})
    assert few_held(edited, dataset, 5).keys() == {("cost", "numbers")}
    kept = recipe.model_copy(update={"codec": KEEP})
    check_held(published(fitted(batch, schema, KEEP), kept, str(tmp_path / "kept"), {}), dataset)


def test_what_a_parent_is_counts_once_for_all_of_its_children() -> None:
    blank: dict[str, Any] = {"schema_": None, "key": (), "order": None, "rows": 9}
    parent = Node(
        name="people", parent=None, link=(), own=(Date(name="born"),), children=("visits",), **blank
    )
    child = Node(
        name="visits", parent="people", link=("who",), own=(Integer(name="n"),), children=(), **blank
    )
    schema = flat_schema({"people": parent, "visits": child}, child)
    assert schema.entity == (FAMILY,) and schema.field(FAMILY).kind == "identifier"
    batch, rng = visits(), np.random.default_rng(0)
    who = np.unique([str(w) for w in batch.column("insured").to_pylist()], return_inverse=True)[1]
    born, n = batch.column("born"), pa.array(rng.integers(0, 9, len(batch)))
    made = {"people.born": born, "position": n, "n": n, "previous n": n, FAMILY: pa.array(who)}
    flat = pa.RecordBatch.from_pydict({name: made[name] for name in schema.names})
    whole = {"calendar": False}  # as related tables are learnt
    configs = (CodecConfig(**whole), KEEP.model_copy(update=whole))
    told, kept = (told_numbers(fitted(flat, schema, c), "people.born") for c in configs)
    days = set(plain_values(batch, "born").tolist())
    assert len(kept & days) > 100 and len(told & days) < 10
