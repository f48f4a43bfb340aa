"""The judge of related tables: real families reach the ceiling, each way to be wrong lowers its own score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genpipe.errors import PrivacyError, QualityError
from genpipe.evaluation import Report, Score
from genpipe.evaluation.privacy.attacks import Evidence
from genpipe.evaluation.privacy.membership import Likelihoods
from genpipe.fields import Category, Integer, Number
from genpipe.related.judge.page import write_tables_report
from genpipe.related.judge.scores import TITLES, evaluate_related
from genpipe.related.judge.tables import (
    RelatedTable,
    Tables,
    aggregated,
    common_values,
    counts,
    families,
    family,
    flat,
)

SEGMENTS = ("basic", "plus", "vip")


def shop(seed: int, customers: int = 500) -> dict[str, RelatedTable]:
    """The segment decides how many orders there are and what they cost; the mood of one lasts to the next."""
    rng = np.random.default_rng(seed)
    segment, age = rng.choice(3, customers, p=[0.5, 0.3, 0.2]), rng.integers(18, 80, customers)
    many = rng.poisson(np.array([1.0, 3.0, 6.0])[segment])
    above = np.repeat(np.arange(customers), many)
    amount = np.array([10.0, 50.0, 200.0])[segment[above]] * rng.lognormal(0, 0.3, len(above))
    day, mood = rng.integers(0, 700, len(above)), rng.normal(0, 1, len(above))
    for i in range(1, len(above)):
        if above[i] == above[i - 1]:
            mood[i] = 0.9 * mood[i - 1] + 0.44 * mood[i]
    day = day[np.lexsort((day, above))]
    people = pa.table({"segment": np.array(SEGMENTS)[segment], "age": age})
    orders = pa.table({"day": day, "amount": amount, "mood": mood})
    fields = (Integer(name="day"), Number(name="amount"), Number(name="mood"))
    return {
        "customers": RelatedTable(customers, people, (Category(name="segment"), Integer(name="age"))),
        "orders": RelatedTable(len(above), orders, fields, parent="customers", above=above, order="day"),
    }


def moved(tables: Tables, rows: np.ndarray, above: np.ndarray) -> dict[str, RelatedTable]:
    """Orders by number, in the order of the parents they are given."""
    at, orders = np.argsort(above, kind="stable"), tables["orders"]
    columns = orders.columns.take(pa.array(rows[at]))
    return {**tables, "orders": replace(orders, rows=len(rows), columns=columns, above=above[at])}


@pytest.fixture(scope="module")
def real() -> tuple[Tables, Tables]:
    return shop(0, 1500), shop(1)


@pytest.fixture(scope="module")
def good(real: tuple[Tables, Tables]) -> Report:
    return evaluate_related(*real, shop(2))


def value(report: Report, name: str) -> float:
    return report.score(name).value or 0.0


def test_other_real_families_reach_the_ceiling(real: tuple[Tables, Tables], good: Report) -> None:
    assert good.verdict == "excellent" and good.collapsed is False
    for name in ("fidelity", *TITLES):
        score = good.score(name)
        assert score.ceiling and score.floor is not None and abs(value(good, name) - score.ceiling) < 0.06, (
            name
        )
        assert score.floor < score.ceiling - (0.0 if name == "tables" else 0.05), name
    assert value(good, "integrity") == value(good, "order") == 1.0
    assert abs(value(good, "privacy") - 0.5) < 0.1 and value(good, "copies") < 0.01
    assert good.metrics["fidelity.number of orders"] == good.parts["number of orders"]["value"]
    assert set(good.tables) == {"customers", "orders", "customers with orders"}
    assert evaluate_related(*real, shop(2)) == good


def test_children_of_random_parents(real: tuple[Tables, Tables], good: Report) -> None:
    made = shop(2)
    rng = np.random.default_rng(0)
    rows = rng.permutation(made["orders"].rows)
    strangers = evaluate_related(*real, moved(made, rows, made["orders"].parents))
    assert abs(value(strangers, "tables") - value(good, "tables")) < 0.01
    assert abs(value(strangers, "cardinality") - value(good, "cardinality")) < 1e-9
    for name, least in (("between", 0.15), ("within", 0.2), ("families", 0.15), ("fidelity", 0.1)):
        assert value(strangers, name) < value(good, name) - least, name
    assert value(strangers, "order") < 0.8


def test_numbers_of_children_that_do_not_depend_on_the_parent(
    real: tuple[Tables, Tables], good: Report
) -> None:
    made = shop(2)
    new = np.random.default_rng(0).permutation(made["customers"].rows)[made["orders"].parents]
    dealt = evaluate_related(*real, moved(made, np.arange(made["orders"].rows), new))
    what = "children of orders by customers"
    assert dealt.parts[what]["value"] < good.parts[what]["value"] - 0.2
    assert abs(value(dealt, "cardinality") - value(good, "cardinality")) < 1e-9


def test_twice_as_many_children(real: tuple[Tables, Tables], good: Report) -> None:
    made = shop(2)
    rows = np.repeat(np.arange(made["orders"].rows), 2)
    twice = evaluate_related(*real, moved(made, rows, made["orders"].parents[rows]))
    assert value(twice, "cardinality") < value(good, "cardinality") - 0.15
    share = "share of customers without orders"
    assert twice.parts[share]["value"] == good.parts[share]["value"]


def test_rows_that_forget_the_one_before(real: tuple[Tables, Tables], good: Report) -> None:
    made = shop(2)
    rng = np.random.default_rng(0)
    rows = np.lexsort((rng.random(made["orders"].rows), made["orders"].parents))
    forgetful = evaluate_related(*real, moved(made, rows, made["orders"].parents))
    assert value(forgetful, "within") < value(good, "within") - 0.1
    assert (
        value(forgetful, "order") < 0.8 and abs(value(forgetful, "between") - value(good, "between")) < 0.01
    )


def test_an_orphan_is_refused(real: tuple[Tables, Tables]) -> None:
    made = shop(2)
    above = made["orders"].parents.copy()
    above[:5] = -1
    report = evaluate_related(*real, moved(made, np.arange(len(above)), above))
    assert value(report, "integrity") < 1 and report.collapsed
    with pytest.raises(QualityError, match=r"keys are broken: 0\.\d% of the rows of orders have no parent"):
        report.check()


def test_training_families_handed_out_are_copies(real: tuple[Tables, Tables]) -> None:
    report = evaluate_related(*real, real[0])
    assert report.verdict == "copies" and value(report, "privacy") > 0.9
    with pytest.raises(PrivacyError, match="hug the training rows"):
        report.check()


def test_a_table_with_few_held_out_rows(real: tuple[Tables, Tables]) -> None:
    with pytest.raises(
        PrivacyError, match=r"customers: not enough hold-out rows .*: 30; expected at least 50"
    ):
        evaluate_related(real[0], shop(1, 30), shop(2))


def test_one_table_of_several() -> None:
    tables = shop(3, 60)
    many = counts(tables, "orders")
    one = flat(tables, "orders")
    rows = one.columns.to_pandas()
    parents = tables["orders"].parents
    assert (rows["customers.age"].to_numpy() == tables["customers"].columns["age"].to_numpy()[parents]).all()
    later = np.concatenate([[False], parents[1:] == parents[:-1]])
    assert (rows["previous day"].isna() == ~later).all()
    assert (rows["previous day"][later].to_numpy() == rows["day"].shift()[later].to_numpy()).all()
    total = aggregated(tables, "customers", common_values(tables)).columns.to_pandas()
    assert (total["children of orders"] == many).all()
    means = rows.amount.groupby(parents).mean()
    assert np.allclose(total["mean of orders.amount"].dropna(), means)
    spread = rows.mood.groupby(parents).std()
    assert np.allclose(total["spread of orders.mood"].dropna(), spread.dropna())
    kept = families(tables, 20, np.random.default_rng(0))
    assert kept["customers"].sum() == 20 and kept["orders"].sum() == many[kept["customers"]].sum()


def test_entities_have_no_columns_of_their_own(tmp_path: Path) -> None:
    def events(seed: int, entities: int) -> dict[str, RelatedTable]:
        tables = shop(seed, entities)
        kept = np.unique(tables["orders"].parents, return_inverse=True)
        users = RelatedTable(len(kept[0]), pa.table({}), ())
        return {"customers": users, "orders": replace(tables["orders"], above=kept[1])}

    train, holdout, made = events(0, 600), events(1, 300), events(2, 300)
    report = evaluate_related(train, holdout, made)
    assert report.verdict in ("excellent", "good") and "between" not in {s.name for s in report.scores}
    page = write_tables_report(report, f"{tmp_path}/a.html", holdout=holdout, synthetic=made, title="<b>shop")
    text = Path(page).read_text()
    assert (
        "# orders" not in text
        and "&lt;b&gt;shop" in text
        and "orders per row of customers" in text
        and "<b>shop" not in text
    )


def test_children_that_are_keys_alone() -> None:
    def bare(seed: int, customers: int) -> dict[str, RelatedTable]:
        tables = shop(seed, customers)
        orders = RelatedTable(tables["orders"].rows, pa.table({}), (), "customers", tables["orders"].above)
        return {"customers": tables["customers"], "orders": orders}

    report = evaluate_related(bare(0, 600), bare(1, 300), bare(2, 300))
    assert set(report.tables) == {"customers", "customers with orders"} and report.score("cardinality").value
    assert "children of orders by customers" in report.parts and report.verdict == "excellent"


def test_a_floor_as_high_as_the_ceiling_is_no_zero() -> None:
    """Columns that have nothing to do with each other lose nothing when they are shuffled."""
    score = Score(name="a", title="A", goal="max", value=0.9, ceiling=0.92, floor=0.95, meaning="")
    assert score.position == 0.9 / 0.92
    assert score.model_copy(update={"value": 0.94}).position == 1.0
    assert score.model_copy(update={"floor": 0.5, "value": 0.71}).position == pytest.approx(0.5)


def test_a_generator_that_knows_families_is_refused_however_good(real: tuple[Tables, Tables]) -> None:
    """By family, not by row: a family's rows all have one likelihood."""
    rng, likely = np.random.default_rng(0), {}
    for share, name in ((1.0, "orders"), (0.0, "customers")):
        who = [family(tables, name) for tables in real]
        nats = [rng.normal(share * shift, 1, 1500)[w] for shift, w in zip((1, 0), who, strict=True)]
        likely[name] = Evidence(likelihoods=Likelihoods(*nats, *who))
    report = evaluate_related(*real, shop(2), evidence=likely)
    told = report.score("membership")
    assert report.verdict == "leaks" and report.headline.startswith(
        "orders: It knows who was in the training"
    )
    assert told.value == pytest.approx(0.76, abs=0.04) and "of orders, the worst" in told.meaning
    assert told.error is not None and told.error > 0.01  # of some 400 families, not of 1,300 orders
    assert not evaluate_related(*real, shop(2), evidence={"customers": likely["customers"]}).headline.count(
        "knows"
    )


def test_what_one_family_alone_has_is_counted_by_family(real: tuple[Tables, Tables], good: Report) -> None:
    """Orders of training families, each family's mood unlike any other's, dealt to others a little later."""
    made = shop(2)
    orders = real[0]["orders"].columns.slice(0, made["orders"].rows)
    later = pa.array(np.random.default_rng(0).integers(0, 700, orders.num_rows))
    columns = orders.set_column(0, "day", later)
    above = made["orders"].parents[: len(columns)]
    shown = {**made, "orders": replace(made["orders"], rows=len(columns), columns=columns, above=above)}
    report = evaluate_related(*real, shown)
    assert report.verdict in ("leaks", "copies") and "mood 100.0% (others 0.0%)" in report.headline
    assert good.score("single_values").value is not None and good.score("single_values").value < 0.02
