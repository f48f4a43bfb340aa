"""Rows a user brings: gaps are filled to fit, the unusual is found; and conditions without rejection."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import genpipe
from genpipe.bundle import Bundle
from genpipe.bundle.complete import explain_rows
from genpipe.bundle.floor import floors
from genpipe.errors import DataError, UsageError
from genpipe.schema import Schema

ROWS = 3000
CITIES = ("Bonn", "Ulm", "Jena", "Kiel")


def people() -> pd.DataFrame:
    """The city decides size and, mostly, the class; the plan follows the class."""
    rng = np.random.default_rng(0)
    city = rng.choice(4, ROWS, p=[0.4, 0.3, 0.25, 0.05])
    size = np.round(10.0 * city + rng.normal(0, 1, ROWS), 2)
    vip = (rng.random(ROWS) < np.array([0.1, 0.4, 0.6, 0.9])[city]).astype(int)
    plan = np.where(rng.random(ROWS) < 0.9, np.array(["free", "paid"])[vip], "trial")
    return pd.DataFrame(
        {
            "id": [f"p{i:05d}" for i in range(ROWS)],
            "plan": plan,
            "city": np.array(CITIES)[city],
            "size": np.where(rng.random(ROWS) < 0.1, np.nan, size),
            "vip": np.array(["no", "yes"])[vip],
        }
    )


def trained(folder: Path, recipe: dict) -> str:
    people().to_csv(folder / "people.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        return genpipe.train(genpipe.ingest(str(folder / "people.csv"), target="vip"), recipe=recipe).uri


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    recipe = {"base": "tabular_any_order", "training": {"epochs": 25, "batch_size": 64, "ema": 0.99}}
    return trained(tmp_path_factory.mktemp("people"), recipe)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return trained(tmp_path_factory.mktemp("fixed"), {"training": {"epochs": 10}})


def test_any_column_is_a_condition_and_shapes_all_others(model: str) -> None:
    rows = Bundle.open(model).sample(4000, conditions={"city": "Kiel"}).to_pandas()
    assert set(rows.city) == {"Kiel"}  # 5 % of the training rows: drawn without rejection
    assert abs(rows["size"].mean() - 30) < 2.5 and abs((rows.vip == "yes").mean() - 0.9) < 0.08
    two = Bundle.open(model).sample(2000, conditions={"plan": "paid", "size": 20.0}).to_pandas()
    assert set(two["size"]) == {20.0} and set(two.plan) == {"paid"}
    assert (two.city == "Jena").mean() > 0.9 and (two.vip == "yes").mean() > 0.85
    gone = Bundle.open(model).sample(500, conditions={"size": None}).to_pandas()
    assert gone["size"].isna().all() and set(gone.city) == set(CITIES)


def test_rows_under_conditions_are_the_same_in_any_slice(model: str) -> None:
    bundle, wanted = Bundle.open(model), {"city": "Ulm", "vip": "yes"}
    whole = bundle.sample(500, seed=3, conditions=wanted)
    assert bundle.sample(20, seed=3, conditions=wanted).equals(whole.slice(0, 20))
    assert not bundle.sample(500, seed=4, conditions=wanted).equals(whole)


def test_shares_rebalance_a_column(model: str) -> None:
    bundle = Bundle.open(model)
    mixed = bundle.sample(4000, conditions={"city": {"Kiel": 3, "Bonn": 1}}).to_pandas()
    assert (
        mixed.city.value_counts().to_dict() == {"Kiel": 3072, "Bonn": 928}
        or abs((mixed.city == "Kiel").mean() - 0.75) < 0.01
    )
    assert mixed.groupby("city")["size"].mean()["Kiel"] > 25
    told = bundle.sample(4000, conditions={"vip": {"yes": 0.9, "no": 0.1}}).to_pandas()
    assert abs((told.vip == "yes").mean() - 0.9) < 0.01


def test_a_low_temperature_draws_the_likely_and_a_high_one_the_rare(model: str, home: Path) -> None:
    rare = [
        (genpipe.generate(model, rows=3000, temperature=t, workers=0).pandas().city == "Kiel").mean()
        for t in (0.4, None, 3.0)
    ]
    assert rare[0] < 0.02 < rare[1] < 0.09 < rare[2]


def test_a_family_without_temperature_says_so(image_bundle: str, home: Path) -> None:
    with pytest.raises(UsageError, match=r"temperature: 0\.5 for a generator of family gan"):
        genpipe.generate(image_bundle, rows=5, temperature=0.5)


@pytest.mark.parametrize(
    ("conditions", "match"),
    [
        ({"city": "Kjel"}, r"city: 'Kjel'; expected Bonn, Ulm, Jena, Kiel; did you mean 'Kiel'"),
        ({"size": 1e6}, r"size: 1000000.0; expected -?\d+\.\d+ to \d+\.\d+, None"),
        ({"city": None}, r"city: None; expected Bonn"),
        ({"city": {"Bonn": -1}}, "expected values and their shares, 0 or more"),
        ({"vip": {"yes": 0}}, "expected values and their shares"),
        ({"vip": {"maybe": 1}}, "vip: 'maybe'; expected one of no, yes"),
        ({"id": "p1"}, "id: a column of identifier; expected a choice, number or date"),
    ],
)
def test_impossible_conditions_are_refused(model: str, conditions: dict, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Bundle.open(model).sample(5, conditions=conditions)


def test_a_fixed_order_says_what_it_cannot(fixed: str, home: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(fixed)
    kiel = bundle.sample(300, conditions={"city": "Kiel"}).to_pandas()  # drawn until they fit
    assert set(kiel.city) == {"Kiel"} and abs(kiel["size"].mean() - 30) < 3
    whole = bundle.block_rows  # over whole blocks shares are exact; plan is the first column
    paid = bundle.sample(whole, conditions={"plan": {"paid": 1, "free": 1}}).to_pandas()
    assert abs((paid.plan == "paid").mean() - 0.5) < 0.01
    assert (paid[paid.plan == "paid"].vip == "yes").mean() > 0.9
    with pytest.raises(UsageError, match="train with recipe 'tabular_any_order'"):
        bundle.sample(5, conditions={"city": {"Bonn": 1, "Ulm": 1}})
    gaps = people().head(50)
    gaps.loc[3, "city"] = np.nan
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    with pytest.raises(UsageError, match=r"row 4: 'size' given, 'city' not.*'tabular_any_order'"):
        genpipe.impute(fixed, str(tmp_path / "gaps.csv"))


def test_a_missing_target_is_classified_by_any_table_model(fixed: str, home: Path, tmp_path: Path) -> None:
    people().drop(columns="vip").dropna().to_csv(tmp_path / "new.csv", index=False)
    filled = genpipe.impute(fixed, str(tmp_path / "new.csv")).pandas()
    known = filled[filled.plan != "trial"]
    assert ((known.plan == "paid") == (known.vip == "yes")).mean() > 0.95


def test_imputed_values_fit_and_given_ones_stay(model: str, home: Path, tmp_path: Path) -> None:
    rng, true = np.random.default_rng(1), people()
    gaps = true.copy()
    for name in ("city", "size", "vip"):
        gaps.loc[rng.random(ROWS) < 0.3, name] = np.nan
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    made = genpipe.impute(model, str(tmp_path / "gaps.csv"), seed=1)
    filled = made.pandas()
    assert len(filled) == ROWS and not filled.drop(columns="id").isna().any().any()
    for name in gaps.columns:
        there = gaps[name].notna()
        assert (filled[name][there] == gaps[name][there]).all()
    lost = gaps.city.isna() & gaps["size"].notna()
    assert (filled.city[lost] == true.city[lost]).mean() > 0.95  # the size tells the city
    lost = gaps["size"].isna() & gaps.city.notna()
    right = true.city[lost].map({c: 10.0 * i for i, c in enumerate(CITIES)})
    assert (filled["size"][lost] - right).abs().mean() < 2
    lost = gaps.vip.isna() & gaps.plan.isin(["free", "paid"])
    assert ((filled.plan == "paid") == (filled.vip == "yes"))[lost].mean() > 0.95
    again = genpipe.impute(model, str(tmp_path / "gaps.csv"), seed=1, output=str(tmp_path / "again"))
    assert again.fingerprint == made.fingerprint
    frame = genpipe.impute(model, pd.read_csv(tmp_path / "gaps.csv"), seed=1, name="of-a-frame")
    assert frame.pandas().equals(filled)
    other = genpipe.impute(model, str(tmp_path / "gaps.csv"), seed=2)
    assert other.fingerprint != made.fingerprint


def test_seed_rows_give_whole_rows(model: str, home: Path, tmp_path: Path) -> None:
    pd.DataFrame({"city": ["Kiel"] * 40 + ["Bonn"] * 40, "shoe": range(80)}).to_csv(
        tmp_path / "seeds.csv", index=False
    )
    rows = genpipe.impute(model, str(tmp_path / "seeds.csv")).pandas()
    assert list(rows.columns) == ["id", "plan", "city", "size", "vip"]
    assert list(rows.city) == ["Kiel"] * 40 + ["Bonn"] * 40
    assert rows["size"][:40].mean() > 25 > 5 > rows["size"][40:].mean()
    assert rows.id.is_unique


def test_unusual_rows_score_low_and_name_the_column(model: str, home: Path, tmp_path: Path) -> None:
    rows = people().head(400)
    rows.loc[0, ["city", "size"]] = ["Bonn", 30.0]  # each usual, together never
    rows.loc[1, "size"] = 5000.0
    rows.loc[2, "city"] = "Rome"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    scored = genpipe.likelihood(model, str(tmp_path / "rows.csv")).pandas()
    assert list(scored.columns) == [*rows.columns, "log_probability", "least_likely"]
    assert np.isfinite(scored.log_probability).all()
    assert genpipe.likelihood(model, rows, name="of-a-frame").pandas().equals(scored)
    assert list(scored.least_likely[:3]) == ["size", "size", "city"]
    assert (scored.log_probability[:3] < scored.log_probability[3:].quantile(0.02)).all()
    # over many rows the model must prefer the truth to rows whose sizes were shuffled
    wrong = people().head(400)
    wrong["size"] = wrong["size"].sample(frac=1, random_state=0).to_numpy()
    wrong.to_csv(tmp_path / "wrong.csv", index=False)
    mixed = genpipe.likelihood(model, str(tmp_path / "wrong.csv")).pandas().log_probability
    assert np.median(mixed) < np.median(scored.log_probability[3:]) - 1


def test_what_a_generator_never_makes_is_not_told_from_what_it_seldom_makes(
    model: str, home: Path, tmp_path: Path
) -> None:
    """No score proves that nobody had a value: a size of another city is scored like one that nobody has."""
    ulm = pd.DataFrame({"city": ["Ulm", "Jena", "Kiel", "Rome", "Paris"], "size": [10.0] * 5})
    beyond = pd.DataFrame({"city": ["Ulm"] * 3, "size": [38.0, 99.0, -1e9]})
    pd.concat([ulm, beyond]).to_csv(tmp_path / "asked.csv", index=False)
    told = genpipe.likelihood(model, str(tmp_path / "asked.csv")).pandas().log_probability
    bundle = Bundle.open(model)
    least, schema = floors(bundle), pa.schema([("city", pa.string()), ("size", pa.float64())])
    asked = pa.Table.from_pandas(pd.concat([ulm, beyond]), schema, preserve_index=False).combine_chunks()
    raw = explain_rows(bundle, asked.to_batches()[0])
    assert least["city"] == pytest.approx(math.log(5 / int(bundle.origin["rows"])))
    assert raw["city"].to_pylist()[3] == raw["size"].to_pylist()[7] == -math.inf
    assert told[3] == told[4] and told[0] > told[3] + 2
    by_size = told[5:].to_numpy()
    assert np.ptp(by_size) < 1e-9, "38 is a size of Kiel, and 99 of nobody"


def test_wrong_rows_are_refused_before_anything_is_written(model: str, home: Path, tmp_path: Path) -> None:
    pd.DataFrame({"shoe": [1, 2]}).to_csv(tmp_path / "shoes.csv", index=False)
    with pytest.raises(UsageError, match="columns shoe; expected some of id, plan, city, size, vip"):
        genpipe.impute(model, str(tmp_path / "shoes.csv"))
    pd.DataFrame({"id": ["a", "b"]}).to_csv(tmp_path / "ids.csv", index=False)
    with pytest.raises(UsageError, match="no learnt column among id; expected some of plan, city, size, vip"):
        genpipe.likelihood(model, str(tmp_path / "ids.csv"))
    pd.DataFrame({"size": ["big", "small"]}).to_csv(tmp_path / "words.csv", index=False)
    with pytest.raises(DataError, match=r"words.csv.*'big'.*number"):
        genpipe.likelihood(model, str(tmp_path / "words.csv"))
    assert not list(Path(home).rglob("generated-*.parquet"))


def test_pictures_cannot_be_imputed(image_bundle: str, home: Path, tmp_path: Path) -> None:
    pd.DataFrame({"label": ["a"]}).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(UsageError, match="a generator of image data; expected one of tables"):
        genpipe.impute(image_bundle, str(tmp_path / "x.csv"))


def test_gaps_are_filled_within_the_constraints(home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    low, city = rng.integers(0, 50, 1500), rng.integers(0, 12, 1500)
    frame = pd.DataFrame(
        {
            "low": low,
            "high": low + rng.integers(1, 20, 1500),
            "city": [f"c{i}" for i in city],
            "code": [f"k{i * 7}" for i in city],
            "state": [f"s{i // 4}" for i in city],
        }
    )
    frame.to_csv(tmp_path / "all.csv", index=False)
    plain = genpipe.ingest(str(tmp_path / "all.csv"), name="plain").schema
    schema = type(plain).model_validate(
        plain.model_dump()
        | {
            "constraints": [
                {"type": "inequality", "low": "low", "high": "high", "strict": True},
                {"type": "one_to_one", "columns": ["city", "code"]},
                {"type": "determines", "columns": ["city"], "target": "state"},
            ]
        }
    )
    data = genpipe.ingest(str(tmp_path / "all.csv"), schema=schema)
    recipe = {"base": "tabular_any_order", "training": {"epochs": 20, "batch_size": 64, "ema": 0.99}}
    model = genpipe.train(data, recipe=recipe)
    gaps = frame.astype(object).copy()
    for name in gaps.columns:
        gaps.loc[rng.random(1500) < 0.4, name] = None
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    filled = genpipe.impute(model, str(tmp_path / "gaps.csv")).pandas()
    assert not filled.isna().any().any()
    assert (filled.low < filled.high).all()
    assert (filled.city.str[1:].astype(int) * 7 == filled.code.str[1:].astype(int)).all()
    assert (filled.city.str[1:].astype(int) // 4 == filled.state.str[1:].astype(int)).mean() > 0.99
    for name in gaps.columns:
        there = gaps[name].notna()
        assert (filled[name][there].astype(str) == frame[name][there].astype(str)).all()
    scored = genpipe.likelihood(model, str(tmp_path / "all.csv")).pandas()
    assert np.isfinite(scored.log_probability).all()
    bad = {"low": [9, 3], "high": [2, 8], "city": ["c1"] * 2, "code": ["k7"] * 2, "state": ["s0"] * 2}
    pd.DataFrame(bad).to_csv(tmp_path / "bad.csv", index=False)
    kept = genpipe.impute(model, str(tmp_path / "bad.csv"))
    assert kept.manifest.origin["breaking"] == 1 and list(kept.pandas().low) == [9, 3]


def with_constraints(path: Path, *constraints: dict, target: str | None = None) -> Schema:
    plain = genpipe.ingest(str(path), name="plain", target=target).schema
    return Schema.model_validate(plain.model_dump() | {"constraints": list(constraints)})


QUICK = {"base": "tabular_any_order", "training": {"epochs": 12, "batch_size": 64, "ema": 0.99}}


def test_constraints_hold_under_conditions_on_numbers_in_bins(home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    low, net = rng.integers(0, 10_000, 2000), np.round(rng.gamma(2, 80, 2000), 2)
    frame = pd.DataFrame({"lo": low, "hi": low + rng.integers(0, 900, 2000), "net": net})
    frame["tax"] = np.round(net * rng.choice([0.07, 0.19], 2000), 2)
    frame["total"] = np.round(frame.net + frame.tax, 2)
    frame.to_csv(tmp_path / "bills.csv", index=False)
    schema = with_constraints(
        tmp_path / "bills.csv",
        {"type": "inequality", "low": "lo", "high": "hi"},
        {"type": "sum", "total": "total", "parts": ["net", "tax"]},
    )
    data = genpipe.ingest(str(tmp_path / "bills.csv"), schema=schema)
    bundle = Bundle.open(genpipe.train(data, recipe=QUICK).uri)
    rows = bundle.sample(1000, conditions={"lo": 5000, "net": 123.45}).to_pandas()
    assert set(rows.lo) == {5000} and set(rows.net) == {123.45}
    assert (rows.lo <= rows.hi).all() and np.allclose(rows.total, rows.net + rows.tax, atol=0.0051)
    frame.drop(columns=["total", "hi"]).head(100).to_csv(tmp_path / "parts.csv", index=False)
    made = genpipe.impute(bundle.uri, str(tmp_path / "parts.csv")).pandas()
    assert (made.lo == frame.lo[:100]).all() and (made.lo <= made.hi).all()
    assert np.allclose(made.total, frame.total[:100], atol=0.0051)


def test_combinations_protected_targets_with_gaps_and_files_without_one(home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    city = rng.integers(0, 9, 1500)
    frame = pd.DataFrame({"city": [f"c{i}" for i in city], "state": [f"s{i // 3}" for i in city]})
    frame.loc[:1, ["city", "state"]] = ["hermit", "nowhere"]
    frame["size"] = city + rng.normal(0, 0.2, 1500).round(2)
    frame["vip"] = np.where(city > 4, "yes", "no")
    frame.loc[rng.random(1500) < 0.3, "vip"] = None
    frame.to_csv(tmp_path / "rows.csv", index=False)
    tied = {"type": "combinations", "columns": ["city", "state"]}
    schema = with_constraints(tmp_path / "rows.csv", tied, target="vip")
    data = genpipe.ingest(str(tmp_path / "rows.csv"), schema=schema)
    recipe = QUICK | {"codec": {"rare": "protect", "rare_below": 5}}
    model = genpipe.train(data, recipe=recipe)
    made = genpipe.generate(model, rows=2000, workers=0).pandas()
    assert "hermit" not in set(made.city) and made.vip.isna().mean() > 0.2
    seen = set(zip(frame.city, frame.state, strict=True))
    assert set(zip(made.city, made.state, strict=True)) <= seen
    gaps = frame[2:].copy()
    gaps.loc[rng.random(len(gaps)) < 0.5, "state"] = None
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    filled = genpipe.impute(model, str(tmp_path / "gaps.csv")).pandas()
    assert not filled.isna().any().any()
    assert set(zip(filled.city, filled.state, strict=True)) <= seen
    for lost in (["vip"], []):
        frame[2:].drop(columns=lost).to_csv(tmp_path / f"score{len(lost)}.csv", index=False)
        scored = genpipe.likelihood(model, str(tmp_path / f"score{len(lost)}.csv")).pandas()
        assert np.isfinite(scored.log_probability).all() and scored.least_likely.nunique() > 1


def test_an_interrupted_imputation_runs_again(
    model: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genpipe.stages.rows import blocks

    people().drop(columns="vip").head(60).to_csv(tmp_path / "new.csv", index=False)
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "deliver", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            genpipe.impute(model, str(tmp_path / "new.csv"))
    assert genpipe.impute(model, str(tmp_path / "new.csv")).rows() == 60


def test_dates_as_python_has_them_are_conditions(home: Path, tmp_path: Path) -> None:
    days = pd.date_range("2020-01-01", periods=12).strftime("%Y-%m-%d")
    pd.DataFrame({"day": np.resize(days, 600), "n": np.arange(600) % 7}).to_csv(
        tmp_path / "d.csv", index=False
    )
    model = genpipe.train(genpipe.ingest(str(tmp_path / "d.csv")), recipe=QUICK)
    wanted = {"day": dt.date(2020, 1, 3), "n": np.int64(4)}
    rows = genpipe.generate(model, rows=20, conditions=wanted, workers=0).pandas()
    assert set(rows.day) == {dt.date(2020, 1, 3)} and set(rows.n) == {4}


def test_a_protected_outlier_is_gone_where_one_value_is_left(home: Path, tmp_path: Path) -> None:
    rows = {"v": [-999] * 2 + [7] * 598, "w": np.arange(600) % 5}
    pd.DataFrame(rows).to_csv(tmp_path / "v.csv", index=False)
    recipe = {"base": "tabular_trees", "codec": {"rare": "protect", "rare_below": 5}}
    model = genpipe.train(genpipe.ingest(str(tmp_path / "v.csv"), holdout=0.1), recipe=recipe)
    assert set(genpipe.generate(model, rows=50, workers=0).pandas().v) == {7}
    assert "999" not in (Path(model.uri) / "codec.json").read_text()
    assert "protected" not in Bundle.open(model.uri).origin  # a number of two people is told to nobody
