"""Tables in other shapes than a row of names over rows of cells: no header, arrays, nested, parts of them."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.errors import DataError
from genpipe.sources.tabular.csv_header import found_delimiter, looks_like_data
from genpipe.stages.named_data import latest_of
from genpipe.verbs import ingest

ROWS = [(i % 17, "xyz"[i % 3], f"{i}.5") for i in range(40)]
PEOPLE: list[dict[str, Any]] = [
    {"id": f"u{i}", "user": {"city": "xy"[i % 2], "home": {"rooms": i % 5}}, "tags": ["a"]} for i in range(40)
]
BODY = "".join(f"{a},{b},{c}\n" for a, b, c in ROWS)


def rows(dataset: Dataset) -> list[dict[str, Any]]:
    found = dataset.table("train").to_pylist() + dataset.table("holdout").to_pylist()
    return sorted(found, key=lambda row: json.dumps(row, default=str))


def made(path: Path, text: str, **options: Any) -> Dataset:
    path.write_text(text)
    return ingest(str(path), name="t", **options)


def test_what_is_said_of_free_text_works_when_it_is_typed(home: Path, tmp_path: Path) -> None:
    long = "the parcel came on a Tuesday, two days late, and the box was open at one side"
    rows = [f'{i % 3 + 1},"{long} {i}"' for i in range(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(["stars,what they wrote", *rows]))
    table = ingest(str(tmp_path / "reviews.csv"), name="reviews")
    assert table.schema.field("what they wrote").kind == "identifier"
    (said,) = [n for n in table.manifest.origin["notices"] if "NOT LEARNT" in n]
    assert "free text" in said and "kind: category" not in said
    typed = shlex.split(re.findall("`(--kind .*?)`", said)[0])
    command = ["ingest", str(tmp_path / "reviews.csv"), "--name", "apart", "--target", "stars", *typed]
    assert execute(command) == 0
    texts, _ = latest_of("apart")
    assert texts.schema.kind == "text" and texts.schema.conditions == ("stars",) and texts.rows() == 60


@pytest.mark.parametrize(
    "options, names",
    [
        ({"header": "none"}, ("column_1", "column_2", "column_3")),
        ({"header": False}, ("column_1", "column_2", "column_3")),
        ({"names": ["a", "b", "c"]}, ("a", "b", "c")),
    ],
)
def test_without_a_header_every_row_is_data(
    home: Path, tmp_path: Path, options: dict[str, Any], names: tuple[str, ...]
) -> None:
    dataset = made(tmp_path / "t.csv", BODY, **options)
    assert dataset.schema.names == names and dataset.rows() == len(ROWS)
    assert sorted(row[names[2]] for row in rows(dataset)) == sorted(float(c) for _, _, c in ROWS)


def test_a_first_row_of_data_is_no_header_unless_one_says_so(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a first row like those below it.*header=none"):
        made(tmp_path / "t.csv", BODY)
    assert made(tmp_path / "t.csv", BODY, header=True).rows() == len(ROWS) - 1
    named = made(tmp_path / "t.csv", "1,2,3\n" + BODY, header=True, names=["a", "b", "c"])
    assert named.schema.names == ("a", "b", "c") and named.rows() == len(ROWS)


@pytest.mark.parametrize(
    "first, body, data",
    [
        ("age,sex,pay", BODY, False),
        ("34,Private,<=50K", "40,Private,<=50K\n50,State,>50K\n" * 9, True),
        ("Oslo,7", "Rome,8\nBern,9\n" * 9, True),
        ("country,1990,1991", "Oslo,7,8\nRome,8,9\n" * 9, False),
        ("id,1,2,3", "a,7,8,4\nb,8,9,5\n" * 9, False),
        ("id,1/22/20,1/23/20,1/24/20", "a,7,8,4\nb,8,9,5\n" * 9, False),
        ("2021-01-01,5", "2021-01-02,6\n2021-01-03,7\n" * 9, True),
        ("yes,no", "no,yes\nyes,no\n" * 9, True),
        ("first,second", "no,yes\nyes,no\n" * 9, False),
    ],
)
def test_what_tells_a_header_from_data(first: str, body: str, data: bool) -> None:
    cells = [line.split(",") for line in body.splitlines()]
    assert looks_like_data(first.split(","), cells) is data


def test_delimiters_in_quotes_do_not_count() -> None:
    assert found_delimiter('"last, first";"city, ""zip"", c";amount\n"a";"b";1\n') == ";"
    assert found_delimiter('"a\nb","c;d;e",f\n') == ","


def test_lines_before_the_header_and_comments_are_left_out(home: Path, tmp_path: Path) -> None:
    text = "made by a machine\n# on Monday\na,b,c\n" + BODY.replace("\n", "\n# so it is\n", 3)
    dataset = made(tmp_path / "t.csv", text, skip=1, comment="#")
    assert dataset.schema.names == ("a", "b", "c") and dataset.rows() == len(ROWS)
    with pytest.raises(DataError, match=":a: 'x'; expected integer"):
        made(tmp_path / "t.csv", text.replace("3,x,3.5", "x,x,3.5"), skip=1, comment="#",
             schema=dataset.schema)  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("block", [64, 2**20])
def test_an_array_is_its_objects(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, block: int
) -> None:
    monkeypatch.setattr("genpipe.sources.base.Options.block", block)
    objects = [{"a": i, "b": 'ü "[x], {y}\n'[: i % 13], "c": i / 7} for i in range(60)]
    array = made(tmp_path / "t.json", "\n" + json.dumps(objects, indent=indent, ensure_ascii=False))
    lines = made(tmp_path / "t.jsonl", "".join(json.dumps(o) + "\n" for o in objects))
    assert rows(array) == rows(lines) and array.rows() == 60


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_structs_are_columns_with_dots_and_lists_are_left_out_aloud(
    home: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([*PEOPLE, {"id": "u", "user": None, "tags": None}]), path)
    else:
        texts = [json.dumps(o) for o in [*PEOPLE, {"id": "u", "user": None, "tags": None}]]
        path.write_text("\n".join(texts) if suffix == "jsonl" else f"[{','.join(texts)}]")
    dataset = ingest(str(path), name="t")
    assert dataset.schema.names == ("id", "user.city", "user.home.rooms")
    assert dataset.schema.field("user.city").nullable and dataset.rows() == len(PEOPLE) + 1
    assert any("'tags' holds lists and was left out" in n for n in dataset.manifest.origin["notices"])
    assert any("'id' is NOT LEARNT" in n for n in dataset.manifest.origin["notices"])


@pytest.mark.parametrize(
    "options, names",
    [
        ({"drop": ["tags", "user"]}, ("id",)),
        ({"drop": "user.home"}, ("id", "user.city")),
        ({"columns": ["user"]}, ("user.city", "user.home.rooms")),
        ({"columns": ["id", "user"], "drop": ["user.city"]}, ("id", "user.home.rooms")),
    ],
)
def test_some_columns_are_taken(
    home: Path, tmp_path: Path, options: dict[str, Any], names: tuple[str, ...]
) -> None:
    text = "".join(json.dumps(o) + "\n" for o in PEOPLE)
    assert made(tmp_path / "t.jsonl", text, **options).schema.names == names


def test_folders_of_hive_are_columns(home: Path, tmp_path: Path) -> None:
    for year, city in ((2023, "Ulm"), (2024, "New%20York"), (2024, "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / "sales" / f"year={year}" / f"city={city}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"n": list(range(40))}), folder / "part-0.parquet")
        (folder / "more.csv").write_text("n\n" + "7\n" * 5)
    data = ingest(str(tmp_path / "sales"), holdout=0)
    assert [(f.name, f.kind) for f in data.schema.fields] == [
        ("n", "integer"), ("year", "integer"), ("city", "category"),
    ]  # fmt: skip
    counts = data.pandas().groupby(["year", "city"], dropna=False).size().to_dict()
    assert sorted(counts.values()) == [45, 45, 45] and counts[2024, "New York"] == 45
    assert data.arrow()["city"].null_count == 45
    inside = ingest(str(tmp_path / "sales" / "year=2023" / "city=Ulm"), holdout=0)  # a folder by itself
    assert inside.schema.names == ("n",)


def zipped(path: Path, files: dict[str, str]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return str(path)


def test_tables_in_an_archive_are_one_table(home: Path, tmp_path: Path) -> None:
    half = [f"a,b,c\n{BODY}", f"a,b,c\n{BODY}"]
    junk = {"__MACOSX/x.csv": "junk", "read.me": "words", "in/.hidden.csv": "junk"}
    both = ingest(zipped(tmp_path / "both.zip", {"in/1.csv": half[0], "in/2.csv": half[1]} | junk), holdout=0)
    assert both.rows() == 80 and both.schema.names == ("a", "b", "c")
    (tmp_path / "in").mkdir()
    for i, text in enumerate(half):
        (tmp_path / "in" / f"{i + 1}.csv").write_text(text)
    assert both.arrow().equals(ingest(str(tmp_path / "in"), holdout=0).arrow())
    lines = "".join(json.dumps(row) + "\n" for row in PEOPLE)
    assert ingest(zipped(tmp_path / "people.zip", {"people.jsonl": lines}), holdout=0).rows() == 40


def test_archives_that_are_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no CSV or JSON in an archive"):
        ingest(zipped(tmp_path / "pictures.zip", {"a.png": "x", "b.zip": "y"}))
    with pytest.raises(DataError, match=r"other columns than 1.csv"):
        ingest(zipped(tmp_path / "two.zip", {"1.csv": f"a,b,c\n{BODY}", "2.csv": f"a,b,d\n{BODY}"}))
    whole = Path(zipped(tmp_path / "whole.zip", {"1.csv": f"a,b,c\n{BODY}"})).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    with pytest.raises(DataError, match="damaged or cut off archive"):
        ingest(str(tmp_path / "cut.zip"))
    (tmp_path / "flipped.zip").write_bytes(whole[:60] + bytes([whole[60] ^ 255]) + whole[61:])
    with pytest.raises(DataError, match=r"damaged|cut off"):
        ingest(str(tmp_path / "flipped.zip"))
    bomb = zipped(tmp_path / "bomb.zip", {"1.csv": "a,b\n" + "0,0\n" * 20_000_000})
    with pytest.raises(DataError, match="grow to more than"):
        ingest(bomb, memory=96 * 2**20)
    with pytest.raises(DataError, match="1001 files in one archive"):
        ingest(zipped(tmp_path / "many.zip", {f"{i}.csv": "a" for i in range(1001)}))
