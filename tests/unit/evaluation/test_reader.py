"""A careful reader sees what scores of shapes do not: clocks, sums, dust, shut shops, order, codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from genpipe.evaluation import evaluate_tables
from genpipe.evaluation.reader import Reader
from genpipe.evaluation.verdict import graded
from genpipe.fields import Category, Date, Integer, Number
from genpipe.schema import Schema

CITIES = np.array(["Bonn", "Kiel", "Ulm", "Jena", "Hof", "Celle", "Soest", "Lahr"])
FIELDS = [
    Integer(name="time"), Number(name="net"), Number(name="tax"), Number(name="total"),
    Number(name="latitude"), Date(name="day"), Category(name="city"), Category(name="state"),
]  # fmt: skip
SCHEMA = Schema(kind="tabular", fields=tuple(FIELDS))


def rows(count: int, seed: int, **changes: Any) -> pa.Table:
    """Sales at clock times, with totals, a latitude of four decimals, never on Sundays. changes: columns."""
    rng = np.random.default_rng(seed)
    hour, city = rng.integers(8, 20, count), rng.integers(0, len(CITIES), count)
    net = rng.lognormal(3, 0.6, count).round(2)
    day = np.datetime64("2026-01-05") + rng.integers(0, 50, count) * 7 + rng.integers(0, 6, count)
    made = {
        "time": hour * 100 + rng.integers(0, 60, count),
        "net": net,
        "tax": (net * np.where(city < 4, 0.19, 0.07)).round(2),
        "latitude": (50 + rng.normal(0, 1, count)).round(4),
        "day": day.astype("datetime64[D]"),
        "city": CITIES[city],
        "state": np.array(["West", "East"])[city % 2],
    }
    made["total"] = (made["net"] + made["tax"]).round(2)
    made |= {name: change(made, rng) for name, change in changes.items()}
    return pa.table({f.name: pa.array(made[f.name]) for f in FIELDS}).cast(SCHEMA.arrow())


def some(values: np.ndarray, others: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    return np.where(rng.random(len(values)) < share, others, values)


BROKEN = {
    "time ends in 00 to 59": {"time": lambda t, r: some(t["time"], t["time"] // 100 * 100 + 75, r, 0.113)},
    "total = net + tax": {"total": lambda t, r: some(t["total"], t["total"] + 0.01, r, 0.2).round(2)},
    "latitude has 4 decimals": {"latitude": lambda t, r: some(t["latitude"], t["latitude"] + 5e-6, r, 0.2)},
    "day is never on a Sunday": {"day": lambda t, r: t["day"] + r.integers(0, 7, len(t["day"]))},
    "net is at most total": {"net": lambda t, r: some(t["net"], t["total"] + 1, r, 0.1)},
    "state is that of city": {"state": lambda t, r: r.permutation(t["state"])},
}  # fmt: skip


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(rows(2_000, 0), SCHEMA)


@pytest.mark.parametrize("rule", BROKEN)
def test_each_broken_rule_is_found_by_name_and_real_rows_keep_all(reader: Reader, rule: str) -> None:
    broken, each = reader.broken(reader.clues(rows(1_000, 1)))
    assert broken.mean() < 0.01
    assert any(text.startswith(rule) for text in each), sorted(each)
    broken, each = reader.broken(reader.clues(rows(1_000, 1, **BROKEN[rule])))
    assert broken.mean() > 0.07
    assert any(text.startswith(rule) for text, share in each.items() if share > 0.05), each


@pytest.mark.parametrize("rule", [*list(BROKEN)[:3], ""])
def test_a_table_whose_writing_gives_it_away_is_not_called_excellent(rule: str) -> None:
    changes = BROKEN.get(rule, {})
    report = evaluate_tables(rows(2_000, 0), rows(1_000, 1), rows(1_000, 2, **changes), SCHEMA)
    told = report.score("rules")
    assert told.ceiling is not None and told.ceiling > 0.99
    if rule:
        assert report.verdict in ("good", "fair") and "rules" in report.headline, report.headline
        assert any(rule in warning for warning in report.warnings), report.warnings
    else:
        assert report.verdict == "excellent", report.headline
        assert not any("break a rule" in warning for warning in report.warnings)


def test_rates_and_logarithms_are_found_and_missed() -> None:
    def counties(count: int, seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        people = rng.lognormal(10, 1, count).round()
        cases = rng.poisson(people / 1000)
        return {
            "people": people,
            "cases": cases,
            "rate": 1e4 * cases / people,
            "log": np.log(people).round(6),
        }

    fields = tuple(Number(name=name) for name in counties(1, 0))
    reader = Reader(pa.table(counties(3_000, 0)), Schema(kind="tabular", fields=fields))
    told = {rule.text for rule in reader.rules}
    assert {"rate goes as cases / people", "log follows people", "people follows log"} <= told
    assert not any("cases follows" in text or "goes as people" in text for text in told), told
    right, wrong = counties(1_000, 1), counties(1_000, 2)
    assert reader.broken(reader.clues(pa.table(right)))[0].mean() < 0.01
    for name, text in (("rate", "rate goes as cases / people"), ("log", "log follows people")):
        off = pa.table(right | {name: wrong[name]})
        assert reader.broken(reader.clues(off))[1][text] > 0.9


def test_endings_that_no_rule_says_are_told_by_trees() -> None:
    """Half of the prices end in 95, of generated ones one in a hundred: no rule, and seen at once."""

    def prices(t: dict[str, np.ndarray], rng: np.random.Generator, share: float) -> np.ndarray:
        cents = some(rng.integers(0, 100, len(t["net"])), np.full(len(t["net"]), 95), rng, share)
        return (np.floor(t["net"]) + cents / 100).round(2)

    def priced(count: int, seed: int, share: float) -> pa.Table:
        return rows(count, seed, tax=lambda t, rng: (prices(t, rng, share) * 100).round())

    real, unseen = priced(2_000, 0, 0.5), priced(1_000, 1, 0.5)
    bad = evaluate_tables(real, unseen, priced(1_000, 2, 0.01), SCHEMA).score("reader")
    good = evaluate_tables(real, unseen, priced(1_000, 2, 0.5), SCHEMA).score("reader")
    assert bad.value is not None and good.value is not None
    assert bad.value > 0.65 and good.value < 0.58


def test_a_grade_is_no_better_than_what_a_reader_sees() -> None:
    from genpipe.evaluation.report import Score

    def seen(auc: float, kept: float) -> str:
        ends = {"title": "t", "meaning": "m", "error": 0.0}
        found = [
            Score(name="reader", goal="min", value=auc, ceiling=0.5, floor=1.0, **ends),
            Score(name="rules", goal="max", value=kept, ceiling=1.0, floor=0.0, **ends),
        ]
        return graded(0.95, {s.name: s for s in found})[0]

    assert [seen(a, 1.0) for a in (0.59, 0.61, 0.76, 0.91)] == ["excellent", "good", "fair", "poor"]
    assert [seen(0.5, k) for k in (0.985, 0.975, 0.89, 0.49)] == ["excellent", "good", "fair", "poor"]
    assert graded(0.5, {})[0] == "fair"


def test_a_table_without_numbers_or_rules_is_read_all_the_same() -> None:
    schema = Schema(kind="tabular", fields=(Category(name="a"), Category(name="b")))
    rng = np.random.default_rng(0)

    def table(n: int) -> pa.Table:
        return pa.table({"a": rng.choice(["x", "y"], n), "b": rng.choice(["x", "y", "z"], n)})

    report = evaluate_tables(table(400), table(200), table(200), schema)
    assert report.score("rules").value is None and report.score("rules").reason
    value = report.score("reader").value
    assert value is not None and value < 0.65
