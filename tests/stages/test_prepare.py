"""The codec of a dataset: from the training split alone, the same bytes with and without Ray, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genpipe import store
from genpipe.codecs.base import CodecConfig
from genpipe.constraints import Inequality
from genpipe.dataset import Dataset, Part, commit, write_part
from genpipe.errors import DataError
from genpipe.fields import Category, Integer, Number
from genpipe.progress import Event
from genpipe.schema import Schema
from genpipe.stages import prepare as stage
from genpipe.stages.prepare import prepare

SCHEMA = Schema(kind="tabular", fields=(Number(name="x", nullable=True), Category(name="c")))


def make(folder: Path, cuts: list[int], *, secret: bool = True) -> Dataset:
    """3,000 rows of a table in parts cut at `cuts`; the holdout has a category training never shows."""
    rng = np.random.default_rng(0)
    table = pa.table(
        [pa.array(rng.normal(size=3_000)), pa.array(np.array(list("abc"))[rng.integers(0, 3, 3_000)])],
        schema=SCHEMA.arrow(),
    )
    parts: list[Part] = []
    for i, (start, stop) in enumerate(zip([0, *cuts], [*cuts, 3_000], strict=True)):
        parts.append(
            write_part(
                str(folder),
                table.slice(start, stop - start),
                split="train",
                name=f"train-{i:05d}",
                attempt="a",
            )
        )
    holdout = pa.table([pa.array([1e6]), pa.array(["holdout only"])], schema=SCHEMA.arrow())
    parts.append(write_part(str(folder), holdout, split="holdout", name="holdout-00000", attempt="a"))
    return commit(str(folder), name="t", schema=SCHEMA, parts=parts, origin={})


def files(dataset: Dataset) -> list[Path]:
    """The codecs, without the lists of what they do not tell."""
    return sorted(f for f in Path(dataset.uri, "codecs").glob("*.json") if "protected" not in f.name)


def test_the_training_split_alone_decides_and_the_result_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make(tmp_path, [100, 2_000])
    events: list[Event] = []
    codec = prepare(dataset, CodecConfig(bins=10), progress=events.append)
    assert events[-1].done == events[-1].total == 3_000
    (file,) = files(dataset)
    text = file.read_text()
    assert "holdout only" not in text and "1000000" not in text

    def forbidden(*args: object) -> None:
        raise AssertionError("a prepared codec was fitted again")

    monkeypatch.setattr(stage, "_observe", forbidden)
    assert prepare(dataset, CodecConfig(bins=10)).to_json() == codec.to_json()
    monkeypatch.undo()
    assert prepare(dataset, CodecConfig(bins=70)).to_json() != codec.to_json()
    assert len(files(dataset)) == 2


def test_ray_tasks_over_parts_make_the_same_bytes(
    tmp_path: Path, ray_cluster: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, many = make(tmp_path / "one", []), make(tmp_path / "many", [10, 700, 701, 1_500, 2_999])
    asked: list[int] = []
    observe = stage._observe_on_ray
    monkeypatch.setattr(stage, "_observe_on_ray", lambda *a: asked.append(len(a[1])) or observe(*a))
    assert store.canonical(prepare(one).to_json()) == store.canonical(prepare(many).to_json())
    assert asked == [6]


def test_a_broken_part_and_a_broken_codec_are_named(tmp_path: Path) -> None:
    dataset = make(tmp_path, [])
    prepare(dataset)
    (file,) = files(dataset)
    file.write_text("{}")
    with pytest.raises(DataError, match=rf"{file.name}: unreadable .*delete the file"):
        prepare(dataset)
    file.unlink()
    part = tmp_path / dataset.parts("train")[0].path
    data = bytearray(part.read_bytes())
    data[200:260] = bytes(60)
    part.write_bytes(data)
    with pytest.raises(DataError, match=r"train-00000.parquet: .*ingest or generate again"):
        prepare(dataset)
    assert files(dataset) == []


def test_no_training_rows_is_said_so(tmp_path: Path) -> None:
    part = write_part(
        str(tmp_path), SCHEMA.arrow().empty_table(), split="train", name="train-00000", attempt="a"
    )
    dataset = commit(str(tmp_path), name="t", schema=SCHEMA, parts=[part], origin={})
    with pytest.raises(DataError, match="0 training rows"):
        prepare(dataset)


def test_rows_that_break_a_constraint_are_named(tmp_path: Path) -> None:
    schema = Schema(
        kind="tabular",
        fields=(Integer(name="low"), Integer(name="high")),
        constraints=(Inequality(low="low", high="high"),),
    )
    low = np.arange(300) % 50
    high = np.where(np.isin(np.arange(300), [7, 120, 121, 200, 250, 299]), low - 1, low + 2)
    table = pa.table([low, high], schema=schema.arrow())
    cuts = {"train-00000": table.slice(0, 100), "train-00001": table.slice(100)}
    parts = [write_part(str(tmp_path), t, split="train", name=n, attempt="a") for n, t in cuts.items()]
    dataset = commit(str(tmp_path), name="t", schema=schema, parts=parts, origin={})
    for _ in range(2):  # fitted, then read
        events: list[Event] = []
        codec = prepare(dataset, progress=events.append)
        assert "constraints[0] (low <= high): 6 rows, first [7, 120, 121, 200, 250]" in events[-1].note
    told = store.read_json(str(files(dataset)[0]))["broken"]
    assert told == {"constraints[0] (low <= high)": {"rows": 6, "first": [7, 120, 121, 200, 250]}}
    assert "120" not in str(codec.to_json()["relations"])  # no number of a row enters a bundle
