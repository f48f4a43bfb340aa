"""References beside the parent, and keys of several columns: exact, and related as in the data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genpipe
from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.errors import DataError, SpecError, UsageError
from genpipe.fields import Integer
from genpipe.related.generate import GeneratedTables, rows_of
from genpipe.related.nodes import Node, Reference
from genpipe.related.spec import load_tables
from genpipe.related.train import TrainedTables, open_tables
from genpipe.schema import Schema

KINDS, USUAL = np.array(["book", "game", "tool", "wine"]), np.array([8.0, 30.0, 60.0, 150.0])
TASTE = {"basic": [0.6, 0.25, 0.1, 0.05], "plus": [0.15, 0.5, 0.3, 0.05], "vip": [0.05, 0.05, 0.2, 0.7]}


def market(customers: int = 1200, products: int = 250) -> dict[str, pd.DataFrame]:
    """A customer's segment decides the kind of product, few products of a kind are bought by most, what is
    paid is near the product's price, and one item in ten is of no product and free.
    """
    rng = np.random.default_rng(0)
    segment = rng.choice(list(TASTE), customers, p=[0.5, 0.3, 0.2])
    orders = rng.poisson(2.5, customers)
    who = np.repeat(np.arange(customers), orders)
    items = rng.integers(1, 4, len(who))
    order = np.repeat(np.arange(len(who)), items)
    kind = rng.choice(4, products, p=[0.4, 0.3, 0.2, 0.1])
    price = (USUAL[kind] * rng.lognormal(0, 0.3, products)).round(2)
    fame = rng.pareto(1.1, products) + 0.05
    taste = np.array([TASTE[s] for s in segment])[who[order]]
    wanted = (taste.cumsum(1) > rng.random((len(order), 1))).argmax(1)
    product = np.zeros(len(order), np.int64)
    for k in range(4):
        mine, some = np.flatnonzero(wanted == k), np.flatnonzero(kind == k)
        product[mine] = rng.choice(some, len(mine), p=fame[some] / fame[some].sum())
    none = rng.random(len(order)) < 0.1
    paid = np.where(none, 0, price[product] * rng.lognormal(0, 0.05, len(order))).round(2)
    codes = np.array([f"p{i:03d}" for i in rng.permutation(products)])
    line = np.arange(len(order)) - np.repeat(items.cumsum() - items, items) + 1
    return {
        "items": pd.DataFrame(
            {
                "order": order + 1, "line": line, "paid": paid,
                "product": pd.Series(codes[product]).mask(none),
                "gift": np.where((kind[product] == 3) & (rng.random(len(order)) < 0.9), "yes", "no"),
            }
        ),
        "orders": pd.DataFrame({"id": np.arange(len(who)) + 1, "customer": who + 1}),
        "customers": pd.DataFrame({"id": np.arange(customers) + 1, "segment": segment}),
        "products": pd.DataFrame({"code": codes, "kind": KINDS[kind], "price": price}),
    }  # fmt: skip


ROLES: dict[str, dict] = {
    "customers": {"key": "id"},
    "products": {"key": "code"},
    "orders": {"key": "id", "parent": "customers", "foreign_key": "customer"},
    "items": {
        "key": ["order", "line"],
        "parent": "orders",
        "foreign_key": "order",
        "references": {"product": "products"},
    },
}


WRITTEN = ["customers", "items", "orders", "products", "request.json", "tables.json"]


def spec_of(folder: Path, frames: dict[str, pd.DataFrame], **roles: dict) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    tables = {name: {"source": str(folder / f"{name}.csv"), **roles.get(name, {})} for name in frames}
    return {"name": "market", "tables": tables}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("market")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        return genpipe.train_tables(spec_of(folder, market(), **ROLES)).uri


@pytest.fixture(scope="module")
def made(trained: str, tmp_path_factory: pytest.TempPathFactory) -> GeneratedTables:
    folder = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        return genpipe.generate_tables(trained, workers=0, output=str(folder / "a"))


def joined(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Every item beside its product, order and customer."""
    items = tables["items"].merge(tables["products"], left_on="product", right_on="code", how="left")
    items = items.merge(tables["orders"], left_on="order", right_on="id")
    return items.merge(tables["customers"], left_on="customer", right_on="id")


def frames_of(made: GeneratedTables) -> dict[str, pd.DataFrame]:
    return {name: data.pandas() for name, data in made.items()}


def test_keys_and_references_are_exact(made: GeneratedTables) -> None:
    real, fake = market(), frames_of(made)
    assert {n: list(t.columns) for n, t in fake.items()} == {n: list(t.columns) for n, t in real.items()}
    items, products = fake["items"], fake["products"]
    assert len(products) == len(real["products"]) and products.code.is_unique
    assert items["product"].dropna().isin(products.code).all()
    assert not products.code.isin(real["products"].code).any()
    assert abs(items["product"].isna().mean() - 0.1) < 0.02
    assert (
        items.order.isin(fake["orders"].id).all() and fake["orders"].customer.isin(fake["customers"].id).all()
    )
    assert not items.duplicated(["order", "line"]).any()
    assert (items.line == items.groupby("order").cumcount() + 1).all() and items.line.max() == 3
    told = json.loads((Path(str(made)) / "tables.json").read_text())["tables"]
    assert told["items"]["key"] == ["order", "line"] and told["items"]["foreign_key"] == "order"
    assert told["items"]["references"] == {"product": "products"} and told["orders"]["references"] == {}


def test_what_is_referred_to_is_related_as_in_the_data(made: GeneratedTables) -> None:
    real, fake = joined(market()), joined(frames_of(made))

    def shares(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.crosstab(rows.segment, rows.kind, normalize="index")

    def near(rows: pd.DataFrame) -> float:
        return float((np.abs(np.log(rows.paid.clip(0.01) / rows.price)) < 0.2).mean())

    there = fake[fake["product"].notna()]
    some = there.sample(frac=1, random_state=0)
    shuffled = there.assign(kind=some.kind.to_numpy(), price=some.price.to_numpy())
    assert (shares(real) - shares(there)).abs().max().max() < 0.08
    assert (shares(real) - shares(shuffled)).abs().max().max() > 0.3
    assert near(real.dropna()) > 0.99 and near(there) > 0.7 and near(shuffled) < 0.3
    assert (fake.paid == 0)[fake["product"].isna()].mean() > 0.97 and (there.paid == 0).mean() < 0.03
    gifts = there.groupby("kind").gift.apply(lambda column: (column == "yes").mean())
    assert gifts["wine"] - gifts[["book", "game"]].max() > 0.4  # 0.9 in the data, 0 by chance


def test_few_are_named_by_most(made: GeneratedTables) -> None:
    def top(tables: dict[str, pd.DataFrame]) -> float:
        counts = tables["items"]["product"].value_counts()
        return float(counts.iloc[: len(tables["products"]) // 10].sum() / counts.sum())

    fake = frames_of(made)
    # how often a product is named is one product's own number, kept only as far as five share it
    assert abs(top(fake) - top(market())) < 0.2 and top(market()) > 0.6
    even = fake["items"].assign(
        product=fake["products"].code.sample(len(fake["items"]), replace=True).to_numpy()
    )
    assert top(fake | {"items": even}) < 0.2
    never = 1 - frames_of(made)["items"]["product"].nunique() / len(fake["products"])
    assert abs(never - (1 - market()["items"]["product"].nunique() / 250)) < 0.1


def test_same_seed_same_bytes_on_any_workers(
    trained: str, tmp_path: Path, ray_cluster: object, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr("genpipe.related.generate.JOB_ROWS", 2**9)
    rows = {"*": 150, "products": 120}
    few = genpipe.generate_tables(trained, rows=rows, workers=0, output=str(tmp_path / "few"))
    assert not (home / "store").exists() and sorted(p.name for p in (tmp_path / "few").iterdir()) == WRITTEN
    ray = genpipe.generate_tables(trained, rows=rows, workers=2, output=str(tmp_path / "ray"))
    other = genpipe.generate_tables(trained, rows=rows, seed=1, workers=0, output=str(tmp_path / "other"))
    assert not [p for p in home.rglob("*") if p.is_file()]
    assert sorted(p.name for p in (tmp_path / "ray").iterdir()) == WRITTEN
    assert few["products"].rows() == 120 and few["customers"].rows() == 150
    for name in few:
        assert few[name].fingerprint == ray[name].fingerprint != other[name].fingerprint
    tables = frames_of(few)
    assert tables["items"]["product"].dropna().isin(tables["products"].code).all()
    assert not tables["items"].duplicated(["order", "line"]).any()


def test_rows_of_what_others_refer_to(trained: str) -> None:
    model = open_tables(trained)
    assert rows_of(model, 5000) == {"customers": 5000, "products": 250}
    assert rows_of(model, {"products": 9}) == {"customers": 1200, "products": 9}
    assert rows_of(model, None) == {"customers": 1200, "products": 250}
    with pytest.raises(
        UsageError, match=r"unknown table without parents 'orders'; expected one of customers, "
    ):
        genpipe.generate_tables(trained, rows={"orders": 3})
    with pytest.raises(UsageError, match=r"rows\.products: 0; expected a whole number from 1"):
        genpipe.generate_tables(trained, rows={"products": 0})


def test_what_was_trained_with_keys_of_one_column_is_read_as_before() -> None:
    old = {
        "name": "orders",
        "parent": "customers",
        "schema_": None,
        "link": "customer",
        "order": None,
        "own": [],
    }
    old |= {"key": {"kind": "identifier", "name": "id"}, "children": [], "rows": 3}
    node = Node.model_validate(old)
    assert [f.name for f in node.key] == ["id"] and node.link == ("customer",) and node.references == ()
    assert Node.model_validate(old | {"key": None, "link": None}).key == ()


def test_rounds_are_after_all_they_need() -> None:
    rng = np.random.default_rng(0)
    own = (Integer(name="a"),)
    schema = Schema(kind="tabular", fields=own)
    for _ in range(200):
        nodes = list[Node]()
        for i in range(rng.integers(1, 9)):
            other = (f"t{rng.integers(i)}" for _ in range(3)) if i else iter(())
            parent = next(other) if i and rng.random() < 0.5 else None
            named = tuple(
                Reference(column=t, table=t, nullable=False, fields=()) for t in other if rng.random() < 0.4
            )
            nodes.append(
                Node(
                    name=f"t{i}", parent=parent, schema_=schema, key=(), link=("p",) if parent else (),
                    order=None, own=own, children=(), rows=1, references=named,
                )
            )  # fmt: skip
        models = {node.name: "" for node in nodes}
        model = TrainedTables(uri="", name="", nodes=tuple(nodes), models=models, metrics={}, fingerprint="")
        rounds, made = model.rounds, dict[str, int]()
        assert sorted({*rounds.values()}) == list(range(max(rounds.values()) + 1))
        for round_ in sorted({*rounds.values()}):
            for root in (n for n in nodes if n.parent is None):
                there = set[str]()
                for node in model.needed(root.name, round_):
                    assert node.parent is None or node.parent in there
                    assert all(rounds[r.table] < rounds[node.name] for r in node.references)
                    there.add(node.name)
                    made.setdefault(node.name, round_)
        assert made == rounds


def bank(accounts: int = 400) -> dict[str, pd.DataFrame]:
    """Money goes to accounts of the sender's region, and mostly to firms."""
    rng = np.random.default_rng(0)
    region = rng.choice(list("nesw"), accounts)
    firm = rng.random(accounts) < 0.2
    sent = rng.poisson(8, accounts)
    sender = np.repeat(np.arange(accounts), sent)
    draws = rng.random((len(sender), accounts)) ** (1 / np.where(firm, 12, 1))
    draws[np.arange(len(sender)), sender] = -9  # to others only
    home_ = region[sender][:, None] == region[None]
    receiver = (draws + np.where(home_ & (rng.random((len(sender), 1)) < 0.85), 2, 0)).argmax(1)
    amount = np.where(firm[receiver], 500, 20) * rng.lognormal(0, 0.2, len(sender))
    names = np.arange(accounts) * 3 + 7
    return {
        "transfers": pd.DataFrame(
            {"sender": names[sender], "receiver": names[receiver], "amount": amount.round(2)}
        ),
        "accounts": pd.DataFrame({"number": names, "region": region, "firm": firm}),
    }


def test_sender_and_receiver_are_rows_of_one_table(home: Path, tmp_path: Path) -> None:
    roles = {
        "accounts": {"key": "number"},
        "transfers": {
            "parent": "accounts", "foreign_key": "sender", "references": {"receiver": "accounts"},
        },
    }  # fmt: skip
    model = genpipe.train_tables(spec_of(tmp_path, bank(), **roles))
    assert model.rounds == {"accounts": 0, "transfers": 1} and rows_of(model, 90)["accounts"] == 90
    fake = frames_of(genpipe.generate_tables(model, workers=0))

    def both(tables: dict[str, pd.DataFrame]) -> tuple[float, float, float]:
        rows, of = tables["transfers"], tables["accounts"].set_index("number")
        sender, receiver = of.loc[rows.sender], of.loc[rows.receiver]  # KeyError for a number that is none
        ratio = np.log(rows.amount / np.where(receiver.firm, 500, 20))
        same = (sender.region.to_numpy() == receiver.region.to_numpy()).mean()
        return float(same), float(receiver.firm.mean()), float((ratio.abs() < 0.8).mean())

    (same, firm, usual), (same_, firm_, usual_) = both(bank()), both(fake)
    assert same > 0.8 and abs(same - same_) < 0.08 and usual > 0.99 and usual_ > 0.93
    assert (fake["transfers"].sender != fake["transfers"].receiver).all()
    assert abs(firm - firm_) < 0.1 and firm > 2 * bank()["accounts"].firm.mean()


def test_a_parent_names_no_row_twice_where_that_is_its_key(home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    courses = pd.DataFrame({"code": [f"c{i}" for i in range(24)], "field": ["art", "law", "math"] * 8})
    faculty = rng.choice(3, 300)
    fame = np.r_[[8.0] * 6, [1.0] * 18]
    odds = fame * np.where(np.arange(24) % 3 == faculty[:, None], 12, 1)
    wish = np.argsort(-np.log(rng.random((300, 24))) / -odds, axis=1)[:, ::-1]
    count = rng.integers(1, 8, 300)
    who = np.repeat(np.arange(300), count)
    taken = wish[who, np.arange(len(who)) - np.repeat(count.cumsum() - count, count)]
    frames = {
        "marks": pd.DataFrame(
            {"student": who, "course": courses.code[taken], "mark": rng.integers(1, 7, len(who))}
        ),
        "students": pd.DataFrame({"id": np.arange(300), "faculty": courses.field[faculty].to_numpy()}),
        "courses": courses,
    }  # fmt: skip
    marks = {"key": ["student", "course"], "parent": "students", "foreign_key": "student"}
    roles = {"students": {"key": "id"}, "courses": {"key": "code"}}
    roles["marks"] = marks | {"references": {"course": "courses"}}
    model = genpipe.train_tables(spec_of(tmp_path, frames, **roles))
    fake = frames_of(genpipe.generate_tables(model, workers=0))

    def same(tables: dict[str, pd.DataFrame]) -> float:
        rows = tables["marks"].merge(tables["courses"], left_on="course", right_on="code")
        rows = rows.merge(tables["students"], left_on="student", right_on="id")
        return float((rows.field == rows.faculty).mean())

    assert not fake["marks"].duplicated(["student", "course"]).any() and len(fake["marks"]) > 900
    assert same(frames) > 0.7 and abs(same(fake) - same(frames)) < 0.1
    tops = [t["marks"].course.value_counts().iloc[:6].sum() / len(t["marks"]) for t in (frames, fake)]
    # 0.25 were all equally popular; how often each of 24 is named is kept only as far as five share it
    assert tops[0] > 0.5 and tops[1] > 0.3
    with pytest.raises(UsageError, match="course: a parent whose rows name all 3 of 'courses' already; exp"):
        genpipe.generate_tables(model, rows={"courses": 3}, workers=0)


def test_keys_of_several_columns_through_three_tables_and_roots_that_refer(
    home: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    owners = pd.DataFrame({"id": [f"o{i}" for i in range(60)], "land": rng.choice(["nl", "pt"], 60)})
    owner = rng.integers(0, 60, 400)
    stores = pd.DataFrame(
        {
            "area": [f"a{i:03d}" for i in rng.permutation(400)], "number": np.arange(400),
            "owner": owners.id[owner].to_numpy(),
            "speaks": np.where(owners.land[owner] == "nl", "dutch", "port"),
        }
    )  # fmt: skip
    at = np.repeat(np.arange(400), rng.integers(0, 4, 400))
    sales = pd.DataFrame({"in": stores.area[at].to_numpy(), "store": at, "value": rng.normal(9, 2, len(at))})
    sales["receipt"] = sales.groupby("store").cumcount()
    more = sales.loc[np.repeat(sales.index, rng.integers(0, 3, len(at)))]
    notes = more[["receipt", "store", "in"]].assign(colour=rng.choice(["red", "blue"], len(more)))
    roles = {
        "owners": {"key": "id"},
        "stores": {"key": ["area", "number"], "references": {"owner": "owners"}},
        "sales": {"key": ["store", "in", "receipt"], "parent": "stores", "foreign_key": ["in", "store"]},
        "notes": {"parent": "sales", "foreign_key": ["store", "in", "receipt"]},
    }
    frames = {"notes": notes, "sales": sales, "stores": stores, "owners": owners}
    spec = spec_of(tmp_path, frames, **roles) | {"recipe": "tabular_trees"}
    model = genpipe.train_tables(spec)
    assert model.rounds == {"owners": 0, "stores": 1, "sales": 1, "notes": 1}
    fake = frames_of(genpipe.generate_tables(model, workers=0))
    assert all(list(fake[name].columns) == list(frame.columns) for name, frame in frames.items())

    def tuples(name: str, columns: list[str]) -> list[tuple]:
        return list(fake[name][columns].itertuples(index=False, name=None))

    stores_, sales_ = tuples("stores", ["area", "number"]), tuples("sales", ["store", "in", "receipt"])
    assert len(set(stores_)) == 400 and len(set(sales_)) == len(sales_) > 100
    assert {*tuples("sales", ["in", "store"])} <= {*stores_}
    assert {*tuples("notes", ["store", "in", "receipt"])} <= {*sales_}
    assert fake["sales"].receipt.min() == 0 and fake["sales"].receipt.max() == 2  # numbered in their store
    whose = fake["stores"].merge(fake["owners"], left_on="owner", right_on="id")
    assert len(whose) == 400 and ((whose.land == "nl") == (whose.speaks == "dutch")).mean() > 0.9


ITEMS = ROLES["items"]


@pytest.mark.parametrize(
    ("roles", "match"),
    [
        ({"items": ITEMS | {"references": {"product": "prodcts"}}},
         r"items.references.product: found unknown table 'prodcts'; expected one of .*mean 'products'"),
        ({"products": {}}, "items.references.product: found 'products', a table without a key; expected one"),
        ({"orders": ROLES["orders"] | {"references": {"id": "customers"}}},
         "references: found 'id', which is the key, too; expected it as foreign_key"),
        ({"orders": ROLES["orders"] | {"references": {"x": "items"}}},
         r"orders.references.x: found 1 column \(x\); expected 2, for the key of 'items', in its order"),
        ({"items": ITEMS | {"references": {"order, line": "products"}}},
         r"references.order, line: found 2 columns \(order, line\); expected 1, for the key of 'products'"),
        ({"orders": ROLES["orders"] | {"key": ["id", "next"], "references": {"next": "orders"}}},
         r"references.next: found 1 column \(next\); expected 2"),
        ({"orders": ROLES["orders"] | {"parent": "orders"}}, "orders -> orders; .* under references"),
        ({"items": ITEMS | {"references": {"order": "products"}}}, "'order', which is the foreign_key, too"),
        ({"items": {"key": ["order", "product"], "references": {"order": "orders", "product": "products"}}},
         "found 'product', a part of a key that generated rows may share; expected the foreign_key's col"),
        ({"items": ITEMS | {"key": ["product"]}}, "items.references: found 'product', which is the key, too"),
        ({"orders": ROLES["orders"] | {"key": ["id", "id"]}}, "orders.key: found 'id', which is the key"),
        ({"orders": ROLES["orders"] | {"key": []}}, "orders.key: found a list; expected"),
        ({"items": ITEMS | {"foreign_key": ["order", "line"]}},
         r"found 2 columns \(order, line\); expected 1, for the key of 'orders', 1 column \(id\), in its"),
        ({"products": {"key": "code", "references": {"x": "customers"}, "recipe": "tabular_gan"}},
         "products.recipe: found family 'gan' for a table with references; expected one that"),
    ],
)  # fmt: skip
def test_specs_that_contradict_themselves(home: Path, tmp_path: Path, roles: dict, match: str) -> None:
    spec = spec_of(tmp_path, {n: f.head(2) for n, f in market(30, 30).items()}, **(ROLES | roles))
    with pytest.raises(SpecError, match=f"(?s){match}"):
        load_tables(spec)


def changed(name: str, column: str, values: dict[int, object]) -> dict[str, pd.DataFrame]:
    frames = market(60, 30)
    frames[name][column] = frames[name][column].astype(object)
    for row, value in values.items():
        frames[name].loc[row, column] = value
    return frames


@pytest.mark.parametrize(
    ("frames", "roles", "match"),
    [
        (changed("items", "product", {3: "p998", 4: "p999"}), {},
         r"items.csv:row 5:product: 'p998', no key of 'products', in one of 2 such rows; expected a value"),
        (changed("items", "line", {1: 1}), {"items": ITEMS},
         r"items.csv:row 3:order, line: key \('1', '1'\) for 2 rows, and 1 such keys; expected a diff"),
        (changed("items", "line", {1: None}), {}, "items.csv:row 3:line: a missing key"),
        (market(60, 30), {"items": ITEMS | {"references": {"produkt": "products"}}},
         "tables.items.references: found 'produkt', .*; expected one of order, line, paid"),
        (market(60, 30), {"orders": ROLES["orders"] | {"key": ["id", "nr"]}, "items": {}},
         "orders.key: found 'nr', which is no column"),
        (changed("items", "line", {k: 2010 + k % 15 for k in range(len(market(60, 30)["items"]))}), {},
         r"tables.items.key: 'line', which tells more than the rows apart .*; expected \d+, \d+, .. in each"),
        ({n: f.assign(shop="a") if n == "orders" else f for n, f in market(60, 30).items()},
         {"orders": ROLES["orders"] | {"key": ["shop", "id"]}, "items": {}},
         "tables.orders.key: 'shop', which tells more .*: then it is learnt"),
    ],
)  # fmt: skip
def test_rows_and_keys_that_do_not_agree(
    home: Path, tmp_path: Path, frames: dict[str, pd.DataFrame], roles: dict, match: str
) -> None:
    with pytest.raises((DataError, UsageError), match=match):
        genpipe.train_tables(spec_of(tmp_path, frames, **(ROLES | roles)))
    assert not list(home.rglob("runs")) and not list(home.rglob("tables"))


def test_tables_come_in_the_same_order_in_every_process(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {n: f.head(2) for n, f in market(30, 30).items()}, **ROLES)
    code = (
        "import json, sys; from graphlib import TopologicalSorter;"
        "from genpipe.related.spec import load_tables;"
        "print(*TopologicalSorter(load_tables(json.loads(sys.argv[1])).needs()).static_order())"
    )
    orders = {
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(spec)],
            env=os.environ | {"PYTHONHASHSEED": str(k)}, capture_output=True, text=True, check=True,
        ).stdout
        for k in range(4)
    }  # fmt: skip
    assert len(orders) == 1


def test_rows_that_name_rows_of_their_own_family(home: Path, tmp_path: Path) -> None:
    frames = market(60, 30)
    frames["items"]["customer"] = frames["items"].order.map(frames["orders"].set_index("id").customer)
    items = {"parent": "customers", "foreign_key": "customer", "references": {"order": "orders"}}
    spec = spec_of(tmp_path, frames, **(ROLES | {"items": items})) | {"recipe": "tabular_trees"}
    fake = frames_of(genpipe.generate_tables(genpipe.train_tables(spec), workers=0))
    whose = fake["items"].order.map(fake["orders"].set_index("id").customer)
    assert (whose == fake["items"].customer).mean() > 0.9  # the others' customer has no order


def test_a_reference_that_is_always_missing(home: Path, tmp_path: Path) -> None:
    frames = market(60, 30)
    spec = spec_of(tmp_path, frames | {"items": frames["items"].assign(product=None)}, **ROLES)
    kinds = ["integer", "integer", "number", "identifier", "category"]
    fields = [
        f"  - {{name: {n}, kind: {k}, nullable: true}}" for n, k in zip(frames["items"], kinds, strict=True)
    ]
    (tmp_path / "items.yaml").write_text("\n".join(["kind: tabular", "fields:", *fields]))
    spec["tables"]["items"]["schema"] = str(tmp_path / "items.yaml")
    with pytest.raises(
        DataError, match=r"items.references.product: no value in any row; expected keys of 'prod"
    ):
        genpipe.train_tables(spec)


def test_orphans_are_dropped_if_asked_with_all_that_name_them(home: Path, tmp_path: Path) -> None:
    frames = market(60, 30)
    maker = np.where(np.arange(30) == 4, 99, np.arange(30) // 2)  # there is no maker 99
    frames["products"] = frames["products"].assign(maker=maker)
    frames["makers"] = pd.DataFrame({"id": np.arange(20), "land": ["nl", "pt"] * 10})
    roles = ROLES | {"makers": {"key": "id"}}
    roles |= {"products": {"key": "code", "references": {"maker": "makers"}}}
    lost = frames["items"]["product"] == frames["products"].code[4]
    spec = spec_of(tmp_path, frames, **roles) | {"orphans": "drop", "recipe": "tabular_trees"}
    model = genpipe.train_tables(spec)
    rows = {n.name: n.rows for n in model.nodes}
    assert lost.sum() > 0 and rows["items"] == (~lost).sum() and rows["products"] == 29
    fake = frames_of(genpipe.generate_tables(model, workers=0))
    assert fake["items"]["product"].dropna().isin(fake["products"].code).all()
    assert fake["products"].maker.isin(fake["makers"].id).all() and model.rounds["items"] == 2


def test_the_command_line_takes_rows_by_table(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of(tmp_path, market(60, 30), **ROLES) | {"recipe": "tabular_trees"}
    (tmp_path / "market.yaml").write_text(json.dumps(spec))
    assert execute(["train", str(tmp_path / "market.yaml")]) == 0
    model = re.findall(r"^model +(.*)$", capsys.readouterr().out, re.MULTILINE)[0]
    sizes = ["--rows", "25", "--rows", "products=21"]
    assert execute(["generate", model, *sizes, "--output", str(tmp_path / "out")]) == 0
    assert [Dataset(str(tmp_path / "out" / n)).rows() for n in ("customers", "products")] == [25, 21]
    assert "products   21 rows" in capsys.readouterr().out
    assert execute(["generate", model, "--rows", "many"]) == 2
    assert "rows: 'many'; expected a whole number" in capsys.readouterr().err
