"""A flat table taken apart by entity and put together again: the same rows, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import genpipe
from benchmarks import people
from genpipe.dataset import Dataset
from genpipe.related.flatten import firsts
from genpipe.related.panel import KEY
from genpipe.related.panel_apart import Apart, apart, several_rows


def read(table: pd.DataFrame, home: Path, **options: object) -> Dataset:
    home.mkdir(parents=True, exist_ok=True)
    table.to_csv(home / "rows.csv", index=False)
    return genpipe.ingest(str(home / "rows.csv"), name="rows", **options)


def wages(workers: int = 60) -> pd.DataFrame:
    """Years in order, from another one for each; experience and age rise with them; the square follows."""
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(workers), rng.integers(2, 7, workers))
    n = np.arange(len(of)) - np.maximum.accumulate(np.where(firsts(of), np.arange(len(of)), 0))
    exper = rng.integers(0, 9, workers)[of] + n
    table = {
        "nr": 100 + of, "year": rng.integers(1980, 1985, workers)[of] + n,
        "educ": rng.integers(8, 16, workers)[of],
        "exper": exper, "expersq": exper**2, "age": exper + 20.5, "hours": rng.integers(1, 9, len(of)) * 250,
        "wage": rng.lognormal(2, 0.5, len(of)).round(2),
    }  # fmt: skip
    return pd.DataFrame(table)


def together(found: Apart) -> pa.Table:
    """Flat again, as generated tables are, with what the codec would know of columns that decide others."""
    of = found.rows[found.panel.key].cast(pa.string()).combine_chunks()
    return found.panel.flat(found.entities, found.rows, of.dictionary_encode().indices.to_numpy())


def test_what_an_entity_determines_its_order_and_what_rises(home: Path) -> None:
    found = apart(read(wages(), home, entity="nr"))
    panel = found.panel
    assert (panel.key, panel.held, panel.order) == ("nr", ("educ",), "year")
    assert [s.field.name for s in panel.steps] == ["exper", "age"]
    assert panel.usual == ("expersq", "hours", "wage")
    assert [*found.about.names] == [
        "nr", "educ", "first exper", "first age", "usual expersq", "usual hours", "usual wage"
    ]  # fmt: skip
    care = apart(read(people.care(60, 0), home / "care")).panel
    assert (care.key, care.held) == ("patient", ("birth_date", "sex", "diagnosis"))
    assert (care.order, care.steps, care.usual) == ("date", (), ("ward", "floor", "pressure", "cost"))


TABLES = {"wages": wages(), "care": people.care(60, 0), "visits": people.visits(40, 0)}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_together_again_it_is_the_same_table_but_for_names(home: Path, table: pd.DataFrame) -> None:
    dataset = read(table, home, entity=table.columns[0])
    found = apart(dataset)
    back = together(found)
    was = pa.concat_tables([dataset.table("train"), dataset.table("holdout")])
    assert back.schema.names == was.schema.names and back.schema.types == was.schema.types
    who = table.columns[0]
    one, other = was.to_pandas(), back.to_pandas()
    order = pd.factorize(one[who])[0].argsort(kind="stable")
    one = one.iloc[order].reset_index(drop=True)
    for step in found.panel.steps:  # but for what fewer than five reach
        assert ((one[step.field.name] < step.low) | (one[step.field.name] > step.high)).mean() < 0.05
        one[step.field.name] = one[step.field.name].clip(step.low, step.high)
    pd.testing.assert_frame_equal(one.drop(columns=who), other.drop(columns=who))
    assert (pd.factorize(one[who])[0] == pd.factorize(other[who])[0]).all()
    assert not set(one[who]) & set(other[who])


def test_entities_without_a_number_or_with_two_columns_have_a_made_key(home: Path) -> None:
    table = people.visits(60, 1).drop(columns="insured")
    dataset = read(table, home, entity=["birth_date", "postcode"])
    found = apart(dataset)
    assert found.panel.key == KEY and {"birth_date", "postcode"} <= {*found.panel.held}
    assert KEY not in together(found).schema.names
    nobody = people.care(60, 2)
    nobody.loc[nobody.patient == nobody.patient.iloc[0], "patient"] = None
    found = apart(read(nobody, home / "nobody", entity="patient"))
    assert found.panel.absent
    missing = together(found)["patient"].null_count
    assert missing == nobody.patient.isna().sum() > 0


def test_the_split_of_the_dataset_is_kept(home: Path) -> None:
    dataset = read(people.care(80, 0), home)
    found = apart(dataset)
    held = dataset.table("holdout")["patient"].unique()
    assert found.root.held.sum() == len(held) > 0
    assert found.root.untold == ("birth_date",)  # sex and diagnosis have few values


@pytest.mark.parametrize(
    ("table", "entity", "why"),
    [
        (people.care(12, 0), "patient", "12 entities are too few"),
        (people.care(60, 0).drop_duplicates("patient"), "patient", "more than one row"),
        (people.care(60, 0), "none: a test", "nobody"),
    ],
    ids=["few", "single", "none"],
)
def test_where_rows_are_learnt_by_themselves(home: Path, table: pd.DataFrame, entity: str, why: str) -> None:
    assert why in several_rows(read(table, home, entity=entity))
