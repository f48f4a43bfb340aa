"""Datasets: seen whole or not at all, whoever dies in between, and every wrong byte is noticed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import genpipe
from genpipe import store
from genpipe.dataset import VALIDATION_ROWS, Dataset, Part, commit, new_attempt, write_part
from genpipe.errors import ConflictError, DataError
from genpipe.fields import Category, Integer
from genpipe.schema import Schema
from genpipe.training.score import validation_rows

SCHEMA = Schema(kind="tabular", fields=(Integer(name="n"), Category(name="c", nullable=True)), target="c")
ROOT = Path(genpipe.__file__).parent.parent


def table(rows: int, start: int = 0) -> pa.Table:
    columns = {"n": list(range(start, start + rows)), "c": [("a", "b", None)[i % 3] for i in range(rows)]}
    return pa.Table.from_pydict(columns, schema=SCHEMA.arrow())


def write(uri: str, *, rows: int = 100) -> list[Part]:
    attempt = new_attempt()
    return [
        write_part(uri, table(rows), split="train", name="train-00000", attempt=attempt),
        write_part(uri, table(20, rows), split="holdout", name="holdout-00000", attempt=attempt),
    ]


def make(uri: str, *, rows: int = 100) -> Dataset:
    return commit(uri, name="toy", schema=SCHEMA, parts=write(uri, rows=rows), origin={"source": "test"})


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "set") if request.param == "disk" else f"{request.getfixturevalue('s3_store')}/set"


def test_rows_come_back_in_order_and_type(place: str) -> None:
    dataset = make(place)
    assert (dataset.rows(), dataset.rows("train"), dataset.rows("holdout")) == (120, 100, 20)
    assert dataset.table("train").equals(table(100).replace_schema_metadata(None))
    assert dataset.table("holdout", columns=["c"]).column_names == ["c"]
    assert sum(b.num_rows for b in dataset.batches("train", rows=30)) == 100
    assert dataset.schema == SCHEMA and dataset.pandas("holdout")["n"].iloc[0] == 100
    dataset.verify()


def test_content_has_one_fingerprint_wherever_it_lies(tmp_path: Path) -> None:
    one, two, other = (
        make(str(tmp_path / "a")),
        make(str(tmp_path / "b")),
        make(str(tmp_path / "c"), rows=101),
    )
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_parts_are_plain_parquet_with_their_schema_and_lineage(tmp_path: Path) -> None:
    groups = [table(10), table(5, 10)]
    part = write_part(
        str(tmp_path), iter(groups), split="train", name="t", attempt="x", lineage={"seed": "3"}
    )
    footer = pq.read_metadata(tmp_path / part.path)
    assert (part.rows, footer.num_row_groups) == (15, 2)
    assert footer.metadata[b"genpipe.seed"] == b"3"
    assert Schema.from_arrow(pq.read_schema(tmp_path / part.path)) == SCHEMA
    assert pq.read_table(tmp_path / part.path)["n"].to_pylist() == list(range(15))


def test_writers_of_the_same_rows_share_the_dataset_and_others_are_refused(place: str) -> None:
    barrier, made, refused = threading.Barrier(4), [], []

    def race(rows: int) -> None:
        parts = write(place, rows=rows)
        barrier.wait()
        try:
            made.append((rows, commit(place, name="toy", schema=SCHEMA, parts=parts, origin={}).fingerprint))
        except ConflictError:
            refused.append(rows)

    threads = [threading.Thread(target=race, args=(rows,)) for rows in (100, 100, 90, 90)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = {rows for rows, _ in made}
    assert sorted(refused) == [190 - winner] * 2 and len(made) == 2
    dataset = Dataset(place)
    dataset.verify()
    assert dataset.rows("train") == winner
    assert {fingerprint for _, fingerprint in made} == {dataset.fingerprint}


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["after the first part", "before the manifest"])
def test_a_writer_killed_before_the_manifest_leaves_no_dataset(moment: str, place: str) -> None:
    # a child that imports no more than it needs: one that is short of memory is killed as well, but too early
    code = f"""
import os, signal
import pyarrow as pa
from genpipe.dataset import new_attempt, write_part
from genpipe.schema import Schema
schema = Schema.model_validate_json({SCHEMA.model_dump_json()!r})
def table(rows):
    return pa.Table.from_pydict({{"n": list(range(rows)), "c": ["a"] * rows}}, schema=schema.arrow())
def die():
    print("reached", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
attempt = new_attempt()
write_part({place!r}, table(100), split="train", name="train-00000", attempt=attempt)
if {moment!r} == "after the first part":
    die()
write_part({place!r}, table(20), split="holdout", name="holdout-00000", attempt=attempt)
die()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"reached\n"), done.stderr.decode()
    assert store.occupied(place)
    assert not Dataset.exists(place)
    with pytest.raises(DataError, match=r"no manifest.json"):
        Dataset(place).rows()
    again = make(place)  # the orphans of the dead attempt are in nobody's way
    again.verify()
    assert again.rows() == 120


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    dataset = make(str(tmp_path))
    path = tmp_path / dataset.parts("train")[0].path
    whole = path.read_bytes()
    for position in range(4, len(whole), max(1, len(whole) // 40)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"train-00000.parquet: content changed since it was written"):
            dataset.verify()
    path.write_bytes(whole)
    dataset.verify()


def test_a_flipped_byte_never_changes_a_value_unnoticed(tmp_path: Path) -> None:
    dataset = make(str(tmp_path), rows=5000)
    path = tmp_path / dataset.parts("train")[0].path
    whole, right, noticed = path.read_bytes(), dataset.table("train"), 0
    positions = range(4, len(whole), 211)
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            assert Dataset(str(tmp_path)).table("train").equals(right), position  # statistics and the like
        except DataError as error:
            assert "train-00000.parquet" in str(error) and error.exit_code == 3
            noticed += 1
    assert noticed > 0.8 * len(positions)


def test_cut_missing_and_foreign_parts_are_named(tmp_path: Path) -> None:
    dataset = make(str(tmp_path))
    path = tmp_path / dataset.parts("train")[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(
        DataError, match=rf"train-00000.parquet: {len(whole) - 9} bytes; expected {len(whole)}"
    ):
        dataset.table("train")
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(DataError, match=r"train-00000.parquet: .*Parquet magic bytes"):
        dataset.table("train")
    path.unlink()
    with pytest.raises(DataError, match=r"train-00000.parquet: the file is missing"):
        dataset.table("train")


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.parquet", "data/../../secret.parquet"])
def test_a_manifest_cannot_point_outside(path: str, tmp_path: Path) -> None:
    make(str(tmp_path))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["parts"][0]["path"] = path
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for read in (lambda d: d.table("train"), lambda d: d.verify()):
        with pytest.raises(DataError, match=r"outside the dataset"):
            read(Dataset(str(tmp_path)))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}'])
def test_a_broken_manifest_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest.json: .*(expected JSON|valid dictionary|Field required)"):
        Dataset(str(tmp_path)).rows()


def test_rows_that_training_chooses_by_are_not_those_it_is_judged_by(tmp_path: Path) -> None:
    def held(rows: int, uri: str) -> Dataset:
        attempt = new_attempt()
        parts = [
            write_part(uri, table(30), split="train", name="train-00000", attempt=attempt),
            write_part(uri, table(rows, 30), split="holdout", name="holdout-00000", attempt=attempt),
        ]
        return commit(uri, name="toy", schema=SCHEMA, parts=parts, origin={"source": "test"})

    large, again = held(2500, str(tmp_path / "a")), held(2500, str(tmp_path / "b"))
    chosen = validation_rows(large).column("n").to_pylist()
    judged = large.judging(10_000, 0).column("n").to_pylist()
    assert len(chosen) == VALIDATION_ROWS and sorted(chosen + judged) == list(range(30, 2530))
    assert validation_rows(again).column("n").to_pylist() == chosen  # wherever the dataset lies
    few = large.judging(100, 0)
    assert few.num_rows == 100 and set(few.column("n").to_pylist()) < set(judged)
    assert few != large.judging(100, 1) and few == again.judging(100, 0)
    assert large.some("train", 7, 0).num_rows == 7 and large.some("train", 99, 0) == large.table("train")
    small = held(1999, str(tmp_path / "c"))
    assert small.judging(10_000, 0).num_rows == 1999 and validation_rows(small).num_rows == VALIDATION_ROWS
    assert np.array_equal(held(40, str(tmp_path / "d")).validation, np.arange(40))


def test_a_dataset_of_the_first_format_opens() -> None:
    """Written before versions shared parts: by ingest's revision 4, whose footers hold the schema."""
    dataset = Dataset(str(Path(__file__).parents[1] / "fixtures/datasets/format-1"))
    assert (dataset.manifest.format, dataset.fingerprint) == (1, "ee0c9f248ff6ed5f84e1")
    dataset.verify()
    assert (dataset.rows("train"), dataset.rows("holdout"), dataset.schema.conditions) == (94, 26, ("city",))
    assert dataset.table("train")["city"].unique().to_pylist() == ["Ulm", "Rome", "Lima"]
    assert sum(b.num_rows for b in dataset.batches("holdout")) == 26 and dataset.notices
