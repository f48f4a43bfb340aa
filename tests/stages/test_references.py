"""References beside the parent, and keys of several columns: exact, and related as in the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genpipe
from genpipe.stages.generate_tables import GeneratedTables

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
