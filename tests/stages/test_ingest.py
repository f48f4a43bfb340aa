"""Ingest, from raw files to committed datasets: one process or many, once, by a schema, in bounded memory."""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import genpipe
from genpipe import store
from genpipe.dataset import Dataset
from genpipe.errors import DataError, UsageError
from genpipe.sources import base
from genpipe.sources.schema_file import schema_to_yaml
from genpipe.stages.ingest import passes as stage
from tests.contract.test_sources import classes, clips, png

ROOT = Path(__file__).parents[2]


def people(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "person": [f"p{seed}-{i}" for i in range(rows)],
            "age": rng.integers(18, 90, rows),
            "income": np.round(rng.lognormal(10, 1, rows), 2),
            "city": rng.choice(["Paris", "Lima", "Oslo"], rows),
            "zip": [f"{v:05d}" for v in rng.integers(0, 90, rows)],
            "member": rng.choice([True, False], rows),
            "joined": (np.datetime64("2015-01-01") + rng.integers(0, 3000, rows)).astype("datetime64[D]"),
        }
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    pacsv.write_csv(people(3000), tmp_path / "people.csv")
    return tmp_path / "people.csv"


def kinds(dataset: Dataset) -> dict[str, str]:
    return {f.name: f.kind for f in dataset.schema.fields}


def test_a_csv_is_typed_split_and_kept_exactly(table: Path, home: Path) -> None:
    dataset = genpipe.ingest(str(table), target="city")
    assert kinds(dataset) == {
        "person": "identifier", "age": "integer", "income": "number", "city": "category",
        "zip": "category", "member": "boolean", "joined": "date",
    }  # fmt: skip
    assert dataset.name == "people" and dataset.schema.conditions == ("city",)
    assert (
        dataset.schema.field("income").decimals == 2 and "leading zeros" in dataset.schema.field("zip").reason
    )
    assert 0.15 < dataset.rows("holdout") / 3000 < 0.25
    both = pa.concat_tables([dataset.table("train"), dataset.table("holdout")]).sort_by("person")
    assert both.equals(people(3000).sort_by("person").cast(both.schema))
    dataset.verify()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv.gz", ".csv.zst"])
def test_every_format_gives_the_same_rows(suffix: str, table: Path, home: Path) -> None:
    source = table.with_name("people" + suffix)
    frame = people(3000)
    if suffix == ".jsonl":
        frame.to_pandas().astype({"joined": str}).to_json(source, orient="records", lines=True)
    elif suffix == ".parquet":
        pq.write_table(frame, source)
    else:
        with pa.output_stream(
            source, compression={"gz": "gzip", "zst": "zstd"}[suffix.rsplit(".", 1)[1]]
        ) as out:
            out.write(table.read_bytes())
    a, b = genpipe.ingest(str(table)), genpipe.ingest(str(source), name="other")
    for split in ("train", "holdout"):
        left, right = a.table(split).sort_by("person"), b.table(split).sort_by("person")
        assert left.equals(right.cast(left.schema))


def test_the_same_input_does_no_work_twice(table: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = genpipe.ingest(str(table))
    monkeypatch.setattr(stage, "write_unit", lambda *_: pytest.fail("worked again"))
    monkeypatch.setattr(stage, "observe_unit", lambda *_: pytest.fail("looked again"))
    again = genpipe.ingest(str(table))
    assert (again.uri, again.fingerprint) == (first.uri, first.fingerprint)


def test_equal_content_has_an_equal_fingerprint_elsewhere(table: Path, home: Path) -> None:
    copy = table.parent / "sub" / "people.csv"
    copy.parent.mkdir()
    copy.write_bytes(table.read_bytes())
    one, other = genpipe.ingest(str(copy)), genpipe.ingest(str(table), name="other")
    assert one.fingerprint == other.fingerprint


def test_ingest_loads_neither_torch_nor_mlflow(home: Path) -> None:
    """They cost a second and 200 MB."""
    code = (
        "import sys, genpipe; genpipe.ingest('builtin:titanic', workers=0)\n"
        "sys.exit(str({'torch', 'mlflow', 'ray', 'prefect'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.stderr.strip(), done.stderr


def test_ray_tasks_write_the_same_bytes_as_one_process(
    tmp_path: Path, home: Path, ray_cluster: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(6):
        pacsv.write_csv(people(500, seed=i), tmp_path / f"part-{i}.csv")
    monkeypatch.setattr(base, "UNIT_BYTES", 40_000)
    here = genpipe.ingest(str(tmp_path / "part-*.csv"), name="people", workers=0)
    assert len(here.parts("train")) > 1
    monkeypatch.setenv("GENPIPE_STORE", str(tmp_path / "other-store"))
    there = genpipe.ingest(str(tmp_path / "part-*.csv"), name="people", workers=2)
    assert there.uri != here.uri and there.fingerprint == here.fingerprint
    assert [p.sha256 for p in there.manifest.parts] == [p.sha256 for p in here.manifest.parts]
    (tmp_path / "part-3.csv").write_text("person,age\n1,2\n")
    with pytest.raises(DataError, match=r"part-3\.csv: other columns than part-\d\.csv: -income"):
        genpipe.ingest(str(tmp_path / "part-*.csv"), name="people", workers=2)


def test_a_printed_schema_is_obeyed(table: Path, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "people.yaml"
    text = schema_to_yaml(genpipe.ingest(str(table)).schema)
    file.write_text(text.replace("kind: integer", "kind: number\n  minimum: 0\n  maximum: 120", 1))
    dataset = genpipe.ingest(str(table), schema=str(file))
    assert kinds(dataset)["age"] == "number"
    lines = table.read_text().splitlines()
    lines[2000] = lines[2000].replace(",", ",1", 1)
    table.write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=r"people\.csv:row 2001:age: '?1\d\d.*expected number from 0.* to 120"
    ):
        genpipe.ingest(str(table), schema=str(file))
    table.write_text("\n".join([*lines[:2000], lines[2000].replace(",", ",x", 1)]))
    with pytest.raises(DataError, match=r"people\.csv:row 2001:age: 'x1"):
        genpipe.ingest(str(table), schema=str(file))


def test_exact_integers_and_missing_values(tmp_path: Path, home: Path) -> None:
    rows = [
        f"{2**53 + 1 + i},{'' if i % 5 == 0 else i * 0.5},{'NA' if i % 7 == 0 else 'x'},{2**70 + i}"
        for i in range(50)
    ]
    (tmp_path / "a.csv").write_text("\ufeffbig,part,word,huge\n" + "\n".join(rows) + "\n")
    dataset = genpipe.ingest(str(tmp_path / "a.csv"))
    assert kinds(dataset) == {"big": "identifier", "part": "number", "word": "category", "huge": "identifier"}
    both = pa.concat_tables([dataset.table("train"), dataset.table("holdout")]).sort_by("big")
    assert both.column("big").to_pylist() == [2**53 + 1 + i for i in range(50)]
    assert sorted(both.column("huge").to_pylist()) == sorted(str(2**70 + i) for i in range(50))
    assert both.column("part").null_count == 10 and both.column("word").null_count == 8


def test_equal_rows_and_equal_keys_share_a_split(tmp_path: Path, home: Path) -> None:
    frame = people(200)
    pacsv.write_csv(pa.concat_tables([frame] * 3), tmp_path / "thrice.csv")
    whole = genpipe.ingest(str(tmp_path / "thrice.csv"))
    keyed = genpipe.ingest(str(tmp_path / "thrice.csv"), key="zip", name="keyed")
    for dataset, column in ((whole, "person"), (keyed, "zip")):
        split = [set(dataset.table(s).column(column).to_pylist()) for s in ("train", "holdout")]
        assert split[1] and not split[0] & split[1]


def test_a_source_that_changes_while_read_is_refused(
    table: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stage.write_unit

    def and_append(*arguments: object) -> object:
        with open(table, "a") as file:
            file.write("late,30,1.0,Paris,00001,true,2020-01-01\n")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "write_unit", and_append)
    with pytest.raises(DataError, match=r"people\.csv: it changed while it was read"):
        genpipe.ingest(str(table))
    assert not list(home.rglob("manifest.json"))


def test_few_bad_files_may_be_skipped_and_are_recorded(tmp_path: Path, home: Path) -> None:
    for name, data in classes({"a/empty.png": b"", "b/cut.png": png(64, 64)[:-500]}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"2 of 42 files.*more than max_bad=0\.01"):
        genpipe.ingest(str(tmp_path), name="pics", height=8, on_bad_file="skip")
    dataset = genpipe.ingest(str(tmp_path), name="pics", height=8, on_bad_file="skip", max_bad=0.1)
    assert dataset.rows() == 40
    assert sorted(Path(r["file"]).name for r in dataset.manifest.origin["rejects"]) == [
        "cut.png",
        "empty.png",
    ]


def test_image_folders_idx_and_wav_folders(tmp_path: Path, home: Path) -> None:
    for kind, files in (("image", classes({})), ("audio", clips({}))):
        for name, data in files.items():
            path = tmp_path / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)  # type: ignore[arg-type]
        dataset = genpipe.ingest(str(tmp_path / kind))
        assert (dataset.schema.kind, dataset.schema.target, dataset.rows()) == (kind, "label", 40)
        assert {len(set(dataset.table("train").column("label").to_pylist()))} == {2}
    pixels = np.random.default_rng(0).integers(0, 255, (30, 4, 4), dtype=np.uint8)
    with gzip.open(tmp_path / "t-images-idx3-ubyte.gz", "wb") as out:
        out.write(struct.pack(">IIII", 0x803, 30, 4, 4) + pixels.tobytes())
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(
        struct.pack(">II", 0x801, 30) + bytes(i % 10 for i in range(30))
    )
    digits = genpipe.ingest(str(tmp_path / "t-images-idx3-ubyte.gz"))
    rows = [r for s in ("train", "holdout") for r in digits.table(s).to_pylist()]
    for row in rows:
        from io import BytesIO

        from PIL import Image

        number = int(row["image"]["path"][-10:-4])
        assert row["label"] == str(number % 10)
        assert np.array_equal(np.asarray(Image.open(BytesIO(row["image"]["bytes"]))), pixels[number])


def test_series_become_windows_and_no_value_is_in_both_splits(tmp_path: Path, home: Path) -> None:
    (tmp_path / "one.csv").write_text("x,y\n" + "\n".join(f"{t}.5,{t * 2}" for t in range(1200)))
    dataset = genpipe.ingest(str(tmp_path / "one.csv"), window=12, stride=3)
    seen = {
        s: {v for row in dataset.table(s).column("x").to_pylist() for v in row} for s in ("train", "holdout")
    }
    assert seen["train"] and seen["holdout"] and not seen["train"] & seen["holdout"]
    first = dataset.table("train").column("x")[0].as_py()
    assert np.array_equal(np.diff(first), np.ones(11))
    many = "".join(
        f"{e},{t},{100 * e + t}.0,{'up' if e % 2 else 'down'}\n" for t in range(9, -1, -1) for e in range(60)
    )
    (tmp_path / "many.csv").write_text("who,step,value,way\n" + many)
    wide = genpipe.ingest(str(tmp_path / "many.csv"), entity="who", time="step", target="way")
    rows = [r for s in ("train", "holdout") for r in wide.table(s).to_pylist()]
    assert len(rows) == 60 and wide.schema.key == ("who",)
    assert all(r["value"] == [100 * int(r["who"]) + t for t in range(10)] for r in rows)
    assert {r["way"] for r in rows if int(r["who"]) % 2} == {"up"}


def test_text_records(tmp_path: Path, home: Path) -> None:
    text = "".join(f"línea {i}: some words of text\r\n" for i in range(200))
    (tmp_path / "a.txt").write_bytes(text.encode())
    chars = genpipe.ingest(str(tmp_path / "a.txt"), length=50)
    runs = [t for s in ("train", "holdout") for t in chars.table(s).column("text").to_pylist()]
    assert all(40 < len(run) <= 50 and run[-1].isspace() for run in runs), "no word is cut"
    lines = genpipe.ingest(str(tmp_path / "a.txt"), record="lines")
    got = [t for s in ("train", "holdout") for t in lines.table(s).column("text").to_pylist()]
    assert sorted(got) == sorted(text.replace("\r\n", "\n").splitlines())


def test_what_is_cut_from_a_document_is_in_one_split(tmp_path: Path, home: Path) -> None:
    letters = tmp_path / "letters"
    letters.mkdir()
    for i in range(40):
        (letters / f"{i}.txt").write_text("Dear all," + f" letter {i:02}." * (5 + i % 4))
    (letters / "again.txt").write_text((letters / "0.txt").read_text())
    for record in ("chars", "lines"):
        dataset = genpipe.ingest(str(letters), record=record, length=32, holdout=0.4)
        sides = {s: dataset.table(s).column("text").to_pylist() for s in ("train", "holdout")}
        found = {s: {n for t in texts for n in re.findall(r"letter (\d\d)", t)} for s, texts in sides.items()}
        assert not found["train"] & found["holdout"] and len(found["train"] | found["holdout"]) == 40
        assert min(map(len, found.values())) > 5
        size = sum(p.stat().st_size for p in letters.iterdir())
        assert sum(len(t) for texts in sides.values() for t in texts) == size  # no end is lost


@pytest.mark.parametrize(
    "name, rows, kind, target", [("digits", 1797, "image", "label"), ("titanic", 1309, "tabular", "survived")]
)
def test_builtin_data(name: str, rows: int, kind: str, target: str, home: Path) -> None:
    dataset = genpipe.ingest(f"builtin:{name}")
    assert (dataset.rows(), dataset.schema.kind, dataset.schema.target) == (rows, kind, target)
    assert dataset.schema.conditions == (target,)
    with pytest.raises(UsageError, match=r"target 'nothing' is not a field; fields are .*" + target):
        genpipe.ingest(f"builtin:{name}", target="nothing")
    with pytest.raises(UsageError, match=r"builtin:digit.*did you mean 'builtin:digits'"):
        genpipe.ingest("builtin:digit")


def test_from_and_to_s3(table: Path, home: Path, s3_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    local = genpipe.ingest(str(table))
    store.write_bytes(f"{s3_store}/raw/people.csv", table.read_bytes())
    monkeypatch.setenv("GENPIPE_STORE", f"{s3_store}/lake")
    remote = genpipe.ingest(f"{s3_store}/raw", name="people")
    assert remote.uri.startswith("s3://") and remote.fingerprint == local.fingerprint
    remote.verify()
    with pytest.raises(DataError, match="no such object or prefix"):
        genpipe.ingest(f"{s3_store}/nowhere")


def test_links_out_of_the_folder_and_bad_names_are_refused(table: Path, tmp_path: Path, home: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    os.symlink("/etc/passwd", inside / "x.csv")
    with pytest.raises(DataError, match=r"x\.csv: a link to /etc/passwd, outside the folder"):
        genpipe.ingest(str(inside))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="a pipe, device or socket"):
        genpipe.ingest(str(tmp_path / "pipe.csv"))
    with pytest.raises(UsageError, match=r"name: 'My People!'.*for example 'my-people'"):
        genpipe.ingest(str(table), name="My People!")


PEAK = """
import sys
import genpipe
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
genpipe.ingest(sys.argv[1], memory=int(sys.argv[3]))  # loads every library
before = peak()
dataset = genpipe.ingest(sys.argv[2], memory=int(sys.argv[3]))
print(peak() - before, dataset.rows())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads VmHWM from /proc")
@pytest.mark.timeout(900)
def test_memory_stays_within_the_limit_for_a_table_ten_times_larger(tmp_path: Path, home: Path) -> None:
    limit, source, small = 96 * 2**20, tmp_path / "big.csv", tmp_path / "small.csv"
    block = people(20_000)
    with open(source, "wb") as out:
        pacsv.write_csv(block, out)
        while out.tell() < 10 * limit:
            pacsv.write_csv(block, out, pacsv.WriteOptions(include_header=False))
    pacsv.write_csv(people(100), small)
    arguments = [sys.executable, "-c", PEAK, str(small), str(source), str(limit)]
    out = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=True)
    grown, rows = map(int, out.stdout.split())
    print(f"{source.stat().st_size >> 20} MiB of CSV, memory={limit >> 20} MiB: grew by {grown >> 20} MiB")
    assert rows > 1_000_000
    assert grown < limit


def test_a_key_of_json_without_any_value_is_dropped(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(f'{{"a": {i}, "b": "x{i % 3}", "c": null}}\n' for i in range(60))
    )
    assert genpipe.ingest(str(tmp_path / "a.jsonl"), workers=0).schema.names == ("a", "b")
