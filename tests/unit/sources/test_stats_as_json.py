"""What was observed of files can be kept and gone on from; the order of the files leaves no trace in it."""

from __future__ import annotations

import json
from datetime import date, timedelta
from functools import reduce
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from genpipe import store
from genpipe.sources import open_source
from genpipe.sources.tabular import source as tables
from genpipe.sources.tabular.source import TableSource
from genpipe.sources.tabular.stats import TableStats


def table(number: int, rows: int = 400) -> pa.Table:
    """Persons, a column that is whole in some files, words in others, days that two forms take, dust."""
    rng = np.random.default_rng(number)
    who = rng.integers(0, 90, rows)
    value = rng.integers(0, 9, rows).astype(object) if number % 2 else rng.normal(size=rows).round(3)
    mixed = [
        ("n/a" if v == 0 else "few" if number > 1 and v < 15 else str(v)) for v in rng.integers(0, 30, rows)
    ]
    days = [f"{1 + int(v) % 12}/{1 + int(v) % 11}/2020" for v in rng.integers(0, 99, rows)]
    odd = [f"{int(v)}.{int(v) % 7}" if number else f"1,{int(v):03d}" for v in rng.integers(0, 999, rows)]
    return pa.table(
        {
            "patient": 70_000 + who,
            "born": [date(1950, 1, 1) + timedelta(days=int(w) * 97) for w in who],
            "value": pa.array(list(map(str, value))),
            "mixed": mixed,
            "day": days,
            "odd": odd,
            "dusty": rng.integers(0, 999, rows) / 100 + (1e-15 if number == 3 else 0.0),
            "left": rng.choice(["a", "b"], rows),
        }
    )


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TableSource:
    monkeypatch.setattr(tables, "TOGETHER", 1)
    for number in range(4):
        columns = table(number)
        if number == 2:  # the same columns in another order
            columns = columns.select(columns.column_names[::-1])
        pacsv.write_csv(columns, tmp_path / f"{number}.csv")
    opened = open_source(str(tmp_path), kind="tabular", options={"drop": "left"})
    assert isinstance(opened, TableSource) and len(opened.units) == 4
    return opened


def told(source: TableSource, stats: TableStats) -> dict[str, Any]:
    return json.loads(store.canonical(source.dump(stats)))


def test_any_order_of_merging_leaves_the_same(source: TableSource) -> None:
    seen = [source.observe(unit) for unit in range(4)]
    first, *others = (reduce(lambda a, b: a.merge(b), some).settled() for some in permutations(seen))
    pairs = [seen[3].merge(seen[1]).merge(seen[0].merge(seen[2])).settled()]
    schema = source.schema(first, target=None, key=())
    for other in others + pairs:
        assert store.canonical(source.dump(other)) == store.canonical(source.dump(first))
        assert list(other.columns) == list(first.columns) and list(other.repeats) == list(first.repeats)
        assert source.schema(other, target=None, key=()) == schema
        assert source.entity(other) == source.entity(first)
        assert source.relations(other, schema) == source.relations(first, schema)
        assert source.notices(other) == source.notices(first)


def test_what_was_kept_is_gone_on_from_as_if_it_were_seen_again(source: TableSource) -> None:
    seen = [source.observe(unit) for unit in range(4)]
    whole = reduce(lambda a, b: a.merge(b), seen).settled()
    kept = source.load(told(source, reduce(lambda a, b: a.merge(b), seen[:3]).settled()))
    assert told(source, kept) == told(source, reduce(lambda a, b: a.merge(b), seen[:3]).settled())
    again = kept.merge(seen[3]).settled()
    assert told(source, again) == told(source, whole)
    assert source.schema(again, target=None, key=()) == source.schema(whole, target=None, key=())
    assert source.entity(again) == source.entity(whole)


def test_a_column_that_is_left_out_leaves_nothing(source: TableSource) -> None:
    stats = reduce(lambda a, b: a.merge(b), map(source.observe, range(4))).settled()
    kept = told(source, stats)
    assert kept["left"] == ["left"]
    assert "left" not in [c["name"] for c in kept["columns"]] + [
        *kept["repeats"],
        *kept["sample"][1],
        *kept["sample"][2],
    ]
    assert {"day", "odd"} <= kept["sample"][2].keys()


def test_a_sample_of_before_there_were_texts_is_read(source: TableSource) -> None:
    kept = told(source, reduce(lambda a, b: a.merge(b), map(source.observe, range(4))).settled())
    kept["sample"] = kept["sample"][:2]
    assert not source.load(kept).sample.texts


@pytest.mark.parametrize("wrong", [{}, {"layout": None}, [], None, {"layout": ["other.csv", []]}])
def test_something_else_is_no_statistics(wrong: Any, source: TableSource) -> None:
    right = told(source, source.observe(0))
    with pytest.raises((ValueError, TypeError, KeyError)):
        source.load(
            right | wrong if isinstance(wrong, dict) and "layout" in wrong and wrong["layout"] else wrong
        )
