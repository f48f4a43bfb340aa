from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_dataset import small_dataset

from genpipe.codecs import CODECS
from genpipe.codecs.base import Arrays, Codec, fit
from genpipe.dataset import Dataset, Part
from genpipe.errors import DataError
from genpipe.training.data import Resident, Streaming, open_source

SIZE = 64  # of a batch where none of this matters


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Codec]:
    dataset = small_dataset(str(tmp_path_factory.mktemp("data") / "people"), rows=600, parts=12)
    return dataset, fit(CODECS["tabular"], dataset.schema, dataset.batches("train"))


def rows_of(arrays: Arrays) -> list[bytes]:
    return [row.tobytes() for row in arrays["x"]]


def everything(opened: tuple[Dataset, Codec]) -> list[bytes]:
    dataset, codec = opened
    return sorted(rows_of(codec.encode(dataset.table("train").combine_chunks().to_batches()[0], "vector")))


def test_small_is_resident_large_is_streamed(opened: tuple[Dataset, Codec]) -> None:
    assert isinstance(open_source(*opened, "vector", batch_size=SIZE, seed=0), Resident)
    assert isinstance(open_source(*opened, "vector", batch_size=SIZE, seed=0, memory_mb=0.001), Streaming)


@pytest.mark.parametrize("memory_mb", [100, 0.001])
def test_an_epoch_is_every_row_once_and_the_next_is_in_another_order(
    opened: tuple[Dataset, Codec], memory_mb: float
) -> None:
    source = open_source(*opened, "vector", batch_size=SIZE, seed=0, memory_mb=memory_mb)
    batches = [rows_of(source.batch(step, size=24, start=0, stop=24)) for step in range(50)]
    first, second = ([row for batch in half for row in batch] for half in (batches[:25], batches[25:]))
    assert sorted(first) == sorted(second) == everything(opened)
    assert first != second
    assert first != everything(opened)


@pytest.mark.parametrize("rows", [1, 7, 600, 1000])
def test_a_sample_lies_evenly_over_the_split_resident_or_streamed(
    opened: tuple[Dataset, Codec], rows: int
) -> None:
    resident = open_source(*opened, "vector", batch_size=SIZE, seed=0)
    streamed = open_source(*opened, "vector", batch_size=SIZE, seed=0, memory_mb=0.001)
    sample = rows_of(resident.sample(rows))
    assert sample == rows_of(streamed.sample(rows)) and len(sample) == rows
    assert isinstance(resident, Resident)
    whole = rows_of(resident.arrays)
    assert sample == [whole[k * 600 // rows] for k in range(rows)]
    assert (sample == whole) == (rows == 600)


def test_batches_smaller_than_the_lanes_still_read_every_row(opened: tuple[Dataset, Codec]) -> None:
    source = open_source(*opened, "vector", batch_size=3, seed=0, memory_mb=0.001)
    epoch = [row for step in range(200) for row in rows_of(source.batch(step, size=3, start=0, stop=3))]
    assert sorted(epoch) == everything(opened)


@pytest.mark.parametrize("memory_mb", [100, 0.001])
@pytest.mark.parametrize("world", [2, 3, 8])
def test_slices_are_the_global_batch_at_any_number_of_workers(
    opened: tuple[Dataset, Codec], memory_mb: float, world: int
) -> None:
    whole = open_source(*opened, "vector", batch_size=SIZE, seed=5, memory_mb=memory_mb)
    ranks = [
        open_source(*opened, "vector", batch_size=SIZE, seed=5, memory_mb=memory_mb) for _ in range(world)
    ]
    for step in (0, 1, 2, 40, 41, 7):  # a resumed run starts anywhere
        expected = whole.batch(step, size=50, start=0, stop=50)
        cuts = [(r * 50 // world, (r + 1) * 50 // world) for r in range(world)]
        pieces = [s.batch(step, size=50, start=a, stop=b) for s, (a, b) in zip(ranks, cuts, strict=True)]
        for key in expected:
            np.testing.assert_array_equal(np.concatenate([p[key] for p in pieces]), expected[key])


def test_a_batch_may_be_larger_than_the_data(opened: tuple[Dataset, Codec]) -> None:
    source = open_source(*opened, "vector", batch_size=SIZE, seed=0)
    assert len(source.batch(0, size=1500, start=0, stop=1500)["x"]) == 1500


def test_streaming_reads_only_its_own_lanes_and_two_windows_of_them(
    opened: tuple[Dataset, Codec], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, codec = opened
    read: set[str] = set()
    lock, real = threading.Lock(), Dataset.reading
    source = Streaming(dataset, codec, "vector", seed=0, lanes=4)

    def note(self: Dataset, part: Part) -> AbstractContextManager[pq.ParquetFile]:
        with lock:
            read.add(part.path)
        return real(self, part)

    monkeypatch.setattr(Dataset, "reading", note)
    for step in range(60):
        source.batch(step, size=40, start=0, stop=20)
    assert len(read) == 6  # the first two of four lanes: half of the twelve parts
    assert [len(lane._windows) for lane in source.lanes] == [2, 2, 0, 0]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    dataset = small_dataset(str(tmp_path / "people"), rows=600, parts=3)
    codec = fit(CODECS["tabular"], dataset.schema, dataset.batches("train"))
    source = Streaming(dataset, codec, "vector", seed=0)
    part = Path(dataset.uri) / dataset.parts("train")[1].path
    data = bytearray(part.read_bytes())
    data[200] ^= 255
    part.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"train-00001\.parquet"):
        for step in range(30):
            source.batch(step, size=40, start=0, stop=40)


def test_a_part_of_fewer_rows_than_the_manifest_says_is_named(tmp_path: Path) -> None:
    dataset = small_dataset(str(tmp_path / "people"), rows=60, parts=2)
    codec = fit(CODECS["tabular"], dataset.schema, dataset.batches("train"))
    manifest = Path(dataset.uri) / "manifest.json"
    text = manifest.read_text()
    assert text.count('"rows": 30,') == 2
    manifest.write_text(text.replace('"rows": 30,', '"rows": 31,'))
    for read in (
        lambda d: Streaming(d, codec, "vector", seed=0),
        lambda d: open_source(d, codec, "vector", batch_size=SIZE, seed=0),
    ):
        with pytest.raises(DataError, match=r"train-00000\.parquet: 30 rows; expected 31"):
            read(Dataset(dataset.uri))
