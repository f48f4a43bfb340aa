"""CSV is cut between records wherever the quotes fall, and read in any encoding and with any delimiter."""

from __future__ import annotations

import csv as plain
import io
from pathlib import Path

import pytest

from genpipe.sources import open_source
from genpipe.sources.tabular.csv import boundary
from genpipe.sources.tabular.source import TableSource

CELLS = ["plain", "", "two\nlines", 'a "quote"', "comma, inside", "\r\n", "ü", '"', "tab\t"]


def read(path: Path, block: int | None = None, **options: object) -> list[list[str | None]]:
    source = open_source(str(path), options=options)
    assert isinstance(source, TableSource)
    if block:
        object.__setattr__(source, "options", _Small(block, source.options))
    rows: list[list[str | None]] = []
    for piece in source.pieces(source.files[0]):
        batch, _ = piece()
        rows += [list(row.values()) for row in batch.to_pylist()]
    return rows


class _Small:
    """The options with another block size, far below what a user may ask for."""

    def __init__(self, block: int, options: object) -> None:
        self.block, self._options = block, options

    def __getattr__(self, name: str) -> object:
        return getattr(self._options, name)


@pytest.mark.parametrize("block", [7, 64, 1000, None])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_records_survive_any_cut(block: int | None, newline: str, tmp_path: Path) -> None:
    rows = [[CELLS[(i + j) % len(CELLS)] or None for j in range(4)] + [str(i)] for i in range(60)]
    sink = io.StringIO()
    writer = plain.writer(sink, lineterminator=newline)
    writer.writerows([["a", "b", "c", "d", "n"], *rows])
    (tmp_path / "t.csv").write_bytes(sink.getvalue().encode())
    assert read(tmp_path / "t.csv", block) == rows


@pytest.mark.parametrize(
    "text, encoding, options",
    [
        ("a,b\né,1\n", "utf-8", {}),
        ("\ufeffa,b\né,1\n", "utf-8", {}),
        ("a;b\né;1\n", "cp1252", {"encoding": "cp1252"}),
        ("a\tb\né\t1\n", "utf-16", {"encoding": "utf-16"}),
        ("a|b\ré|1\r", "utf-8", {}),
        ("\n\na,b\n\né,1\n", "utf-8", {}),
    ],
)
def test_encodings_delimiters_and_line_ends(
    text: str, encoding: str, options: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert read(tmp_path / "t.csv", **options) == [["é", "1"]]


def test_the_decimal_comma(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\n1,5;x,y\n-2,25;1,2,3\n")
    assert read(tmp_path / "t.csv", decimal=",") == [["1.5", "x,y"], ["-2.25", "1,2,3"]]


@pytest.mark.parametrize(
    "data, length",
    [(b"a\nb", 2), (b"abc", 0), (b'a,"x\ny', 0), (b'a\n"x\n', 2), (b'a\n"x\n"\nb', 7), (b'"a""\n"\n', 7)],
)
def test_boundary(data: bytes, length: int) -> None:
    found, after = boundary(data, b"\n", data.count(b'"'))
    assert found == length and after == data[length:].count(b'"')
