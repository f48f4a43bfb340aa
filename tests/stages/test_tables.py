"""Related tables: every key is there, counts and columns follow the parents, events are in order."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import genpipe
from genpipe.bundle import Bundle
from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.errors import ConflictError, DataError, SpecError, UsageError
from genpipe.fields import Integer, Number, Timestamp
from genpipe.progress import silent
from genpipe.related.draw import _squeezed, children
from genpipe.related.generate import GeneratedTables
from genpipe.related.nodes import Order
from genpipe.related.rows import as_it_is
from genpipe.related.spec import load_tables
from genpipe.related.train import open_tables

SEGMENTS, MEAN_ORDERS, MEAN_AMOUNT = ("basic", "plus", "vip"), (1.0, 3.0, 6.0), (10.0, 50.0, 200.0)


def shop(customers: int = 1500) -> dict[str, pd.DataFrame]:
    """The segment decides how many orders there are and what they cost; visits follow the age."""
    rng = np.random.default_rng(0)
    segment = rng.choice(3, customers, p=[0.5, 0.3, 0.2])
    age = rng.integers(18, 80, customers)
    ids = np.array([f"c{i:04d}" for i in rng.permutation(customers)])
    counts, visits = rng.poisson(np.array(MEAN_ORDERS)[segment]), rng.poisson(np.where(age < 40, 4, 1))
    who = np.repeat(np.arange(customers), counts)
    level = np.array(MEAN_AMOUNT)[segment[who]]
    amount = (level * rng.lognormal(0, 0.2, len(who))).round(2)
    day = np.datetime64("2023-01-01") + rng.integers(0, 700, len(who))
    came = np.repeat(np.arange(customers), visits)
    orders = pd.DataFrame(
        {"order": np.arange(len(who)) + 1, "customer": ids[who], "date": day, "amount": amount}
    ).sample(frac=1, random_state=0)
    return {
        "customers": pd.DataFrame({"id": ids, "segment": np.array(SEGMENTS)[segment], "age": age}),
        "orders": orders,
        "visits": pd.DataFrame(
            {"customer": ids[came], "device": np.where(age[came] < 40, "phone", "desk")}
        ).sample(frac=1, random_state=1),
    }


def events(entities: int = 200, length: int = 12) -> pd.DataFrame:
    """Each entity's level wanders: what comes next is near what was before. All are equally long."""
    rng = np.random.default_rng(0)
    level = np.empty((entities, length))
    level[:, 0] = rng.normal(0, 1, entities)
    for t in range(1, length):
        level[:, t] = 0.9 * level[:, t - 1] + rng.normal(0, 0.44, entities)
    gap = rng.exponential(3600, (entities, length)).round().astype(int)
    time = np.datetime64("2024-03-01T00:00:00") + (gap.cumsum(1) + rng.integers(0, 10**6, (entities, 1)))
    who = np.repeat(np.arange(entities) + 100, length)
    rows = pd.DataFrame({"time": time.ravel(), "user": who, "mood": level.ravel().round(3)})
    return rows.sample(frac=1, random_state=0)


def spec_of(folder: Path, frames: dict[str, pd.DataFrame], **roles: dict[str, str]) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    tables = {name: {"source": str(folder / f"{name}.csv"), **roles.get(name, {})} for name in frames}
    return {"name": "shop", "tables": tables}


ROLES = {
    "customers": {"key": "id"},
    "orders": {"key": "order", "parent": "customers", "foreign_key": "customer", "order_by": "date"},
    "visits": {"parent": "customers", "foreign_key": "customer"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        spec = spec_of(folder, shop(), **ROLES)
        first = genpipe.train_tables(spec)
        assert genpipe.train_tables(spec) == first
        return first.uri


@pytest.fixture(scope="module")
def made(trained: str, tmp_path_factory: pytest.TempPathFactory) -> GeneratedTables:
    return genpipe.generate_tables(
        trained, rows=1500, workers=0, output=str(tmp_path_factory.mktemp("out") / "a")
    )


def test_every_foreign_key_is_a_parents_key(made: GeneratedTables) -> None:
    tables = {name: data.pandas() for name, data in made.items()}
    assert {n: list(t.columns) for n, t in tables.items()} == {n: list(t) for n, t in shop(30).items()}
    assert len(tables["customers"]) == 1500 and tables["customers"].id.is_unique
    assert sorted(tables["orders"].order) == list(range(1, len(tables["orders"]) + 1))
    for child in ("orders", "visits"):
        assert tables[child].customer.isin(tables["customers"].id).all()
        assert tables[child].customer.nunique() < 1500  # some have none
    assert not tables["customers"].id.isin(shop()["customers"].id).any()
    told = json.loads((Path(str(made)) / "tables.json").read_text())["tables"]
    assert told["visits"]["parent"] == "customers" and told["visits"]["foreign_key"] == "customer"
    assert told["orders"]["fingerprint"] == Dataset(f"{made}/orders").fingerprint


def test_counts_and_columns_of_children_follow_their_parents(made: GeneratedTables) -> None:
    real, fake = shop(), {name: data.pandas() for name, data in made.items()}
    # the best customers' orders are shrunk by the penalty that keeps customers unknown: docs/privacy.md
    for child, by, tolerance in (("orders", "segment", 0.7), ("visits", "young", 0.5)):
        means = {}
        for kind, tables in (("real", real), ("fake", fake)):
            people = tables["customers"].assign(young=tables["customers"].age < 40).set_index("id")
            counts = tables[child].customer.value_counts().reindex(people.index, fill_value=0)
            means[kind] = counts.groupby(people[by]).mean()
            assert abs((counts == 0).groupby(people[by]).mean() - np.exp(-means[kind])).max() < 0.1
        assert (means["real"] - means["fake"]).abs().max() < tolerance, means
    joined = fake["orders"].merge(fake["customers"], left_on="customer", right_on="id")
    assert np.allclose(joined.groupby("segment").amount.median(), MEAN_AMOUNT, rtol=0.15)
    usual = joined.segment.map(dict(zip(SEGMENTS, MEAN_AMOUNT, strict=True)))
    assert (np.abs(np.log(joined.amount / usual)) < 0.8).mean() > 0.9  # four standard deviations
    device = fake["visits"].merge(fake["customers"], left_on="customer", right_on="id")
    assert ((device.age < 40) == (device.device == "phone")).mean() > 0.9


def test_children_are_in_the_order_of_their_date(made: GeneratedTables) -> None:
    orders, real = made["orders"].pandas(), shop()["orders"]
    orders["date"] = pd.to_datetime(orders.date)
    steps = orders.groupby("customer", sort=False).date.diff().dropna()
    assert (steps >= pd.Timedelta(0)).all() and steps.nunique() > 50
    assert orders.date.min() >= real.date.min() and orders.date.max() <= real.date.max()
    assert abs((orders.date - real.date.min()).dt.days.mean() - 350) < 50


def test_dates_do_not_pile_up_at_the_end(made: GeneratedTables) -> None:
    """Sums of drawn differences run past the last day of the data now and then."""
    fake, real = (
        pd.to_datetime(rows.date).sub(pd.Timestamp("2023-01-01")).dt.days
        for rows in (made["orders"].pandas(), shop()["orders"])
    )
    last = real.max()
    assert (real == last).mean() < 0.003 and (fake == last).mean() < 0.006  # cut to it: 0.07
    for days in (7, 30, 100):
        # fewer orders of those who have most of them, whose dates lie latest
        assert abs((fake > last - days).mean() - (real > last - days).mean()) < 0.05, days


@pytest.mark.parametrize(
    "field",
    [Number(name="at", decimals=2), Integer(name="at"), Timestamp(name="at", unit="ns")],
    ids=["number", "integer", "nanoseconds"],
)
def test_families_past_the_end_are_squeezed_in_order(field: Any) -> None:
    rng, size = np.random.default_rng(0), 10**18 if field.kind == "timestamp" else 100
    parent = np.repeat(np.arange(300), rng.integers(1, 9, 300))
    first = np.concatenate([[True], parent[1:] != parent[:-1]])
    gap = np.where(first, 0, rng.random(len(parent)) * size / 3).round()
    begin = (rng.random(300) * size).astype(np.int64)
    since = gap.cumsum() - gap.cumsum()[np.flatnonzero(first)][parent]
    exact = begin[parent] + since.astype(np.int64)
    order = Order(field=field, gap="", low=0, high=size)
    ticks = _squeezed(order, pa.chunked_array([order.values(exact)]), since, parent, 0)
    assert ticks.min() >= 0 and ticks.max() <= size and (ticks[first] == exact[first]).all()
    assert (np.diff(ticks)[~first[1:]] >= 0).all()
    whole = np.bincount(parent, exact > size) == 0
    assert 0.3 < whole.mean() < 0.8 and (ticks[whole[parent]] == exact[whole[parent]]).all()
    again = order.ticks(order.values(ticks))
    assert (np.diff(again)[~first[1:]] >= 0).all() and (again == size).mean() < 0.05


def test_same_seed_same_bytes_on_any_workers(
    trained: str, made: GeneratedTables, tmp_path: Path, ray_cluster: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genpipe.related.generate.JOB_ROWS", 2**10)
    few = genpipe.generate_tables(trained, rows=300, workers=0, output=str(tmp_path / "few"))
    ray = genpipe.generate_tables(trained, rows=300, workers=2, output=str(tmp_path / "ray"))
    other = genpipe.generate_tables(trained, rows=300, seed=1, workers=0, output=str(tmp_path / "other"))
    for name in few:
        assert few[name].fingerprint == ray[name].fingerprint != other[name].fingerprint
    assert few["orders"].pandas().order.is_unique
    again = genpipe.generate_tables(trained, rows=1500, output=str(made))
    assert {n: d.fingerprint for n, d in again.items()} == {n: d.fingerprint for n, d in made.items()}
    with pytest.raises(ConflictError, match="the output of another request"):
        genpipe.generate_tables(trained, rows=2, output=str(made))


def test_events_of_entities_are_sorted_and_remember(home: Path, tmp_path: Path) -> None:
    real = events()
    spec = spec_of(tmp_path, {"events": real}, events={"entity": "user", "order_by": "time"})
    spec["recipe"] = {"training": {"epochs": 15}}
    model = genpipe.train_tables(spec)
    fake = genpipe.generate_tables(model, rows=300, workers=0)["events"].pandas()
    assert list(fake.columns) == list(real.columns) and fake.user.nunique() == 300
    assert set(fake.user.value_counts()) == {12}  # all of the data are so long
    steps = fake.groupby("user").time.diff().dropna()
    widest = real.sort_values("time").groupby("user").time.diff().max()
    assert (steps >= pd.Timedelta(0)).all() and steps.max() <= widest

    def autocorrelation(rows: pd.DataFrame) -> float:
        rows = rows.sort_values(["user", "time"], kind="stable")
        before = rows.groupby("user").mood.shift()
        return float(rows.mood.corr(before))

    def hours(rows: pd.DataFrame) -> float:
        rows = rows.sort_values(["user", "time"], kind="stable")
        return rows.groupby("user").time.diff().dt.total_seconds().mean() / 3600

    assert autocorrelation(real) > 0.85 and abs(autocorrelation(fake) - autocorrelation(real)) < 0.15
    assert abs(hours(fake) / hours(real) - 1) < 0.2
    assert abs(fake.mood.std() / real.mood.std() - 1) < 0.2


def test_three_levels_and_a_table_of_keys_alone(home: Path, tmp_path: Path) -> None:
    rng, frames = np.random.default_rng(0), shop(400)
    items = frames["orders"].loc[np.repeat(frames["orders"].index, rng.integers(0, 3, len(frames["orders"])))]
    dear = np.where(items.amount > 30, "gold", "tin")
    frames = {
        "items": pd.DataFrame({"order": items["order"], "metal": dear}),
        "orders": frames["orders"],
        "customers": frames["customers"][["id"]],
    }
    roles = ROLES | {"items": {"parent": "orders", "foreign_key": "order"}}
    made = genpipe.generate_tables(genpipe.train_tables(spec_of(tmp_path, frames, **roles)), workers=0)
    items, orders, customers = (made[n].pandas() for n in ("items", "orders", "customers"))
    assert len(customers) == 400 and list(customers.columns) == ["id"] and list(made) == list(made.datasets)
    assert orders.customer.isin(customers.id).all() and items.order.isin(orders.order).all()
    assert items.order.value_counts().max() == 2
    both = items.merge(orders, on="order")
    assert ((both.amount > 30) == (both.metal == "gold")).mean() > 0.85


def test_families_share_a_split(trained: str) -> None:
    models = open_tables(trained).models.items()
    runs = {n: json.loads((Path(uri) / "origin.json").read_text()) for n, uri in models}
    flat = {name: Dataset(run["dataset_uri"]) for name, run in runs.items()}
    real = shop()
    counts = {s: flat["customers"].pandas(s)["children of orders"].sum() for s in ("train", "holdout")}
    assert counts == {s: flat["orders"].rows(s) for s in counts}
    assert sum(counts.values()) == len(real["orders"])
    orders = flat["orders"].pandas("train")
    assert (orders.position == 1).sum() == (flat["customers"].pandas("train")["children of orders"] > 0).sum()
    assert (orders["previous amount"].isna() == (orders.position == 1)).all()
    same = orders["previous amount"].shift(-1)[(orders.position.shift(-1) > 1)]
    assert (same == orders.amount[same.index]).all()


@pytest.mark.parametrize(
    ("roles", "match"),
    [
        (
            {"orders": {"parent": "custmers"}},
            r"orders.parent: found unknown table 'custmers'; .* mean 'customers'",
        ),
        ({"customers": {}}, r"orders.parent: found 'customers', a table without a key"),
        ({"orders": {"parent": "customers"}}, "orders.foreign_key: missing; expected the column that holds"),
        ({"orders": {"foreign_key": "customer"}}, "orders.parent: missing"),
        ({"visits": {"key": "customer", "entity": "customer"}}, "found 'customer', which is the key, too"),
        ({"visits": ROLES["visits"] | {"entity": "device"}}, "found both 'entity' and 'parent'"),
        ({"customers": {"key": "id", "order_by": "age"}}, "order_by: found in a table of single rows"),
        ({"customers": {"key": "id", "kee": "x"}}, r"customers.kee: unknown key; .*did you mean 'key'"),
        (
            {"customers": {"key": "id", "parent": "orders", "foreign_key": "age"}},
            "found a circle of parents: (customers -> orders -> customers|orders -> customers -> orders)",
        ),
        ({"visits": ROLES["visits"] | {"recipe": "tabular_gan"}}, "visits.recipe: found family 'gan'"),
        ({"visits": ROLES["visits"] | {"recipe": "image_gan"}}, "found a recipe for image data"),
    ],
)
def test_specs_that_contradict_themselves(home: Path, tmp_path: Path, roles: dict, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        genpipe.train_tables(spec_of(tmp_path, shop(30), **(ROLES | roles)))
    assert not home.exists() or not list(home.rglob("*.parquet"))


def test_a_spec_file_is_answered_with_its_lines(home: Path, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("name: shop\ntables:\n  orders:\n    source: a.csv\n    parent: b\n")
    with pytest.raises(SpecError, match=r"(?s)line 3: tables.orders.for.*line 5: tables.orders.par"):
        genpipe.train_tables(tmp_path / "shop.yaml")


def broken(name: str, **columns: object) -> dict[str, pd.DataFrame]:
    """The shop with a few values of one table changed: column -> {row: value}."""
    frames = {n: f.reset_index(drop=True) for n, f in shop(60).items()}
    for column, values in columns.items():
        frames[name][column] = frames[name][column].astype(object)
        for row, value in dict(values).items():  # type: ignore[call-overload]
            frames[name].loc[row, column] = value
    return frames


@pytest.mark.parametrize(
    ("frames", "roles", "match"),
    [
        (
            broken("orders", customer={3: "c9999", 5: "c9998"}),
            {},
            r"orders.csv:row 5:customer: 'c9999', no key of 'customers', in one of 2 such .*orphans: drop",
        ),
        (
            broken("customers", id={4: "c0001", 9: "c0001"}),
            {},
            r"customers.csv:row \d+:id: key 'c0001' for [23] rows, and 1 such keys",
        ),
        (
            broken("visits", customer={7: None}),
            {"visits": {"entity": "customer"}},
            r"visits.csv:row 9:customer: a missing entity",
        ),
        (broken("orders", date={2: None}), {}, r"orders.csv:row 4:date: a missing order_by"),
        (
            shop(60),
            {"customers": {"key": "ident"}},
            r"customers.key: found 'ident', which is no column; .*one of id, seg",
        ),
        (
            shop(60),
            {"orders": ROLES["orders"] | {"foreign_key": "custmer"}},
            "orders.foreign_key: found 'custmer', which is no column",
        ),
        (shop(60), {"orders": ROLES["orders"] | {"order_by": "day"}}, "orders.order_by: found 'day', which"),
        (
            shop(60),
            {"visits": ROLES["visits"] | {"order_by": "device"}},
            "order_by: 'device' is a column of category",
        ),
        (shop(15), {}, "15 rows or entities; expected at least 20"),
    ],
)
def test_rows_and_keys_that_do_not_agree(
    home: Path, tmp_path: Path, frames: dict[str, pd.DataFrame], roles: dict, match: str
) -> None:
    with pytest.raises((DataError, UsageError), match=match):
        genpipe.train_tables(spec_of(tmp_path, frames, **(ROLES | roles)))
    assert not list(home.rglob("runs")) and not list(home.rglob("tables"))


def test_orphans_are_dropped_if_asked(home: Path, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, broken("orders", customer={3: "c9999"}), **ROLES) | {"orphans": "drop"}
    spec["recipe"] = "tabular_trees"
    model = genpipe.train_tables(spec)
    assert next(n.rows for n in model.nodes if n.name == "orders") == len(shop(60)["orders"]) - 1
    made = genpipe.generate_tables(model, rows=50, workers=0)
    assert made["orders"].pandas().customer.isin(made["customers"].pandas().id).all()


def test_key_and_order_are_no_target(home: Path, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, shop(60), **ROLES)
    fields = [("order", "integer"), ("customer", "category"), ("date", "date"), ("amount", "number")]
    lines = [f"  - {{name: {n}, kind: {k}}}" for n, k in fields]
    (tmp_path / "orders.yaml").write_text("\n".join(["kind: tabular", "target: customer", "fields:", *lines]))
    spec["tables"]["orders"]["schema"] = str(tmp_path / "orders.yaml")
    with pytest.raises(UsageError, match=r"orders.foreign_key: 'customer', which is the target"):
        genpipe.train_tables(spec)


def test_what_is_no_model_of_tables(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no tables.json; expected a folder `genpipe train` made"):
        genpipe.generate_tables(str(tmp_path))


def test_the_example_is_a_spec_and_the_command_line_takes_one(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = Path(__file__).parents[2] / "examples" / "tables"
    titanic = load_tables(examples / "titanic.yaml")
    assert list(titanic.tables) == ["passengers"]
    assert as_it_is(titanic, "passengers", silent).rows() == 1309  # what it names is there to be read
    example = load_tables(examples / "shop.yaml")
    assert list(example.tables) == ["customers", "orders", "products", "items", "visits"]
    spec = spec_of(tmp_path, shop(60), **ROLES) | {"recipe": "tabular_trees"}
    (tmp_path / "shop.yaml").write_text(json.dumps(spec))
    assert execute(["train-tables", str(tmp_path / "shop.yaml")]) == 0
    model = re.findall(r"^model +(.*)$", capsys.readouterr().out, re.MULTILINE)[0]
    assert execute(["generate-tables", model, "--rows", "25", "--output", str(tmp_path / "out")]) == 0
    assert Dataset(str(tmp_path / "out" / "customers")).rows() == 25
    assert "customers  25 rows" in capsys.readouterr().out
    assert execute(["generate-tables", str(tmp_path / "nothing")]) == 3


@pytest.mark.parametrize("recipe", ["tabular_autoregressive", "tabular_any_order", "tabular_trees"])
def test_parents_unlike_any_that_had_children(home: Path, tmp_path: Path, recipe: str) -> None:
    """A value is missing that no parent with children lacks; the row is made all the same."""
    frames = {n: f.reset_index(drop=True) for n, f in shop(80).items()}
    childless = ~frames["customers"].id.isin(frames["orders"].customer)
    frames["customers"]["age"] = frames["customers"].age.astype("Int64").mask(childless)
    del frames["visits"]
    roles = ROLES | {"orders": ROLES["orders"] | {"recipe": recipe}}
    model = genpipe.train_tables(spec_of(tmp_path, frames, **roles))
    node = next(n for n in model.nodes if n.name == "orders")
    told = pa.table(
        {
            "customers.segment": pa.array(["vip", "basic"]),
            "customers.age": pa.array([None, 30], pa.int64()),
            "customers.children of orders": pa.array([3, 0]),
        }
    )
    rows, parent = children(node, Bundle.open(model.models["orders"]), told, np.array([3, 0]), seed=0)
    assert parent.tolist() == [0, 0, 0] and rows.num_rows == 3
    assert rows["date"].to_pylist() == sorted(rows["date"].to_pylist()) and not rows["amount"].null_count


def test_events_ordered_by_a_number_of_unequal_length(home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    who = np.repeat([f"u{i}" for i in range(60)], rng.integers(1, 9, 60))
    notes = [f"n{i}" for i in range(len(who))]
    rows = pd.DataFrame({"who": who, "at": rng.random(len(who)).round(3), "note": notes})
    spec = spec_of(tmp_path, {"steps": rows}, steps={"entity": "who", "order_by": "at"})
    spec["recipe"] = "tabular_trees"
    made = genpipe.generate_tables(genpipe.train_tables(spec), workers=0)["steps"].pandas()
    assert list(made.columns) == ["who", "at", "note"] and made.who.nunique() == 60
    assert (made.groupby("who", sort=False)["at"].diff().dropna() >= 0).all()
    assert np.allclose(made["at"], made["at"].round(3), atol=0) and made["at"].between(0, 1).all()
    assert made.who.value_counts().between(1, 8).all()
