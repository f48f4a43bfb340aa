"""Whom rows are about: found where persons have several rows, and not where things and places have."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest

from genpipe.keys import entity_keys
from genpipe.sources import entities, repeats
from genpipe.sources.columns import Place
from genpipe.sources.tabular.source import _look
from genpipe.sources.tabular.stats import TableStats

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


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WRITTEN: dict[str, Callable[[int], object]] = {  # a number of eight digits as people write such
    "with a point": lambda n: f"756.{n:08d}",
    "with a point in the middle": lambda n: f"{n // 10_000:04d}.{n % 10_000:04d}",
    "less than one": lambda n: f"0.{n:08d}",
    "with several points": lambda n: f"756.{n // 10_000:04d}.{n % 10_000:04d}.{n % 97:02d}",
    "of pandas with gaps": lambda n: f"{n}.0",
    "of a spreadsheet": lambda n: f"7.56{n:08d}E+15",
    "whole": lambda n: n,
    "with leading zeros": lambda n: f"{n % 100_000_000:010d}",
    "longer than 64 bits": lambda n: f"75600000000000{n:08d}",
    "with blanks": lambda n: f"AB {n // 10**6:02d} {n // 10**4 % 100:02d} {n // 100 % 100:02d} C",
    "with lines": lambda n: f"{n % 600 + 100}-{n // 1000 % 90 + 10}-{n % 9000 + 1000}",
    "with a check letter": lambda n: f"{n}{'TRWAGMYFPDXBNJZSQVHLCKE'[n % 23]}",
    "UUID": lambda n: str(uuid.UUID(int=n * 12_345_678_901_234_567_890_123 % 2**128)),
    "letters": lambda n: "".join(LETTERS[n // 26**k % 26] for k in range(6)),
    "mixed case": lambda n: "".join((LETTERS + LETTERS.lower())[n // 52**k % 52] for k in range(6)),
    "looks like a date": lambda n: f"{1900 + n % 99}-{n // 99 % 12 + 1:02d}-{n // 1200 % 28 + 1:02d}",
    "e-mail": lambda n: f"p{n}@mail.example",
    "negative": lambda n: -n,
}


def numbered(write: Callable[[int], object], called: str, seed: int = 3, spelled: float = 0.0) -> Table:
    """Visits of people whose number is written so, beside other things that only one has."""
    rng = np.random.default_rng(seed)
    table, numbers = people(300, 12, seed), rng.choice(10**8, 300, replace=False)
    who = np.unique(table.pop("member"), return_inverse=True)[1]
    own = rng.choice(10**5, 300, replace=False)
    column = [str(write(int(numbers[w]))) for w in who]
    other = [v.replace(".", "-").replace(" ", "") if rng.random() < spelled else v for v in column]
    table |= {"postcode": [f"{10_000 + own[w]}" for w in who], called: list(other)}
    names = list(table)
    return {names[i]: table[names[i]] for i in rng.permutation(len(names))}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("called", ["insured", "ref", "Versicherten-Nr"])
def test_a_number_names_a_person_however_it_is_written(write: Callable[[int], object], called: str) -> None:
    found = look(numbered(write, called), pieces=3)
    assert found is not None and found.columns == (called,) and called in found.made
    spelt = look(numbered(write, called, seed=4, spelled=0.1), pieces=3)
    assert spelt is not None and spelt.columns == (called,)


def test_an_amount_may_be_a_number_so_it_names_somebody_with_the_birth_date_and_both_are_learnt() -> None:
    table = numbered(lambda n: f"{n / 100:.2f}", "income")
    found = look(without_columns(table, "postcode", "area"))
    assert found is not None and {*found.columns} == {"income", "dob"} and not found.made


def without_columns(table: Table, *names: str) -> Table:
    return {n: c for n, c in table.items() if n not in names}


def test_of_two_names_the_other_is_told() -> None:
    found = look(numbered(lambda n: f"756.{n:08d}", "insured"))
    assert found is not None and "postcode" in found.rivals


def wide() -> Table:
    """The number stands behind more columns than are looked at."""
    table, rng = people(), np.random.default_rng(2)
    fill = {f"q{i}": rng.integers(0, 5, len(table["dob"])).tolist() for i in range(70)}
    return {**fill, **table}


def within_places() -> Table:
    """Numbers that start again in every place name somebody together with it."""
    table = people(300, 8)
    who = np.unique(table.pop("member"), return_inverse=True)[1]
    return table | {"subject": (who % 30 + 1).tolist(), "site": [f"S{w // 30}" for w in who]}


def households() -> Table:
    table = people(300, 8)
    who = np.unique(table["member"], return_inverse=True)[1]
    rent = np.random.default_rng(2).integers(500, 3000, 100)
    return table | {"household_id": (who // 3 + 1000).tolist(), "rent": rent[who // 3].tolist()}


def purchases() -> Table:
    """Nothing is told of the customers."""
    rng = np.random.default_rng(2)
    return {
        "customer_id": rng.integers(1000, 1200, 900).tolist(),
        "paid": rng.gamma(2, 9, 900).round(2).tolist(),
    }


def long() -> Table:
    """Thousands of rows each."""
    who, rng = np.repeat(np.arange(12), 3000), np.random.default_rng(2)
    born = [f"{1950 + 3 * w}-03-0{w % 9 + 1}" for w in range(12)]
    return {
        "patient": [f"P-{w:04d}" for w in who],
        "born": [born[w] for w in who],
        "pulse": rng.normal(70, 9, len(who)).round().tolist(),
    }


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(
    ("make", "columns"),
    [
        (wide, {"member"}),
        (households, {"member"}),
        (purchases, {"customer_id"}),
        (long, {"patient"}),
        (lambda: without_columns(long(), "born"), {"patient"}),
    ],
)
def test_the_persons_of_other_tables(make: Callable[[], Table], columns: set[str], pieces: int) -> None:
    found = look(make(), pieces)
    assert found is not None and {*found.columns} == columns and columns <= {*found.made}


def test_a_number_that_starts_again_names_nobody_alone() -> None:
    found = look(without_columns(within_places(), "dob", "area"))
    assert found is not None and {*found.columns} == {"subject", "site"}


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


def stations() -> Table:
    """Places known by where they are, to five digits."""
    rng = np.random.default_rng(9)
    s, at = rng.integers(0, 200, 5000), rng.uniform(45, 48, 200).round(5)
    return {
        "lat": at[s].tolist(),
        "name": [f"Place {i}" for i in s],
        "height": rng.normal(500, 90, 200).round(4)[s].tolist(),
        "kind": rng.choice(["rain", "wind", "snow"], 200)[s].tolist(),
        "staff": rng.uniform(50, 150, 200).round(4)[s].tolist(),
        "rain": rng.gamma(1, 3, 5000).round(1).tolist(),
    }


@pytest.mark.parametrize("make", [products, airports, survey, stations])
def test_things_places_and_single_rows_are_no_entities(make: Callable[[], Table]) -> None:
    assert look(make()) is None


def test_memory_does_not_grow_with_the_entities() -> None:
    small, large = (repeats.look(pa.RecordBatch.from_pydict(people(n, 8))) for n in (2000, 200_000))
    size = [sum(len(r.of) * (len(r.cells) + 1) for r in seen.values()) for seen in (small, large)]
    most = repeats.VALUES * repeats.ROWS * 7 * 6
    assert size[0] <= most and size[1] <= most


def test_one_entity_however_it_is_spelled_and_none_without_a_name() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"who": ["Ann-12", "ann 12", "ANN.12", "Bob", None, None], "x": [1, 2, 3, 4, 5, 6]}
    )
    cut = entity_keys(pa.RecordBatch.from_pydict({"who": ["007.120", "7120", "712", "0", "00"]}), ("who",))
    assert cut[0] == cut[1] != cut[2] and cut[3] == cut[4]
    keys = entity_keys(batch, ("who",))
    assert len(set(keys[:3])) == 1 and len(set(keys)) == 4
    counted = entity_keys(batch, ("who",), unnamed="together")
    assert np.array_equal(counted[:4], keys[:4]) and len(set(counted)) == 3
