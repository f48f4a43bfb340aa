"""Dates as people write them: found, read, explained, and refused with the row."""

from __future__ import annotations

import json
import random
import re
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.errors import DataError
from genpipe.sources.schema_file import schema_to_yaml
from genpipe.verbs import ingest
from genpipe.written import as_written, find, reader_of, settle

DAYS = [datetime(2015, 1, 1, 0, 5) + timedelta(days=37 * i, hours=5 * i) for i in range(60)]
FORMATS = {
    "us": "%m/%d/%Y",
    "german": "%d.%m.%Y",
    "dashes": "%d-%m-%Y",
    "year first": "%Y/%m/%d",
    "clock": "%d/%m/%Y %H:%M",
    "seconds": "%m/%d/%Y %H:%M:%S",
    "half days": "%m/%d/%Y %I:%M %p",
}


def table(path: Path, columns: dict[str, list[str]]) -> str:
    rows = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.mark.parametrize("padded", [True, False])
def test_formats_are_found_and_read_exactly(home: Path, tmp_path: Path, padded: bool) -> None:
    shown = {
        name: f if padded else f.replace("%m", "%-m").replace("%d", "%-d") for name, f in FORMATS.items()
    }
    texts = {name: [d.strftime(f) for d in DAYS] for name, f in shown.items()}
    dataset = ingest(table(tmp_path / "days.csv", texts), name="days", holdout=0.1)
    rows = dataset.table("train").to_pylist() + dataset.table("holdout").to_pylist()
    for name, wanted in FORMATS.items():
        field = dataset.schema.field(name)
        form = wanted if padded else wanted.replace("%m", "%-m").replace("%d", "%-d")
        assert getattr(field, "format", None) == form and form in field.reason
        clock = "%H" in wanted or "%I" in wanted
        assert field.kind == ("timestamp" if clock else "date")
        expected = [d.replace(second=0) if clock else d.date() for d in DAYS]
        assert sorted(row[name] for row in rows) == expected
    assert f"format: '{shown['us']}'" in schema_to_yaml(dataset.schema)


def test_where_both_would_do_the_month_is_first_between_slashes_and_the_reason_says_so(
    home: Path, tmp_path: Path
) -> None:
    texts = {
        "day": [f"{1 + i % 12}/{1 + i % 11}/2020" for i in range(60)],
        "x": [str(i % 7) for i in range(60)],
    }
    field = ingest(table(tmp_path / "days.csv", texts), name="days", holdout=0.1).schema.field("day")
    assert getattr(field, "format", None) == "%-m/%-d/%Y"
    assert "%-d/%-m/%Y would do as well: set `format`" in field.reason


def test_what_is_no_day_is_refused_with_its_row(home: Path, tmp_path: Path) -> None:
    texts = {"day": [d.strftime("%d/%m/%Y") for d in DAYS], "x": [str(i % 7) for i in range(60)]}
    texts["day"][7] = "31/02/2017"  # C's strptime takes it for the third of March
    source = table(tmp_path / "days.csv", texts)
    with pytest.raises(DataError, match="1 of 60 values are not written as %d/%m/%Y; expected dates"):
        ingest(source, name="days", holdout=0.1)
    schema = tmp_path / "days.yaml"
    schema.write_text(
        "kind: tabular\nfields:\n"
        "  - {name: day, kind: date, format: '%d/%m/%Y'}\n  - {name: x, kind: integer}\n"
    )
    with pytest.raises(DataError, match=r"row 9:day: '31/02/2017'; expected date"):
        ingest(source, name="days", holdout=0.1, schema=str(schema))
    texts["day"][7] = "28/02/2017"
    made = ingest(table(tmp_path / "days.csv", texts), name="days", holdout=0.1)
    days = [d for split in ("train", "holdout") for d in made.table(split)["day"].to_pylist()]
    assert date(2017, 2, 28) in days


@pytest.mark.parametrize("text", ["1/2", "10.0.0.1", "1/2/3", "12/2020/1", "1-2-03", "1.2.3.4"])
def test_other_texts_stay_texts(home: Path, tmp_path: Path, text: str) -> None:
    texts = {"version": [text] * 60, "x": [f"{i}.5" for i in range(60)]}
    schema = ingest(table(tmp_path / "t.csv", texts), name="t", holdout=0.1).schema
    assert schema.field("version").kind not in ("date", "timestamp")


DRAWN = random.Random(0)
AMOUNTS = [round(DRAWN.random() * 9000 + 1000, 2) for _ in range(60)]
SWAPPED = str.maketrans(",.", ".,")


def either(before: str, plus: str, after: str = "", form: str = ".2f") -> list[str]:
    """Two of three amounts are negative."""
    return [f"{before}{v:{form}}{after}" if i % 3 else f"{plus}{v:{form}}" for i, v in enumerate(AMOUNTS)]


WRITTEN: dict[str, tuple[str, str, list[str]]] = {
    "dollars": ("number", "$#,##0.00", [f"${v:,.2f}" for v in AMOUNTS]),
    "accounting": ("number", "$#,##0.00;($#,##0.00)", either("($", "$", ")", ",.2f")),
    "minus inside": ("number", "$0.00;$-0.00", either("$-", "$")),
    "minus behind": ("number", "0.00;0.00-", either("", "", "-")),
    "euros": ("number", "0.00 €", [f"{v:.2f} €" for v in AMOUNTS]),
    "german": ("number", "#.##0,00 €", [f"{v:,.2f} €".translate(SWAPPED) for v in AMOUNTS]),
    "french": ("number", "# ##0,00", [f"{v * 9:,.2f}".replace(",", " ").replace(".", ",") for v in AMOUNTS]),
    "swiss": ("number", "CHF #'##0.00", [f"CHF {v:,.2f}".replace(",", "'") for v in AMOUNTS]),
    "brackets": ("number", "0.00;(0.00)", either("(", "", ")")),
    "per cent": ("number", "0.0%", [f"{v / 100:.1f}%" for v in AMOUNTS]),
    "thousands": ("integer", "#,##0", [f"{int(v):,}" if i % 2 else str(i) for i, v in enumerate(AMOUNTS)]),
    "comma": ("number", "0,00", [f"{v:.2f}".replace(".", ",") for v in AMOUNTS]),
    "unit": ("integer", "0 kg", [f"{int(v)} kg" for v in AMOUNTS]),
    "degrees": ("number", "0.0°C", [f"{v / 100 - 50:.1f}°C" for v in AMOUNTS]),
    "whole": ("integer", "0.0", [f"{int(v)}.0" for v in AMOUNTS]),
    "compact": ("date", "%Y%m%d", [d.strftime("%Y%m%d") for d in DAYS]),
    "named month": ("date", "%d %b %Y", [d.strftime("%d %b %Y") for d in DAYS]),
    "american": ("date", "%B %-d, %Y", [d.strftime("%B %-d, %Y") for d in DAYS]),
    "two digits": ("date", "%-m/%-d/%y", [d.strftime("%-m/%-d/%y") for d in DAYS]),
    "month": ("date", "%Y-%m", [d.strftime("%Y-%m") for d in DAYS]),
    "quarter": ("date", "%Y-Q%q", [f"{d.year}-Q{(d.month + 2) // 3}" for d in DAYS]),
    "week": ("date", "%G-W%V", [d.strftime("%G-W%V") for d in DAYS]),
    "clock": ("integer", "%H:%M", [d.strftime("%H:%M") for d in DAYS]),
    "half days": ("integer", "%-I:%M %p", [d.strftime("%-I:%M %p") for d in DAYS]),
    "duration": ("integer", "%-H:%M:%S", [f"{i}:{i:02}:30" for i in range(60)]),
    "days": ("integer", "%-d days %H:%M:%S", [f"{i // 9} days {i % 24:02}:{i:02}:30" for i in range(60)]),
    "iso": ("integer", "PT%-HH%-MM%-SS", [f"PT{1 + i // 9}H{1 + i % 59}M" for i in range(60)]),
    "Python": ("boolean", "True/False", [str(i % 3 == 0) for i in range(60)]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_what_people_write_is_read_and_written_so_again(home: Path, tmp_path: Path, name: str) -> None:
    kind, form, texts = WRITTEN[name]
    texts = [*texts[:-2], "n/a", "-"]
    source = tmp_path / "t.jsonl"
    source.write_text("".join(json.dumps({"x": t, "y": i % 5}) + "\n" for i, t in enumerate(texts)))
    dataset = ingest(str(source), name="t", holdout=0.2)
    field = dataset.schema.field("x")
    assert (field.kind, getattr(field, "format", None)) == (kind, form)
    assert field.nullable
    table = pa.concat_tables([dataset.table("train"), dataset.table("holdout")])
    back = as_written(table.combine_chunks().to_batches()[0], {"x": form}).column("x").to_pylist()
    assert sorted(filter(None, back)) == sorted(texts[:-2]) and back.count(None) == 2
    again = tmp_path / "t.yaml"
    again.write_text(schema_to_yaml(dataset.schema))
    obeyed = ingest(str(source), name="again", holdout=0.2, schema=str(again))
    assert obeyed.table("train").equals(dataset.table("train"))


@pytest.mark.parametrize(
    "texts",
    [
        [f"INV{1000 + i}" for i in range(60)],
        [f"0{i:03}" for i in range(60)],
        [f"{555} {100 + i} {900 - i}" for i in range(60)],
        [f"1.{i}.{i % 7}" for i in range(60)],
        [f"{20201300 + i}" for i in range(60)],
        [f"{i}{'AB'[i % 2]}" for i in range(60)],
    ],
)
def test_what_only_looks_like_one_stays_as_it_is(home: Path, tmp_path: Path, texts: list[str]) -> None:
    schema = ingest(table(tmp_path / "t.csv", {"x": texts, "y": ["1.5", "2.5"] * 30}), name="t").schema
    assert getattr(schema.field("x"), "format", None) is None


def test_money_under_a_schema_file_and_words_of_a_boolean(home: Path, tmp_path: Path) -> None:
    texts = {
        "pay": [f"${v:.2f}" for v in AMOUNTS],
        "n": [f"{i}.0" for i in range(60)],
        "on": ["Ja", "nein"] * 30,
    }
    source, schema = table(tmp_path / "t.csv", texts), tmp_path / "t.yaml"
    schema.write_text(
        "kind: tabular\nfields:\n- {name: pay, kind: number}\n- {name: n, kind: integer}\n"
        "- {name: on, kind: boolean}\n"
    )
    made = ingest(source, name="t", schema=str(schema))
    rows = made.table("train").to_pylist() + made.table("holdout").to_pylist()
    assert sorted(row["pay"] for row in rows) == sorted(AMOUNTS)
    assert sorted(row["n"] for row in rows) == list(range(60)) and sum(row["on"] for row in rows) == 30
    schema.write_text(schema.read_text().replace("kind: number", "kind: number, format: '0,00 €'"))
    with pytest.raises(DataError, match=r"row 2:pay: '\$\d+.*expected number written as 0,00 €"):
        ingest(source, name="t", schema=str(schema))


def test_batches_that_show_no_mark_go_with_those_that_do() -> None:
    small, large = (
        pa.array([f"${i}.50" for i in range(1, 9)]),
        pa.array([f"${i},000.25" for i in range(1, 9)]),
    )
    assert settle(find(small) + find(large))[0] == ("$#,##0.00", 16)
    assert settle(find(small)) == [("$0.00", 8)]
    whole, comma = pa.array(["5 €"] * 6), pa.array(["1,5 €"] * 6)
    assert settle(find(whole) + find(comma))[0] == ("0,# €", 12)


def test_what_is_made_up_is_written_as_the_data_are(home: Path, tmp_path: Path) -> None:
    """From the file through the codec, with codes no row has, to texts again."""
    columns = {name: texts * 5 for name, (_, _, texts) in WRITTEN.items()}
    source = tmp_path / "t.jsonl"
    lines = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    dataset = ingest(str(source), name="t", entity="none: the rows are repeated for the test")
    codec = fit(TabularCodec, dataset.schema, dataset.batches("train"), CodecConfig(dependencies=False))
    sizes = np.array(codec.spec("tokens").vocabulary)
    x = (np.random.default_rng(0).random((200, len(sizes))) * sizes).astype(np.int64)
    made = codec.decode({"x": x, "condition": np.zeros((200, 0), int)}, "tokens", np.random.default_rng(0))
    texts = as_written(made, dataset.schema.forms)
    for name, (kind, form, own) in WRITTEN.items():
        values = texts.column(name).to_pylist()
        if kind == "boolean":
            assert set(values) <= {"True", "False"}
            continue
        reader = reader_of(form)
        assert reader.read(pa.array(values), form).null_count == 0
        made_shapes, shapes = ({re.sub(r"\d[\d,.' ]*", "0", text) for text in some} for some in (values, own))
        if name == "iso":
            shapes |= {"PT0H", "PT0M"}  # whole hours, and less than one
        assert made_shapes <= shapes, name
    whole = pa.Table.from_batches(dataset.written("train")).to_pylist()
    assert {row["dollars"] for row in whole} <= set(columns["dollars"])
