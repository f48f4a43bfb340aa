"""Datasets and checkpoints that a stranger made: bounded, and compared with what they tell of themselves."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from contained import contained

from genpipe import store
from genpipe.dataset import Dataset, Part, commit, write_part
from genpipe.errors import InfrastructureError
from genpipe.fields import BLOB, Category, Image, Integer, Series
from genpipe.parts import manifest_file
from genpipe.recipe import make_family
from genpipe.recipes import parse_recipe
from genpipe.schema import Schema
from genpipe.spec import Span, TensorSpec
from genpipe.training.checkpoint import Checkpoints
from genpipe.training.state import TrainingState

ROWS = 100
SPANS = tuple(Span(name=str(i), start=i, size=1, kind="continuous") for i in range(3))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A table of a number and a word."""
    schema = Schema(kind="tabular", fields=(Integer(name="n"), Category(name="word")))
    table = pa.table({"n": range(ROWS), "word": ["a", "b"] * (ROWS // 2)}, schema=schema.arrow())
    part = write_part(str(tmp_path), table, split="train", name="train-00000", attempt="x")
    commit(str(tmp_path), name="toy", schema=schema, parts=[part], origin={})
    return tmp_path


def part_of(folder: Path) -> Path:
    return folder / "data/x/train-00000.parquet"


def told(folder: Path, **limits: int) -> str:
    """What became of reading all of it."""

    def read() -> None:
        found = Dataset(str(folder))
        for batch in found.batches("train"):
            batch.validate(full=True)
        found.verify()

    return contained(read, **limits)


def change(folder: Path, **of_part: Any) -> None:
    """The manifest with other numbers of its part."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["parts"][0] |= of_part
    (folder / "manifest.json").write_text(json.dumps(manifest))


def other(folder: Path, table: pa.Table, schema: Schema | None = None, **options: Any) -> None:
    """A part of other content, with a manifest that fits it."""
    where = part_of(folder)
    pq.write_table(table, where, compression="zstd", write_page_checksum=True, **options)
    data = where.read_bytes()
    change(folder, rows=table.num_rows, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    if schema is not None:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["schema_"] = schema.model_dump(mode="json")
        (folder / "manifest.json").write_text(json.dumps(manifest))


def test_it_is_read_as_it_was_written(dataset: Path) -> None:
    assert told(dataset) == "fine"
    assert Dataset(str(dataset)).table("train")["word"].to_pylist()[:3] == ["a", "b", "a"]


@pytest.mark.parametrize("how", ["link", "endless", "pipe", "folder", "sparse"])
@pytest.mark.parametrize("name", ["manifest.json", "data/x/train-00000.parquet"])
def test_only_regular_files_are_read(how: str, name: str, dataset: Path) -> None:
    where = dataset / name
    data = where.read_bytes()
    where.unlink()
    if how == "link":
        (dataset / "elsewhere").write_bytes(data)
        where.symlink_to(dataset / "elsewhere")
    elif how == "endless":
        where.symlink_to("/dev/zero")
    elif how == "pipe":
        os.mkfifo(where)
    elif how == "folder":
        where.mkdir()
    else:
        where.write_bytes(data)
        os.truncate(where, 2**40)
    assert told(dataset, seconds=10).startswith(("E-FILE 3:", "E-PART 3:", "E-LIMIT 3:"))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"name": NaN}',
        '{"name": "a", "name": "b"}',
        "[" + "[]," * 2**23 + "[]]",
        "\x00",
    ],
    ids=["deep", "nan", "twice", "many", "zero"],
)
def test_a_manifest_is_plain_and_bounded(text: str, dataset: Path) -> None:
    (dataset / "manifest.json").write_text(text)
    found = told(dataset, megabytes=700)
    assert found.startswith("E-") and " 3: " in found.splitlines()[0], found


@pytest.mark.parametrize(
    "numbers",
    [
        {"rows": -1},
        {"rows": 10**15},
        {"rows": ROWS + 1},
        {"bytes": -1},
        {"bytes": 2**60},
        {"rows": "many"},
        {"path": "data/x/train\x00.parquet"},
        {"path": "data/x/\x1b[31m.parquet"},
    ],
    ids=str,
)
def test_a_manifest_tells_what_there_is(numbers: dict, dataset: Path) -> None:
    change(dataset, **numbers)
    found = told(dataset)
    assert found.startswith("E-") and " 3: " in found.splitlines()[0], found
    assert "\x1b" not in found and "\x00" not in found


def delivered(folder: Path) -> Path:
    """The dataset as one that was handed over: its manifest is in the footer of a Parquet file."""
    manifest = folder / "manifest.json"
    made = folder / "manifest.parquet"
    made.write_bytes(manifest_file(Dataset(str(folder)).schema, manifest.read_bytes()))
    manifest.unlink()
    return made


@pytest.mark.parametrize(
    "how", ["link", "endless", "pipe", "folder", "sparse", "cut", "noise", "none", "length"]
)
def test_a_manifest_in_a_footer_is_a_regular_file_of_ours(how: str, dataset: Path) -> None:
    where = delivered(dataset)
    assert told(dataset) == "fine"
    data = where.read_bytes()
    where.unlink()
    if how == "link":
        (dataset / "elsewhere").write_bytes(data)
        where.symlink_to(dataset / "elsewhere")
    elif how == "endless":
        where.symlink_to("/dev/zero")
    elif how == "pipe":
        os.mkfifo(where)
    elif how == "folder":
        where.mkdir()
    elif how == "none":
        pq.write_table(pa.table({"n": [1]}), where)
    else:
        noise = np.random.default_rng(0).bytes(len(data) - 8)
        where.write_bytes({
            "sparse": data, "cut": data[: len(data) // 2], "noise": b"PAR1" + noise + b"PAR1",
            "length": data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
        }[how])  # fmt: skip
        if how == "sparse":
            os.truncate(where, 2**40)
    found = told(dataset, seconds=10)
    assert found.startswith(("E-FILE 3:", "E-LIMIT 3:", "E-MANIFEST 3:", "E-NODATASET 3:")), found


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"name": NaN}', "[" + "[]," * 2**23 + "[]]", "\x00"],
    ids=["deep", "nan", "many", "zero"],
)
def test_the_text_in_a_footer_is_plain_and_bounded(text: str, dataset: Path) -> None:
    schema = Dataset(str(dataset)).schema
    delivered(dataset).write_bytes(manifest_file(schema, text.encode()))
    found = told(dataset, megabytes=700)
    assert found.startswith("E-") and " 3: " in found.splitlines()[0], found


def test_rows_that_are_only_told_of_are_not_reckoned_with(dataset: Path) -> None:
    change(dataset, rows=10**15, split="holdout")
    found = contained(lambda: Dataset(str(dataset)).validation)
    assert found.startswith("E-MANIFEST 3:"), found


@pytest.mark.parametrize("length", [100_000, 1_000_000])
def test_a_long_text_in_every_row_is_refused(length: int, dataset: Path) -> None:
    """A file of some kilobytes, in which one entry of a dictionary stands in 65,536 rows."""
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(65_536, np.int32)), ["x" * length])
    table = pa.table({"n": range(65_536), "word": words})
    other(dataset, table, store_schema=False, dictionary_pagesize_limit=2**30, use_dictionary=["word"])
    found = told(dataset, megabytes=1000)
    assert found.startswith("E-LIMIT 3:"), found


def test_a_large_picture_in_every_row_is_refused(dataset: Path) -> None:
    schema = Schema(kind="image", fields=(Image(name="image", height=8, width=8, channels=1),))
    blobs = pa.array([{"bytes": b"x" * 50_000, "path": None}], BLOB).take(pa.array(np.zeros(20_000, int)))
    table = pa.table({"image": blobs})
    other(dataset, table, schema, store_schema=False, dictionary_pagesize_limit=2**30)
    found = told(dataset, megabytes=700)
    assert found.startswith("E-LIMIT 3:"), found


def test_columns_that_say_nothing_are_not_spread_at_once(dataset: Path) -> None:
    """Plain pages of one number compress a thousandfold and more."""
    table = pa.table({"n": np.zeros(40_000_000, np.int64)[:0], "word": pa.array([], pa.string())})
    texts = pa.array(["x" * 2000]).take(pa.array(np.zeros(200_000, int)))
    table = pa.table({"n": np.zeros(200_000, np.int64), "word": texts})
    other(dataset, table, use_dictionary=False, data_page_size=2**30, row_group_size=200_000)
    found = told(dataset, megabytes=1000)
    assert found.startswith("E-LIMIT 3:"), found


def test_series_are_as_long_as_the_schema_says(dataset: Path) -> None:
    schema = Schema(kind="series", fields=(Series(name="flow", length=4),))
    lists = pa.array([[0.0] * 3_000_000, [0.0] * 3_000_000])
    other(dataset, pa.table({"flow": lists}), schema)
    found = told(dataset)
    assert found.startswith("E-PART 3:") and "6000000 values" in found, found


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"n": range(ROWS)}),
        pa.table({"n": range(ROWS), "word": range(ROWS)}),
        pa.table({"n": [str(i) for i in range(ROWS)], "word": ["a"] * ROWS}),
        pa.table({"n": [0.5] * ROWS, "word": [["a"]] * ROWS}),
    ],
    ids=["missing", "number", "text", "list"],
)
def test_columns_are_those_of_the_schema(table: pa.Table, dataset: Path) -> None:
    other(dataset, table)
    found = told(dataset)
    assert found.startswith("E-PART 3:") and "column" in found, found


def test_parts_of_a_constant_column_are_no_bomb(tmp_path: Path) -> None:
    """The limits leave room for what is written here: very many rows that are all alike."""
    schema = Schema(kind="tabular", fields=(Integer(name="n"), Category(name="word")))
    rows = 1_000_000
    words = pa.array(["the same words in every row"]).take(pa.array(np.zeros(rows, int)))
    table = pa.table({"n": np.zeros(rows, np.int64), "word": words}, schema=schema.arrow())
    part = write_part(str(tmp_path), table, split="train", name="train-00000", attempt="x")
    assert isinstance(part, Part)
    found = commit(str(tmp_path), name="toy", schema=schema, parts=[part], origin={})
    assert sum(batch.num_rows for batch in found.batches("train")) == rows


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with one checkpoint."""
    sink = Checkpoints(str(tmp_path))
    sink.save(10, {"weights.a": torch.ones(4)}, {"step": 10})
    sink.wait()
    return tmp_path


def newest(run: Path, **limits: int) -> str:
    return contained(lambda: Checkpoints(str(run)).newest(), **limits)


@pytest.mark.parametrize("how", ["link", "endless", "pipe", "sparse"])
@pytest.mark.parametrize("kind", ["*.json", "*/*.safetensors"])
def test_only_regular_files_are_checkpoints(how: str, kind: str, run: Path) -> None:
    assert newest(run) == "fine"
    (where,) = (run / "checkpoints").glob(kind)
    data = where.read_bytes()
    where.unlink()
    if how == "link":
        (run / "elsewhere").write_bytes(data)
        where.symlink_to(run / "elsewhere")
    elif how == "endless":
        where.symlink_to("/dev/zero")
    elif how == "pipe":
        os.mkfifo(where)
    else:
        where.write_bytes(data)
        os.truncate(where, 2**40)
    found = newest(run, seconds=10)
    assert found.startswith("E-CHECKPOINT 4:") and "all 1 checkpoints are damaged" in found, found


@pytest.mark.parametrize(
    "change",
    [{"file": "../../../etc/passwd"}, {"bytes": 2**50}, {"bytes": "4"}, {"values": []}, {"sha256": None}],
    ids=str,
)
def test_a_checkpoint_tells_its_own_file_and_size(change: dict, run: Path) -> None:
    (where,) = (run / "checkpoints").glob("*.json")
    body = json.loads(where.read_bytes())["body"] | change
    seal = hashlib.sha256(store.canonical(body)).hexdigest()
    where.write_bytes(store.canonical({"body": body, "sha256": seal}))
    assert newest(run).startswith("E-CHECKPOINT 4:")


@pytest.mark.parametrize("data", [b"[" * 100_000, b"[1]", b'{"body":[]}', b"\xff", b"null"])
def test_a_checkpoint_of_other_json_is_damaged(data: bytes, run: Path) -> None:
    (where,) = (run / "checkpoints").glob("*.json")
    where.write_bytes(data)
    assert newest(run).startswith("E-CHECKPOINT 4:")


def test_tensors_of_another_shape_are_not_spread_over_the_networks() -> None:
    """A copy would repeat one number over a whole matrix without a word."""
    spec = TensorSpec(layout="vector", shape=(3,), dtype="float32", spans=SPANS)
    recipe = parse_recipe({"base": "tabular_vae", "family": {"latent": 2}}, "tabular")
    state = TrainingState(make_family(recipe, spec), recipe.training, seed=0, device="cpu")
    good, values = {name: t.clone() for name, t in state.tensors().items()}, state.values()
    state.restore(good, values)
    name = next(iter(good))
    for wrong in (good | {name: torch.ones(1)}, {k: v for k, v in good.items() if k != name}):
        with pytest.raises(InfrastructureError, match=rf"{name}: (shape \[1\]|none); expected shape"):
            state.restore(wrong, values)
