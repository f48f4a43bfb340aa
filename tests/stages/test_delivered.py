"""Outputs that open: any reader of Parquet reads a delivery whole, and sees nothing before it is whole."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import python_calamine

import genpipe
from genpipe import store
from genpipe.dataset import Dataset, commit
from genpipe.delivery import begin, deliver, working
from genpipe.errors import ConflictError, DataError, UsageError
from genpipe.sheet_file import write_sheet
from genpipe.sources.schema_file import schema_to_yaml
from genpipe.stages.generate import verb
from genpipe.stages.generate.shards import GenerationJob, Request
from tests.small_dataset import SCHEMA, small_dataset

ROWS = 5000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("delivered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(home / "home"))
        data = small_dataset(str(home / "people"), rows=600)
        return genpipe.train(data, recipe="tabular_trees").uri


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generate(model: str, output: object, rows: int = ROWS, seed: int = 0) -> Dataset:
    made = genpipe.generate(
        model, rows=rows, output=str(output), seed=seed, workers=0, rows_per_part=rows // 3 + 1
    )
    assert isinstance(made, Dataset)
    return made


def test_a_delivery_is_a_folder_of_parquet_and_nothing_else(model: str, where: Path) -> None:
    made = generate(model, "out")
    assert sorted(os.listdir("out")) == ["data", "manifest.parquet"]
    names = sorted(os.listdir("out/data"))
    assert names == [f"generated-0000{i}.parquet" for i in range(3)]
    assert os.listdir(where) == ["out"]
    frame = pd.read_parquet("out")
    assert len(frame) == ROWS and frame.equals(made.pandas())
    assert made.polars().to_arrow().num_rows == made.arrow().num_rows == ROWS
    # readers that look for files at any depth, and at all kinds of names
    every = [pq.read_table(p) for p in sorted(where.glob("out/**/*.parquet"))]
    assert sum(t.num_rows for t in every) == ROWS and len({t.schema.remove_metadata() for t in every}) == 1
    assert genpipe.explain("out")["what"] == "generated dataset"
    assert genpipe.explain("out/data/generated-00001.parquet")["what"] == "generated file"
    shutil.copytree("out", "elsewhere")
    copied = Dataset("elsewhere")
    copied.verify()
    assert copied.fingerprint == made.fingerprint and copied.rows() == ROWS


def test_the_same_again_is_done_and_another_request_is_refused(model: str, where: Path) -> None:
    generate(model, "out")
    times = {p.name: p.stat().st_mtime_ns for p in Path("out").iterdir()}
    generate(model, "out")
    assert times == {p.name: p.stat().st_mtime_ns for p in Path("out").iterdir()}
    with pytest.raises(ConflictError, match=r"output of another request \(other seed\)"):
        generate(model, "out", seed=1)
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("x")
    with pytest.raises(ConflictError, match="a folder with other files"):
        generate(model, "mine")
    assert os.listdir("mine") == ["notes.txt"]


def test_nothing_is_seen_before_the_commit_and_a_killed_run_goes_on(
    model: str, where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_of, real = [], verb.check_space

    def stop(output: str, parts: object, *, rows: int) -> None:
        made_of.append(output)
        if len(made_of) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(verb, "check_space", stop)
    with pytest.raises(KeyboardInterrupt):
        generate(model, "out")
    assert not Path("out").exists() and list(where.glob("**/*.parquet"))
    kept = {p.name for p in where.glob(".out.making/shards/*")}
    assert len(kept) == 2
    monkeypatch.setattr(verb, "check_space", real)
    assert generate(model, "out").rows() == ROWS and not Path(".out.making").exists()


def test_a_lost_part_is_made_again_in_its_place(model: str, where: Path) -> None:
    generate(model, "out")
    before = {p.name: p.read_bytes() for p in Path("out").rglob("*.parquet")}
    Path("out/data/generated-00001.parquet").unlink()
    generate(model, "out")
    assert len(before) == 4 and before == {p.name: p.read_bytes() for p in Path("out").rglob("*.parquet")}


def test_two_at_once_to_one_output_end_as_one(model: str, where: Path) -> None:
    errors = list[BaseException]()

    def run() -> None:
        try:
            generate(model, "out")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(pd.read_parquet("out")) == ROWS


def test_whoever_comes_while_another_clears_away_finds_what_is_made(
    where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other has taken the request, and removes it just before it is read."""
    work, create, calls = working("out"), store.create, list[str]()

    def cleared(uri: str, data: bytes) -> bool:
        calls.append(uri)
        if len(calls) == 1:
            raise FileNotFoundError(uri)
        return create(uri, data)

    monkeypatch.setattr(store, "create", cleared)
    assert begin("out", {"rows": 1}).work == work and len(calls) == 2


def test_a_folder_that_is_there_already_is_filled(model: str, where: Path) -> None:
    Path("out").mkdir()
    assert generate(model, where / "out").rows() == ROWS and len(pd.read_parquet("out")) == ROWS


def test_a_mounted_volume_is_filled_from_within(
    model: str, where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("volume").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "volume")
    assert working("volume") == str(where / "volume/.making")
    generate(model, "volume")
    assert len(pd.read_parquet("volume")) == ROWS and not Path("volume/.making").exists()


def test_what_an_earlier_version_wrote_is_read_and_gone_on_with(
    model: str, where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request, records, parts and manifest lay in the output itself."""
    new = generate(model, "new")
    origin = new.manifest.origin
    request = Request(**{k: origin[k] for k in Request.model_fields if k in origin})
    job = GenerationJob(model, "old", request)
    store.create("old/request.json", store.canonical(request.model_dump()))
    from genpipe.stages.generate.shards import make_part

    make_part(job, 0)
    went_on = generate(model, "old")
    assert went_on.fingerprint == new.fingerprint and Path("old/manifest.json").exists()
    assert went_on.manifest.parts[0].path.startswith("data/") and len(Dataset("old").pandas()) == ROWS
    generate(model, "old")
    with pytest.raises(ConflictError, match="another request"):
        generate(model, "old", seed=3)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "arrow", "feather", "xlsx"])
def test_an_output_can_be_one_file(model: str, where: Path, ending: str) -> None:
    made = generate(model, f"people.{ending}", rows=300)
    file = Path(f"people.{ending}")
    read = {"csv": pd.read_csv, "jsonl": lambda p: pd.read_json(p, lines=True), "parquet": pd.read_parquet}
    read |= {"xlsx": partial(pd.read_excel, engine="calamine")}
    read |= dict.fromkeys(("arrow", "feather"), pd.read_feather)
    assert file.is_file()
    pd.testing.assert_frame_equal(read[ending](file), made.pandas(), check_dtype=False)
    generate(model, f"people.{ending}", rows=300)  # the same: done
    with pytest.raises(ConflictError, match="another file of this name"):
        generate(model, f"people.{ending}", rows=301)
    assert sorted({*os.listdir(where), "home"}) == ["home", file.name]


def test_other_endings_are_refused_before_anything_is_made(model: str, where: Path) -> None:
    with pytest.raises(UsageError, match=r"a file of .xls; expected a folder, or a file that ends"):
        generate(model, "people.xls")
    assert os.listdir(where) == []


def test_a_sheet_holds_values_and_no_formulas(tmp_path: Path) -> None:
    day, moment = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30)
    columns = {"=a": ["=1+1", "+x", None], "b": [True, False, None], "c": [2**60, 7, None]}
    columns |= {
        "d": [1.5, float("nan"), None],
        "e": [day, datetime.date(1700, 1, 1), None],
        "f": [moment] * 3,
    }
    rows = pa.table(columns)
    for name in ("a.xlsx", "b.xlsx"):
        write_sheet(tmp_path / name, rows.schema, [rows], rows=3)
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()
    found = python_calamine.load_workbook(tmp_path / "a.xlsx").get_sheet_by_index(0).to_python()
    assert found[0] == ["=a", "b", "c", "d", "e", "f"]
    assert found[1] == ["=1+1", True, str(2**60), 1.5, day, moment]
    assert found[2] == ["+x", False, 7, "", "1700-01-01", moment]
    with pytest.raises(DataError, match=r"at most 1,048,575 of 16,384"):
        write_sheet(tmp_path / "c.xlsx", rows.schema, [rows], rows=2_000_000)
    long = pa.table({"a": ["x" * 40_000]})
    with pytest.raises(DataError, match=r"a text of 40,000 characters in row 1"):
        write_sheet(tmp_path / "c.xlsx", long.schema, [long], rows=1)


def test_an_output_that_became_anothers_is_not_touched(where: Path) -> None:
    one, other = (small_dataset(str(where / f"d{n}"), rows=n) for n in (100, 200))
    made = []
    for name, data in (("a", one), ("b", other)):
        begun = begin(str(where / name), {"x": 1})
        part = data.manifest.parts[0]
        store.place(f"{data.uri}/{part.path}", f"{begun.work}/{part.path}")
        made.append((begun.work, part))
    about = {"name": "x", "schema": SCHEMA, "origin": {"x": 1}}
    deliver(made[0][0], str(where / "a"), parts=[made[0][1]], **about)
    with pytest.raises(ConflictError):
        deliver(made[1][0], str(where / "a"), parts=[made[1][1]], **about)
    assert Dataset(str(where / "a")).rows() == 100
    assert commit(one.uri, name="people", schema=SCHEMA, parts=list(one.manifest.parts), origin={})
    assert json.loads(Path(one.uri, "manifest.json").read_text())["name"] == "people"


def test_text_has_values_in_the_form_they_came_in(home: Path, tmp_path: Path) -> None:
    rows = [f'"${1000 + 37.25 * i:,.2f}",{20200101 + i % 28},{i % 7} kg' for i in range(300)]
    (tmp_path / "sales.csv").write_text("price,day,weight\n" + "\n".join(rows) + "\n")
    model = genpipe.train(genpipe.ingest(str(tmp_path / "sales.csv")), recipe="tabular_trees", workers=0)
    made = genpipe.generate(model, rows=200, output=str(tmp_path / "made.csv"), workers=0)
    texts = pd.read_csv(tmp_path / "made.csv", dtype=str)
    assert texts["price"].str.fullmatch(r"\$[\d,]+\.\d\d").all()
    assert texts["day"].str.fullmatch(r"202001[0-3]\d").all()
    assert texts["weight"].str.fullmatch(r"[0-6] kg").all()
    assert made.pandas()["price"].dtype == float  # Parquet and frames have the values


def test_structs_are_structs_again(home: Path, tmp_path: Path) -> None:
    people = [
        {"a.b": i % 3, "user": {"city": "xy"[i % 2], "home": {"rooms": i % 5}}, "age": 20 + i % 40}
        for i in range(200)
    ]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(p) + "\n" for p in people))
    data = genpipe.ingest(str(tmp_path / "people.jsonl"))
    assert data.schema.structs == ("user", "user.home")
    saved = tmp_path / "schema.yaml"
    saved.write_text(schema_to_yaml(data.schema))
    assert genpipe.ingest(str(tmp_path / "people.jsonl"), schema=str(saved)).schema.structs == (
        "user",
        "user.home",
    )
    model = genpipe.train(data, recipe="tabular_trees")
    made = genpipe.generate(model, rows=50, output=str(tmp_path / "made.jsonl"), workers=0)
    assert made.schema.names == ("a.b", "user.city", "user.home.rooms", "age")
    rows = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    assert all(row.keys() == {"a.b", "user", "age"} for row in rows)
    assert [row["user"]["home"]["rooms"] for row in rows] == made.arrow()["user.home.rooms"].to_pylist()
    for name in ("made.parquet", "made.arrow"):
        genpipe.generate(model, rows=50, output=str(tmp_path / name), workers=0)
    assert pq.read_table(tmp_path / "made.parquet").to_pylist() == rows
    again = genpipe.ingest(str(tmp_path / "made.arrow"), holdout=0, name="again")
    assert again.schema.names == made.schema.names and again.arrow().equals(made.arrow())
