"""What the first pass keeps for the second: the same batches, from memory or disk, read as text only once."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from genpipe.sources import open_source
from genpipe.sources.columns import Place
from genpipe.sources.tabular import spill
from genpipe.sources.tabular.source import TableSource
from genpipe.sources.tabular.spill import Spill

BATCHES = [
    pa.RecordBatch.from_pydict({"a": [1, None, 3], "b": ["x", "", None]}),
    pa.RecordBatch.from_pydict({"a": [0.5], "b": ["é" * 1000]}),
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENPIPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path: Path) -> TableSource:
    """A CSV of several blocks, none of which may stay in memory."""
    path = tmp_path / "numbers.csv"
    path.write_text("n,word\n" + "".join(f"{i * 3 % 1000},word {i % 7}\n" for i in range(60_000)))
    opened = open_source(str(path), kind="tabular", options={"memory": 96 * 2**20})
    assert isinstance(opened, TableSource)
    opened.spill = Spill(0)
    return opened


@pytest.mark.parametrize("room", [0, BATCHES[0].nbytes, 2**20])
def test_batches_come_back_in_any_order(room: int, home: Path) -> None:
    kept = Spill(room)
    pieces = [kept.keep(batch, Place("f", i), disk=True) for i, batch in enumerate(BATCHES)]
    for i in (1, 0, 1):
        piece = pieces[i]
        assert piece is not None
        batch, place = piece()
        assert batch.equals(BATCHES[i]) and place == Place("f", i)
    assert not home.exists() or not list(home.iterdir()), "the file has no name"


def test_no_space_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Spill(0).keep(BATCHES[0], Place("f", 1), disk=False) is None
    with monkeypatch.context() as patch:
        patch.setattr(spill, "SPARE", 2**62)
        assert Spill(0).keep(BATCHES[0], Place("f", 1), disk=True) is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENPIPE_HOME", str(tmp_path / "file"))
    assert Spill(0).keep(BATCHES[0], Place("f", 1), disk=True) is None


def test_text_is_parsed_once_and_a_copy_elsewhere_reads_the_same(
    source: TableSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = source.schema(source.observe(0), target=None, key=())
    elsewhere: TableSource = pickle.loads(pickle.dumps(source))
    again = [rows.batch for rows in elsewhere.read(0, schema, skip=frozenset(), rejects=[])]
    monkeypatch.setattr(source, "pieces", lambda file: pytest.fail(f"{file.uri} is read a second time"))
    kept = [rows.batch for rows in source.read(0, schema, skip=frozenset(), rejects=[])]
    assert len(kept) > 1 and len(kept) == len(again)
    assert all(a.equals(b) for a, b in zip(kept, again, strict=True))
