"""A folder gets a file a night: that file alone is read, and the dataset is what all files at once make."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import genpipe
from genpipe import store
from genpipe.dataset import Dataset
from genpipe.errors import DataError
from genpipe.sources.tabular import source as tables
from genpipe.stages.ingest import passes, verb

Nights = Callable[..., Dataset]


def day(number: int, rows: int = 1000, **more: Any) -> pa.Table:
    """One day's rows; whole = part + rest in all of them."""
    rng = np.random.default_rng(8000 + number)
    part, rest = rng.integers(1, 90, rows), rng.integers(1, 900, rows)
    columns = {
        "day": [date(2026, 1, 1) + timedelta(days=number)] * rows,
        "city": rng.choice(["Paris", "London", "Lima"], rows),
        "part": part,
        "rest": rest,
        "whole": part + rest,
        "price": np.round(rng.lognormal(3, 1, rows), 2),
    }
    return pa.table(columns | more)


@pytest.fixture(autouse=True)
def a_unit_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of files of a megabyte or more."""
    monkeypatch.setattr(tables, "TOGETHER", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (made := tmp_path / "days").mkdir()
    return made


def put(folder: Path, number: int, table: pa.Table | None = None) -> None:
    pacsv.write_csv(day(number) if table is None else table, folder / f"{number:03d}.csv")


def tonight(folder: Path | str, **more: Any) -> Dataset:
    return genpipe.ingest(str(folder), name="days", workers=0, **more)


def at_once(folder: Path | str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Dataset:
    """The same files in a store that knows nothing of them."""
    with monkeypatch.context() as patch:
        patch.setenv("GENPIPE_STORE", f"{os.environ['GENPIPE_HOME']}-{os.urandom(4).hex()}/store")
        return tonight(folder, **more)


def _noted(seen: list[tuple[str, str]], name: str, real: Any, source: Any, unit: int, *same: Any) -> Any:
    seen.extend((name.removesuffix("_unit"), file.name) for file in source.units[unit])
    return real(source, unit, *same)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(pass, file) of every file that is read."""
    seen = list[tuple[str, str]]()
    for name in ("observe_unit", "write_unit", "count_unit"):
        monkeypatch.setattr(passes, name, partial(_noted, seen, name, getattr(passes, name)))
    return seen


def same(a: Dataset, b: Dataset) -> None:
    assert a.fingerprint == b.fingerprint and a.schema == b.schema
    for split in ("train", "holdout"):
        assert a.table(split).equals(b.table(split))
    notices = [{k: v for k, v in d.manifest.origin.items() if k != "changed"} for d in (a, b)]
    assert notices[0] == notices[1]


def test_a_month_of_nights_reads_every_file_once(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before: Dataset | None = None
    for number in range(30):
        put(folder, number)
        made = tonight(folder)
        assert made.manifest.format == (1 if number == 0 else 2)
        if before and number % 7 == 0:  # the split stays as it was for old rows
            for split in ("train", "holdout"):
                old = before.table(split)
                assert made.table(split).slice(0, old.num_rows).equals(old)
        before = made
    for name in ("observe", "write"):
        files = [file for what, file in read if what == name]
        assert files == [f"{number:03d}.csv" for number in range(30)], name
    made.verify()
    assert str(made.schema.constraints[0]) == "whole = part + rest"
    root = home / "store/datasets/days"
    data = list(root.rglob("*.parquet"))
    assert len(data) == 60, "a part of each split and file, whatever the number of versions"
    (note,) = (root / "files").iterdir()
    assert not tonight(folder).manifest.origin.get("changed")
    same(made, at_once(folder, monkeypatch))
    assert note.stat().st_size < 2**20


def test_small_files_are_read_with_a_few_others(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, 0)
    size = (folder / "000.csv").stat().st_size
    monkeypatch.setattr(tables, "TOGETHER", int(3.5 * size))
    for number in range(8):
        put(folder, number)
        made = tonight(folder)
    looked = [file for what, file in read if what == "observe"]
    assert len(looked) == (1 + 2 + 3) * 2 + (1 + 2), "a unit of three files grows, and is done with"
    assert len([p for p in made.manifest.parts if p.path.startswith("../")]) == 4
    same(made, at_once(folder, monkeypatch))


@pytest.mark.parametrize("change", ["late", "first", "another", "gone", "two"])
def test_whatever_becomes_of_the_files_the_dataset_is_theirs(
    change: str, folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 5, 6):
        put(folder, number)
    tonight(folder)
    del read[:]
    if change == "gone":
        (folder / "002.csv").unlink()
    for number in {"late": [3, 4], "first": [0], "another": [5], "gone": [], "two": [0, 7]}[change]:
        put(folder, number, day(number + 100, rows=250) if change == "another" else None)
    made = tonight(folder)
    written = {file for what, file in read if what == "write"}
    # the first file decides the draw, and is told from the others
    assert (
        written
        == {
            "late": {"003.csv", "004.csv"},
            "first": {"000.csv", "001.csv"},
            "another": {"005.csv"},
            "gone": set(),
            "two": {"000.csv", "001.csv", "007.csv"},
        }[change]
    )
    looked = {file for what, file in read if what == "observe"}
    assert looked == ({"003.csv", "004.csv"} if change == "late" else {f.name for f in folder.iterdir()})
    same(made, at_once(folder, monkeypatch))
    made.verify()


def test_another_first_file_may_ask_for_another_draw(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        put(folder, number)
    tonight(folder)
    assert "count" not in {what for what, _ in read}
    put(folder, 0, pa.concat_tables([day(50, 5)] * 4 + [day(51, 2)]))  # of 22 rows by chance too many or few
    del read[:]
    made = tonight(folder)
    (note,) = (home / "store/datasets/days/files").iterdir()
    assert [file for what, file in read if what == "count"] == ["000.csv"]
    assert (json.loads(note.read_text())["draw"] > 0) == (("write", "002.csv") in read)
    assert json.loads(note.read_text())["draw"] > 0
    same(made, at_once(folder, monkeypatch))


def test_persons_stay_in_their_split_across_files(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    born, before = rng.integers(0, 20_000, 80), dict[str, set[int]]()
    for number in range(6):
        who = rng.integers(0, 80, 300)
        more = {
            "patient_id": 5000 + who,
            "birth_date": [date(1950, 1, 1) + timedelta(days=int(born[w])) for w in who],
        }
        put(folder, number, day(number, 300, **more))
        made = tonight(folder)
        assert made.schema.entity == ("patient_id",)
        ids = {s: {*made.table(s)["patient_id"].to_pylist()} for s in ("train", "holdout")}
        assert ids["train"] and ids["holdout"] and not ids["train"] & ids["holdout"]
        if number == 0:
            assert abs(made.rows("holdout") / 300 - 0.2) <= 0.02
        else:
            assert ids["train"] >= before["train"] and ids["holdout"] >= before["holdout"]
        before = ids
    assert [file for what, file in read if what == "count"] == ["000.csv"], "it is drawn again, and alone"
    assert [file for what, file in read if what == "write"].count("000.csv") == 2
    same(made, at_once(folder, monkeypatch))


def test_drift_says_what_changed_and_reads_again_what_must_be(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        put(folder, number)
    tonight(folder)
    del read[:]
    holes = pa.array([None, *day(3)["city"].to_pylist()[1:-1], "Rome"])
    put(folder, 3, day(3, city=holes, price=np.round(np.random.default_rng(3).lognormal(3, 1, 1000), 3)))
    made = tonight(folder)
    assert [file for _, file in read] == ["003.csv"] * 2, "a hole, a city and a decimal are in no other part"
    said = made.manifest.origin["changed"]
    assert (
        said
        == made.notices[:2]
        == [
            "since the version before: column 'city' has nullable True, it had False",
            "since the version before: column 'price' has decimals 3, it had 2",
        ]
    )
    same(made, at_once(folder, monkeypatch))
    del read[:]
    put(folder, 4, day(4, part=day(4)["part"].to_numpy() + 0.5))
    made = tonight(folder)
    assert {file for what, file in read if what == "write"} == {f.name for f in folder.iterdir()}
    assert {file for what, file in read if what == "observe"} == {"004.csv"}
    said = made.manifest.origin["changed"]
    assert "since the version before: column 'part' is number, it was integer" in said
    assert "since the version before: whole = part + rest holds no more in all rows" in said
    assert said[-1] == "since the version before: 4 files that did not change were read again, and written"
    same(made, at_once(folder, monkeypatch))
    put(folder, 5, day(5).drop_columns("city"))
    with pytest.raises(DataError, match=r"005\.csv: other columns than 000\.csv: -city"):
        tonight(folder)


def test_a_relation_that_shows_late_is_counted_in_parts_that_are_there(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first file whole is no sum; in all it mostly is, which is offered with its number of rows."""
    rng = np.random.default_rng(9)
    put(folder, 0, day(0, 300, whole=rng.integers(1, 999, 300)))
    tonight(folder)
    del read[:]
    put(folder, 1, day(1, rows=9000))
    made = tonight(folder)
    assert [file for _, file in read] == ["001.csv"] * 2
    (told,) = [o for o in made.manifest.origin["offered"] if o["constraint"]["type"] == "sum"]
    assert told["rows"] == 9300 and 290 <= told["broken"] <= 300
    same(made, at_once(folder, monkeypatch))


def test_partitions_of_parquet_and_files_of_json(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        for region in ("eu", "us"):
            (place := folder / f"region={region}/date=2026-01-0{number + 1}").mkdir(parents=True)
            pq.write_table(day(number + 50 * (region == "us")), place / "part.parquet")
        made = tonight(folder)
    assert [what for what, _ in read].count("observe") == 6 and made.schema.field("region").kind == "category"
    same(made, at_once(folder, monkeypatch))
    lines = folder.parent / "lines"
    lines.mkdir()
    for number in range(3):
        rows = [
            {k: str(v) if k == "day" else v for k, v in row.items()} for row in day(number, 60).to_pylist()
        ]
        rows = [{k: v for k, v in row.items() if k != "city" or number} for row in rows]  # a key comes later
        (lines / f"{number}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        made = genpipe.ingest(str(lines), name="lines", workers=0)
    assert any("column 'city'" in said for said in made.notices) or made.schema.field("city").nullable
    with monkeypatch.context() as patch:
        patch.setenv("GENPIPE_STORE", str(folder.parent / "elsewhere"))
        same(made, genpipe.ingest(str(lines), name="lines", workers=0))


def test_other_options_and_a_schema_go_on_from_their_own(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, 0)
    asked: list[dict[str, Any]] = [
        {},
        {"drop": "city"},
        {"holdout": 0.5},
        {"schema": tonight(folder).schema},
        {"sample": 0.5},
    ]
    for more in asked[1:]:
        tonight(folder, **more)
    put(folder, 1)
    for more in asked:
        del read[:]
        made = tonight(folder, **more)
        assert {file for _, file in read} == {"001.csv"}, more
        same(made, at_once(folder, monkeypatch, **more))


def test_a_bad_file_is_left_out_on_every_night(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    skip = {"on_bad_file": "skip", "max_bad": 0.5}
    put(folder, 0)
    tonight(folder, **skip)
    (folder / "001.csv").write_text("")
    for number in (2, 3):
        put(folder, number)
        made = tonight(folder, **skip)
        assert [r["file"] for r in made.manifest.origin["rejects"]] == [str(folder / "001.csv")]
    assert "000.csv" not in [file for _, file in read[2:]]
    same(made, at_once(folder, monkeypatch, **skip))


KILLED = """
import os, signal, sys
import genpipe
from genpipe import store
from genpipe.sources.tabular import source
from genpipe.stages.ingest import earlier, verb, writer
source.TOGETHER = 1
folder, point = sys.argv[1:]
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
real = writer.write_part
def second(*a, **k):
    die() if k["split"] == "holdout" else None
    return real(*a, **k)
create = store.create
def after(*a): create(*a); die()
if point == "between parts": writer.write_part = second
if point == "before the manifest": verb.commit = die
if point == "after the manifest": store.create = after
if point == "before the note": verb.remember = die
if point == "in the note":
    os_replace = os.replace
    os.replace = lambda a, b: die() if "/files/" in str(b) else os_replace(a, b)
genpipe.ingest(folder, name="days", workers=0)
"""


@pytest.mark.slow
@pytest.mark.faults
def test_killed_at_any_point_and_run_again(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ["between parts", "before the manifest", "after the manifest", "before the note", "in the note"]
    put(folder, 0)
    tonight(folder)
    for number, point in enumerate(points, 1):
        put(folder, number)
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), point], capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        del read[:]
        made = tonight(folder)
        assert "000.csv" not in {file for _, file in read}
        made.verify()
    same(made, at_once(folder, monkeypatch))


def manifests(root: str) -> list[str]:
    names = [f"{root}/{name}/manifest.json" for name in store.names_in(root)]
    return sorted((name for name in names if store.exists(name)), key=lambda n: store.written(n) or 0)


def cleaned(hours: float = 30) -> tuple[str, ...]:
    from types import SimpleNamespace

    from genpipe.stages import clean as stage

    with pytest.MonkeyPatch.context() as patch:
        import time

        patch.setattr(stage, "time", SimpleNamespace(time=lambda: time.time() + 3600 * hours))
        return tuple(each.place for each in genpipe.clean(remove=True).found)


@pytest.mark.parametrize("where", ["disk", pytest.param("s3", marks=pytest.mark.slow)])
def test_clean_leaves_what_any_version_names(
    where: str, folder: Path, home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(home / "store")
    if where == "s3":
        root = request.getfixturevalue("s3_store")
        monkeypatch.setenv("GENPIPE_STORE", root)
    root = f"{root}/datasets/days"
    source, s3 = str(folder), where == "s3"
    if s3:
        source = f"{root.rsplit('/', 2)[0]}/raw"
    made = []
    for number in range(4):
        put(folder, number if number != 3 else 0, day(70) if number == 3 else None)  # a file changes
        if s3:
            file = folder / f"{number % 3:03d}.csv"
            store.write_bytes(f"{source}/{file.name}", file.read_bytes())
        made.append(tonight(source))
    assert [d.manifest.format for d in made] == [1, 2, 2, 2]
    assert not [p for p in cleaned() if p.startswith(root)]
    for old in made[:3]:  # as whoever keeps the last version alone would do: the manifest first
        store.remove(f"{old.uri}/manifest.json")
    gone = [p for p in cleaned() if p.startswith(root)]
    assert (
        sorted(p.removeprefix(f"{root}/").split("/")[0] for p in gone) == [made[0].uri.rsplit("/", 1)[1]] * 2
    )
    made[3].verify()
    Dataset(made[3].uri).table("train")
    store.remove(f"{made[3].uri}/manifest.json")
    cleaned()
    left = [name for name in store.entries(root) if name != "latest.json"]
    assert not left, "parts, and the note of them"


def test_a_version_that_goes_while_another_goes_on_from_it(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, 0)
    first = tonight(folder)
    put(folder, 1)
    real = verb.commit

    def late(*args: Any, **more: Any) -> Dataset:
        monkeypatch.setattr(verb, "commit", real)
        store.remove(f"{first.uri}/manifest.json")
        assert len(cleaned()) >= 2
        return real(*args, **more)

    monkeypatch.setattr(verb, "commit", late)
    made = tonight(folder)
    made.verify()
    assert made.manifest.format == 1
    same(made, at_once(folder, monkeypatch))


def test_twins_leave_a_night_to_go_on_from(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, 0)
    real = verb.commit

    def second(*args: Any, **more: Any) -> Dataset:
        monkeypatch.setattr(verb, "commit", real)
        tonight(folder)
        return real(*args, **more)

    monkeypatch.setattr(verb, "commit", second)
    tonight(folder)
    assert len(cleaned()) == 2, "what the second wrote"
    put(folder, 1)
    del read[:]
    made = tonight(folder)
    assert {file for _, file in read} == {"001.csv"}
    made.verify()


def test_lost_parts_are_made_again(
    folder: Path, home: Path, read: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        put(folder, number)
        made = tonight(folder)
    shared = next(p for p in made.manifest.parts if p.path.startswith("../"))
    Path(made.where(shared)).unlink()
    with pytest.raises(DataError, match="the file is missing"):
        made.table(shared.split)
    put(folder, 3)
    del read[:]
    new = tonight(folder)
    assert [file for what, file in read if what == "write"] == ["000.csv", "003.csv"]
    new.verify()
    again = tonight(folder)
    assert again.uri == new.uri
    (folder / "003.csv").unlink()
    whole = tonight(folder)  # the version before, of which a part is lost
    assert whole.uri == made.uri
    whole.verify()
    same(whole, at_once(folder, monkeypatch))


def test_what_is_left_out_of_a_dataset_is_not_noted(folder: Path, home: Path) -> None:
    rng = np.random.default_rng(4)
    words = rng.choice([f"word{n}" for n in range(400)], 1000)
    name = np.where(day(0)["city"].to_pylist() == np.array("Lima"), "Unmentioned", words)
    put(folder, 0, day(0, remark=name, secret=[f"secret{n}" for n in range(1000)]))
    tonight(folder, drop="secret", where="city!=Lima")
    notes = home / "store/datasets/days/files"
    (note,) = notes.iterdir()
    text = note.read_text()
    assert "word" in text and "Unmentioned" not in text and "secret1" not in text
    assert (note.stat().st_mode & 0o077, notes.stat().st_mode & 0o077) == (0, 0)
    note.unlink()
    put(folder, 1, day(1))
    with pytest.raises(DataError, match="other columns"):
        tonight(folder)
    assert not list(notes.iterdir()), "of what was refused nothing stays"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"request": "x"}', "stats", "units", "other", "bytes"])
def test_a_damaged_note_costs_time_and_nothing_else(
    damage: str, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, 0)
    tonight(folder)
    (note,) = (home / "store/datasets/days/files").iterdir()
    told = json.loads(note.read_text())
    if damage == "stats":
        told["seen"][0][1]["columns"][0]["sketch"] = ["|O8", ""]
    elif damage == "units":
        told["units"][0][1] = ["../../../../etc/passwd"]
    elif damage == "other":
        told["fingerprint"] = "0" * 20
    elif damage == "bytes":
        told["seen"][0][1]["rows"] += 1
    if damage != "bytes":
        told.pop("check")
        told["check"] = store.digest(told)
    note.write_text(json.dumps(told) if damage in ("stats", "units", "other", "bytes") else damage)
    put(folder, 1)
    made = tonight(folder)
    assert made.manifest.format == 1
    same(made, at_once(folder, monkeypatch))


@pytest.mark.parametrize(
    "path", ["../x", "../../a/data/0/x.parquet", "/etc/passwd", "../" + "a" * 20 + "/data/../x"]
)
def test_a_manifest_names_nothing_outside_its_versions(path: str, folder: Path, home: Path) -> None:
    put(folder, 0)
    made = tonight(folder)
    file = Path(made.uri, "manifest.json")
    told = json.loads(file.read_text())
    told["parts"][0]["path"] = path
    file.write_text(json.dumps(told))
    with pytest.raises(DataError, match="outside the dataset"):
        Dataset(made.uri).table("train")
    told["format"] = 3
    file.write_text(json.dumps(told))
    with pytest.raises(DataError, match="format"):
        Dataset(made.uri).schema  # noqa: B018 -- it is read


@pytest.mark.slow
def test_two_workers_go_on_with_the_same_bytes(
    folder: Path, home: Path, ray_cluster: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        put(folder, number)
        if number in (0, 3):
            made = genpipe.ingest(str(folder), name="days", workers=2)
    assert made.manifest.format == 2
    same(made, at_once(folder, monkeypatch))
