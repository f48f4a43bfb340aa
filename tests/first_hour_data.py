"""Small data of six kinds, as a person has them lying about in a folder."""

from __future__ import annotations

import json
import sqlite3
import wave
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

SPEC = """\
name: shop
tables:
  customers: {source: customers.csv, key: id}
  orders: {source: orders.csv, key: id, parent: customers, foreign_key: customer_id, order_by: date}
recipe: {base: tabular_trees}
"""
PIPELINE = """\
name: folk
source: {path: people.csv, target: income}
recipe: {base: tabular_trees}
generate: {rows: 50}
"""
RECIPES = {
    "table": "tabular_autoregressive",
    "any": "tabular_any_order",
    "pics": "image_vae",
    "sounds": "audio_vae",
    "series": "series_recurrent",
    "text": "text_lstm",
}
WORDS = ["the", "king", "said", "to", "the", "queen", "that", "no", "night", "is", "as", "long", "as", "this"]


def make(root: Path) -> None:
    """Write all of it."""
    (root / "sub").mkdir(parents=True)
    rng = np.random.default_rng(7)
    for write in (_people, _broken, _shop, _pictures, _sounds, _series, _texts):
        write(root, rng)
    for name, base in RECIPES.items():
        (root / f"quick-{name}.yaml").write_text(
            f"base: {base}\ntraining: {{steps: 12, evaluate_every: 6}}\n"
        )
    (root / "people.yaml").write_text(PIPELINE)
    wrong = PIPELINE.replace("income", "Income").replace("trees}", "tree}") + "train: {step: 12}\n"
    (root / "people-wrong.yaml").write_text(wrong)


def _people(root: Path, rng: np.random.Generator) -> None:
    n = 300
    age = rng.integers(16, 80, n)
    people = pd.DataFrame(
        {
            "age": age,
            "city": rng.choice(["Ulm", "Köln", "Bern", "New York"], n),
            "height": rng.normal(170, 10, n).round(1),
            "since": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "income": np.where(rng.random(n) < age / 100, ">50K", "<=50K"),
        }
    )
    for name in ("people.csv", "Größe.csv", "my people.csv", "people.csv.gz"):
        people.to_csv(root / name, index=False)
    people.to_excel(root / "people.xlsx", index=False)
    people.to_parquet(root / "people.parquet")
    people.to_json(root / "people.jsonl", orient="records", lines=True, date_format="iso")
    people.head(5).to_csv(root / "tiny.csv", index=False)
    german = people.rename(columns={"age": "Alter", "height": "Größe"})
    german.to_csv(root / "deutsch.csv", sep=";", decimal=",", index=False, encoding="latin-1")
    people.head(40).assign(income=None).to_csv(root / "gaps.csv", index=False)
    people.head(40).to_csv(root / "new people.csv", index=False)
    for month, rows in (("jan", people.head(200)), ("feb", people.tail(200))):
        (root / month).mkdir()
        rows.to_csv(root / month / "data.csv", index=False)


def _broken(root: Path, rng: np.random.Generator) -> None:
    (root / "empty.csv").write_text("")
    (root / "header.csv").write_text("a,b,c\n")
    (root / "broken.csv").write_text('a,b\n1,"2\n3,4\n' * 40)
    (root / "not-a-table.csv").write_bytes(rng.bytes(1000) + b"\0" * 20)


def _shop(root: Path, rng: np.random.Generator) -> None:
    customers = pd.DataFrame(
        {"id": range(1, 121), "city": rng.choice(["Ulm", "Bern"], 120), "age": rng.integers(18, 80, 120)}
    )
    orders = pd.DataFrame(
        {
            "id": range(1, 361),
            "customer_id": rng.integers(1, 121, 360),
            "amount": rng.gamma(2, 20, 360).round(2),
            "date": pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, 360), "D"),
        }
    )
    customers.to_csv(root / "customers.csv", index=False)
    orders.to_csv(root / "orders.csv", index=False)
    (root / "shop.yaml").write_text(SPEC)
    (root / "shop-wrong.yaml").write_text(SPEC.replace("customer_id", "custmer_id"))
    with sqlite3.connect(root / "shop.db") as db:
        db.execute("create table customers (id integer primary key, city text, age integer)")
        db.execute(
            "create table orders (id integer primary key, customer_id integer references customers(id),"
            " amount real, date text)"
        )
        customers.to_sql("customers", db, index=False, if_exists="append")
        orders.assign(date=orders.date.astype(str)).to_sql("orders", db, index=False, if_exists="append")


def _pictures(root: Path, rng: np.random.Generator) -> None:
    for label, grey in (("cat", 40), ("dog", 180)):
        (root / "pics" / label).mkdir(parents=True)
        for i in range(100):
            pixels = np.clip(rng.normal(grey, 25, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "pics" / label / f"{i}.png")


def _sounds(root: Path, rng: np.random.Generator) -> None:
    seconds = np.arange(1600) / 8000
    for label, hertz in (("low", 220), ("high", 880)):
        (root / "sounds" / label).mkdir(parents=True)
        for i in range(40):
            wavy = 0.5 * np.sin(2 * np.pi * hertz * (1 + rng.normal(0, 0.03)) * seconds)
            with wave.open(str(root / "sounds" / label / f"{i}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes((wavy * 32767).astype("<i2").tobytes())


def _series(root: Path, rng: np.random.Generator) -> None:
    steps = pd.DataFrame(
        {"shop": np.repeat([f"s{i:02}" for i in range(60)], 24), "day": np.tile(range(24), 60)}
    )
    steps["price"] = (50 + rng.normal(0, 1, (60, 24)).cumsum(1)).ravel().round(2)
    steps["volume"] = rng.integers(1, 50, len(steps))
    steps["region"] = np.repeat(["north", "south"] * 30, 24)
    steps.to_csv(root / "prices.csv", index=False)
    steps[["price", "volume"]].head(6).to_csv(root / "last-days.csv", index=False)


def _texts(root: Path, rng: np.random.Generator) -> None:
    for label, end in (("sad", ", alas."), ("merry", ", ha ha!")):
        (root / "plays" / label).mkdir(parents=True)
        for i in range(4):
            lines = [" ".join(rng.choice(WORDS, 9)) + end for _ in range(60)]
            (root / "plays" / label / f"{i}.txt").write_text("\n".join(lines) + "\n")
    reviews = ({"text": " ".join(rng.choice(WORDS, 8)), "stars": int(rng.integers(1, 6))} for _ in range(200))
    (root / "reviews.jsonl").write_text("".join(json.dumps(each) + "\n" for each in reviews))
