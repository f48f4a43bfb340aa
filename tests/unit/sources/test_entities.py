"""Whom rows are about: found where persons have several rows, and not where things and places have."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest

from genpipe.keys import entity_keys
from genpipe.sources import entities
from genpipe.sources.columns import Place
from genpipe.sources.tabular.source import TableStats, _look

Table = dict[str, list]


def people(number: int = 400, most: int = 12, seed: int = 0) -> Table:
    """Visits of insured people, `number` of them, in random order."""
    rng = np.random.default_rng(seed)
    visits = rng.integers(1, most + 1, number)
    who = rng.permutation(np.repeat(np.arange(number), visits))
    born = np.datetime64("1930-01-01") + rng.integers(0, 25_000, number)
    codes = [f"{c:05d}" for c in rng.integers(10_000, 99_999, 60)]
    return {
        "member": [f"756.{1000 + 7 * w:04d}.{w * 31 % 97:02d}" for w in who],
        "dob": born[who].astype(str).tolist(),
        "area": [codes[int(c)] for c in rng.integers(0, 60, number)[who]],
        "bloodgroup": rng.choice(["A+", "B-", "0+", "AB+"], number)[who].tolist(),
        "cost": rng.lognormal(5, 1, len(who)).round(2).tolist(),
        "day": rng.integers(1, 366, len(who)).tolist(),
    }


def look(table: Table, pieces: int = 1) -> entities.Entity | None:
    """What is found of a table that is read in so many pieces, as texts like those of a CSV."""
    batch = pa.RecordBatch.from_pydict(
        {n: [None if v is None else str(v) for v in c] for n, c in table.items()}
    )
    cuts = np.linspace(0, batch.num_rows, pieces + 1).astype(int)
    seen = [
        _look(lambda a=a, b=b: (batch.slice(a, b - a), Place("people.csv", a + 2)), 0)[0]
        for a, b in itertools.pairwise(cuts)
    ]
    stats: TableStats = reduce(lambda x, y: x.merge(y), seen)
    return entities.find(stats.repeats, stats.complete())


def without(*names: str) -> Table:
    return {n: c for n, c in people().items() if n not in names}


def doctors() -> Table:
    table = people()
    rng = np.random.default_rng(1)
    doctor = rng.integers(0, 40, len(table["dob"]))
    fields = rng.choice(["general", "heart", "bones"], 40)
    return table | {"doctor_id": [f"D{d:03d}" for d in doctor], "specialty": fields[doctor].tolist()}


def spelled() -> Table:
    table = people()
    rng = np.random.default_rng(2)
    table["member"] = [m.replace(".", "-") if rng.random() < 0.2 else m for m in table["member"]]
    table["bloodgroup"] = [g.lower() if rng.random() < 0.01 else g for g in table["bloodgroup"]]
    return table


def missing() -> Table:
    table = people()
    rng = np.random.default_rng(3)
    return table | {"member": [None if rng.random() < 0.3 else m for m in table["member"]]}


def heavy() -> Table:
    """Some with one row, some with five hundred."""
    rng = np.random.default_rng(4)
    sizes = np.r_[rng.integers(1, 4, 300), [500, 400, 300]]
    who = rng.permutation(np.repeat(np.arange(303), sizes))
    return {
        "client": [f"C{w:05d}" for w in who],
        "gender": rng.choice(["f", "m"], 303)[who].tolist(),
        "amount": rng.lognormal(3, 1, len(who)).round(2).tolist(),
    }


def orders() -> Table:
    rng = np.random.default_rng(5)
    order = np.sort(rng.integers(0, 3000, 12_000))
    buyer = rng.integers(10_000, 10_700, 3000)
    land = rng.choice(["CH", "DE", "FR"], 1000)
    return {
        "OrderNo": (order + 500_000).tolist(),
        "CustomerID": buyer[order].tolist(),
        "Country": land[buyer[order] - 10_000].tolist(),
        "Quantity": rng.poisson(3, len(order)).tolist(),
    }


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(
    ("make", "columns"),
    [
        (people, ("member",)),
        (lambda: people(6000, 9), ("member",)),
        (lambda: without("member"), ("dob",)),
        (doctors, ("member",)),
        (spelled, ("member",)),
        (missing, ("member",)),
        (heavy, ("client",)),
        (orders, ("CustomerID",)),
    ],
    ids=["visits", "many", "no number", "doctors", "spelled", "missing", "1 to 500 rows", "orders"],
)
def test_persons_with_several_rows_are_found(
    make: Callable[[], Table], columns: tuple[str, ...], pieces: int
) -> None:
    found = look(make(), pieces)
    assert found is not None and found.columns == columns


def test_a_birth_date_and_an_area_name_somebody_together() -> None:
    """Twenty thousand people share birth dates, so neither column does alone."""
    table = people(20_000, 8)
    found = look({n: table[n] for n in ("dob", "area", "bloodgroup", "cost", "day")})
    assert found is not None and found.columns == ("dob", "area") and "bloodgroup" in found.decides


def test_numbers_of_doctors_and_orders_are_no_data_either() -> None:
    found = look(doctors())
    assert found is not None and "doctor_id" in found.also
    bought = look(orders())
    assert bought is not None and "OrderNo" in bought.also


def products() -> Table:
    rng = np.random.default_rng(6)
    p = rng.integers(0, 300, 6000)
    price = rng.lognormal(3, 1, 300).round(2)
    return {
        "product": [f"SKU-{i:05d}" for i in p],
        "price": price[p].tolist(),
        "group": rng.choice(["toys", "food", "garden"], 300)[p].tolist(),
        "quantity": rng.poisson(3, 6000).tolist(),
    }


def airports() -> Table:
    rng = np.random.default_rng(7)
    a = rng.integers(0, 120, 5000)
    letters = ["".join(rng.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 3)) for _ in range(120)]
    return {
        "origin": [letters[i] for i in a],
        "city": [f"City {i % 90}" for i in a],
        "delay": rng.normal(5, 30, 5000).round().tolist(),
    }


def survey() -> Table:
    """One row a person, with answers that repeat and a column made of another."""
    rng = np.random.default_rng(8)
    wage = rng.lognormal(7, 0.4, 2000).round(-1)
    return {
        "age": rng.integers(18, 90, 2000).tolist(),
        "sex": rng.choice(["f", "m"], 2000).tolist(),
        "wage": wage.astype(int).tolist(),
        "lwage": np.log(wage).round(5).tolist(),
        **{f"q{i}": rng.integers(1, 6, 2000).tolist() for i in range(8)},
    }


@pytest.mark.parametrize("make", [products, airports, survey])
def test_things_places_and_single_rows_are_no_entities(make: Callable[[], Table]) -> None:
    assert look(make()) is None


def test_memory_does_not_grow_with_the_entities() -> None:
    small, large = (entities.look(pa.RecordBatch.from_pydict(people(n, 8))) for n in (2000, 200_000))
    size = [sum(len(r.of) * (len(r.cells) + 1) for r in seen.values()) for seen in (small, large)]
    most = entities.VALUES * entities.ROWS * 7 * 6
    assert size[0] <= most and size[1] <= most


def test_one_entity_however_it_is_spelled_and_none_without_a_name() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"who": ["Ann-12", "ann 12", "ANN.12", "Bob", None, None], "x": [1, 2, 3, 4, 5, 6]}
    )
    keys = entity_keys(batch, ("who",))
    assert len(set(keys[:3])) == 1 and len(set(keys)) == 4
    counted = entity_keys(batch, ("who",), unnamed="together")
    assert np.array_equal(counted[:4], keys[:4]) and len(set(counted)) == 3
