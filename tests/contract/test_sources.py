"""Every source x bad input: one clear DataError that names the place, and nothing written."""

from __future__ import annotations

import gzip
import io
import struct
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from PIL import Image as Pillow

from genpipe.errors import GenpipeError
from genpipe.kinds import KINDS
from genpipe.sources import SOURCES
from genpipe.verbs import ingest

GOOD_CSV = "id,age,city\n" + "".join(f"{i * 3},{20 + i % 50},{'ABC'[i % 3]}\n" for i in range(100))
Make = Callable[[Path], tuple[str, dict[str, object]]]


def png(height: int = 8, width: int = 8, seed: int = 0) -> bytes:
    sink = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width), dtype=np.uint8)
    Pillow.fromarray(pixels).save(sink, format="PNG")
    return sink.getvalue()


def wav(frames: int = 400, rate: int = 8000, seed: int = 0) -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.random.default_rng(seed).integers(-9000, 9000, frames).astype("<i2").tobytes())
    return sink.getvalue()


def parquet(columns: dict[str, pa.Array]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


ROWS: list[list[object]] = [["age", "city"], *([20 + i, "ABC"[i % 3]] for i in range(100))]


def book(sheets: dict[str, list[list[object]]]) -> bytes:
    sink = io.BytesIO()
    with xlsxwriter.Workbook(sink, {"in_memory": True}) as made:
        for name, rows in sheets.items():
            sheet = made.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return sink.getvalue()


def arrow() -> bytes:
    sink = io.BytesIO()
    table = pa.table({"age": list(range(100)), "city": list("ABCD" * 25)})
    with pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


def file(name: str, data: bytes | str, **options: object) -> Make:
    def make(folder: Path) -> tuple[str, dict[str, object]]:
        path = folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path), options

    return make


def folder(files: dict[str, bytes | str], **options: object) -> Make:
    def make(root: Path) -> tuple[str, dict[str, object]]:
        for name, data in files.items():
            path = root / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(root / "data"), options

    return make


def classes(extra: dict[str, bytes | str]) -> dict[str, bytes | str]:
    return {f"{'ab'[i % 2]}/{i}.png": png(seed=i) for i in range(40)} | extra


def clips(extra: dict[str, bytes | str]) -> dict[str, bytes | str]:
    return {f"{i % 2}_me_{i}.wav": wav(seed=i) for i in range(40)} | extra


def header_wav(rate: int = 8000, channels: int = 1, align: int = 2, tag: int = 1, bits: int = 16) -> bytes:
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits)
    return b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00" + form + b"data\x08\x00\x00\x00" + bytes(8)


IDX_IMAGES = struct.pack(">IIII", 0x803, 30, 4, 4) + bytes(range(256)) + bytes(224)
TIMES = "time,who,x\n" + "".join(
    f"2024-01-{d:02d},{e},{d + 10 * e}\n" for e in range(3) for d in range(1, 29)
)
SERIES: dict[str, object] = {"entity": "who", "window": 7}

BAD: dict[str, list[tuple[str, Make, str]]] = {
    "tabular": [
        ("zero bytes", file("a.csv", ""), r"a\.csv.*0 bytes"),
        ("only a BOM", file("a.csv", b"\xef\xbb\xbf\n\n"), "no header and no rows"),
        ("header only", file("a.csv", "a,b\n"), "0 rows"),
        ("too few rows", file("a.csv", "a,b\n1,2\n3,4\n"), "2 rows; expected at least 20"),
        ("same name twice", file("a.csv", "a,b,a\n1,2,3\n"), "columns 1 and 3 are both named 'a'"),
        ("same name up to case", file("a.csv", "a,A \n1,2\n"), "columns 1 and 2 .*up to case"),
        ("no name", file("a.csv", ",b\n1,2\n"), "no name for column 1"),
        ("numbers for a header", file("a.csv", "1,2\n3,4\n"), "first row holds only numbers"),
        ("ragged", file("a.csv", GOOD_CSV + "1,2\n"), r"a\.csv:row 102: 2 cells; expected 3"),
        ("open quote", file("a.csv", GOOD_CSV + '1,2,"A\n4,5,B\n'), "row 102: a quote that is never closed"),
        (
            "not UTF-8",
            file("a.csv", GOOD_CSV.encode() + b"1,2,caf\xe9\n"),
            "byte 0xe9 at offset .* is not utf-8",
        ),
        ("UTF-16", file("a.csv", GOOD_CSV.encode("utf-16")), "UTF-16 text; expected UTF-8"),
        ("NUL", file("a.csv", GOOD_CSV.encode() + b"1,2,\0\n"), "NUL byte at offset"),
        ("stray word", file("a.csv", GOOD_CSV + "9,elderly,A\n"), "age: 1 of 101 .*'elderly' in row 102"),
        ("infinite", file("a.csv", GOOD_CSV.replace("9,", "1e999,", 1)), r"row \d+:id: inf .*finite"),
        (
            "two kinds of date",
            file("a.csv", "t,x\n" + "2024-01-01T00:00:00Z,1\n" * 30 + "2024-01-02T00:00:00,2\n" * 30),
            "times with and without a time zone",
        ),
        (
            "unknown target",
            file("a.csv", GOOD_CSV, target="agee"),
            "target 'agee' is not a column.*did you mean 'age'",
        ),
        ("cut gzip", file("a.csv.gz", gzip.compress(GOOD_CSV.encode() * 50)[:-40]), "damaged or cut off"),
        ("archive", file("a.zip", b"PK\x03\x04", kind="tabular"), "archive"),
        (
            "other columns",
            folder({"a.csv": GOOD_CSV, "b.csv": GOOD_CSV.replace("age", "years")}),
            r"b\.csv.*-age, \+years",
        ),
        ("broken JSON", file("a.jsonl", '{"a": 1}\n{"a": \n'), r"a\.jsonl:row \d"),
        ("mixed JSON types", file("a.jsonl", '{"a": 1}\n{"a": "x"}\n'), "a.jsonl.*number to string"),
        ("null for an object", file("a.jsonl", 'null\n{"a": 1}\n'), r"a\.jsonl:row 1: 'null.*, no object"),
        ("JSON of Latin-1", file("a.jsonl", b'{"a": "x"}\n{"a": "Gr\xf6sse"}\n'), r"a\.jsonl:row 2.*UTF8"),
        (
            "a part that is not there",
            file("a.jsonl", '{"a": {"b": 1}}\n' * 30, columns=["a.c"]),
            "did you mean",
        ),
        ("half an array", file("a.json", '[{"a": 1}, {"a"'), "row 2.*no whole object"),
        ("two headers", file("a.csv", "a,b\n" + "1,x\n" * 30, names=["c"]), "2 cells in the first row"),
        (
            "no header",
            file("a.csv", "".join(f"{i % 9},{'xyz'[i % 3]}\n" for i in range(30))),
            "like those below",
        ),
        ("CSV as Parquet", file("a.parquet", GOOD_CSV), r"a\.parquet.*whole Parquet file"),
        (
            "cut Parquet",
            file("a.parquet", parquet({"a": pa.array(range(100))})[:-20]),
            r"a\.parquet.*whole Parquet",
        ),
        ("CSV as Excel", file("a.xlsx", GOOD_CSV), r"a\.xlsx.*sheet with a row of names"),
        (
            "two sheets",
            file("a.xlsx", book({"a": ROWS, "b": ROWS})),
            r"2 sheets with values \(a, b\); say one",
        ),
        ("no such sheet", file("a.xlsx", book({"a": ROWS}), sheet="b"), r"no sheet 'b'; there are a"),
        ("an empty sheet", file("a.xlsx", book({"a": []})), r"0 sheets with values"),
        (
            "a sheet without names",
            file("a.xlsx", book({"a": ROWS[1:]})),
            r"the value 20 for a name; say skip=",
        ),
        (
            "one name twice in a sheet",
            file("a.xlsx", book({"a": [["a", "a"], [1, 2]]})),
            "two columns named 'a'",
        ),
        ("CSV as Arrow", file("a.arrow", GOOD_CSV), r"a\.arrow.*whole Arrow file"),
        ("half an Arrow file", file("a.feather", arrow()[:-200]), r"a\.feather.*whole Arrow file"),
        ("empty Parquet", file("a.parquet", parquet({"a": pa.array([], pa.int64())})), "0 rows"),
        ("nested Parquet", file("a.parquet", parquet({"a": pa.array([[1]] * 30)})), "nothing but lists"),
        (
            "infinite Parquet",
            file("a.parquet", parquet({"a": pa.array([1.5, float("inf")] * 20)})),
            "inf .*finite",
        ),
        (
            "lists",
            file("a.parquet", parquet({"a": pa.array([[1, 2]] * 30)})),
            "nothing but lists",
        ),
        ("rows of one key", file("a.csv", "a,b\n" + "1,x\n" * 50, key="a"), "none of 50 rows falls into"),
    ],
    "image": [
        ("empty file", folder(classes({"a/x.png": b""})), r"1 of 41 files.*\n.*x\.png: 0 bytes"),
        ("text named png", folder(classes({"a/x.png": "hello"})), "not a picture"),
        (
            "cut PNG",
            folder(classes({"a/x.png": png(64, 64)[:-400]}), height=8),
            r"x\.png: a picture that does not decode",
        ),
        ("another size", folder(classes({"a/x.png": png(8, 9)})), "2 sizes.*pass height=8, width=8"),
        (
            "too many pixels",
            folder(classes({"a/x.png": png(100, 100)}), max_pixels=5000),
            "100x100 pixels; expected at most 5000",
        ),
        ("a sheet of nothing", folder(classes({"labels.csv": "a,b\nx,y\n"})), "no column of file names"),
        ("levels upside down", folder(classes({}), levels=[9, 1]), r"levels=\[black, white\]"),
        ("two sizes asked for", folder(classes({}), size=8, height=8), "size= alone, or height= and width="),
        ("IDX cut off", file("t-images-idx3-ubyte", IDX_IMAGES[:-5]), "ends 5 bytes early"),
        ("IDX of another kind", file("t-images-idx3-ubyte", b"hello" * 9), "first bytes 68656c6c"),
        (
            "IDX labels short",
            folder(
                {
                    "t-images-idx3-ubyte": IDX_IMAGES,
                    "t-labels-idx1-ubyte": struct.pack(">II", 0x801, 3) + b"abc",
                }
            ),
            "3 labels; expected 30",
        ),
        (
            "IDX labels alone",
            file("t-labels-idx1-ubyte", struct.pack(">II", 0x801, 3) + b"abc"),
            "a labels file alone",
        ),
    ],
    "series": [
        ("no window", file("a.csv", TIMES), "one long series and no window"),
        ("unknown entity", file("a.csv", TIMES, entity="whom", window=7), "did you mean 'who'"),
        ("window too long", file("a.csv", TIMES, entity="who", window=99), "at most 28 steps"),
        ("unequal series", file("a.csv", TIMES + "2024-02-01,1,5\n", entity="who"), "28 to 29 steps"),
        (
            "same time twice",
            file("a.csv", TIMES + "2024-01-05,1,5\n", **SERIES),
            "1 times that occur twice of '1'",
        ),
        ("a step of nothing", file("a.csv", TIMES, **SERIES, step="0 h"), "'0 h'; expected a step such as"),
        (
            "times that are words",
            file("a.csv", TIMES.replace("2024-01", "week"), time="time", **SERIES),
            "texts that are no times",
        ),
        (
            "two time columns",
            file(
                "a.csv",
                TIMES.replace("x\n", "x,t2\n", 1)
                .replace("\n2024", ",2024-01-01\n2024")
                .replace(",2024-01-01\n", "\n", 1)
                .rstrip("\n")
                + ",2024-01-01\n",
                **SERIES,
            ),
            "2 columns of times: time, t2",
        ),
        (
            "no numbers",
            file(
                "a.csv",
                "t,c\n" + "".join(f"2024-01-{d:02d},{'ab'[d % 2]}\n" for d in range(1, 29)),
                kind="series",
                window=4,
            ),
            "no column of numbers",
        ),
    ],
    "text": [
        ("blank", file("a.txt", " \n\n"), "all blank"),
        ("zero bytes", file("a.txt", ""), "all blank"),
        ("not UTF-8", file("a.txt", b"hello \xff"), "byte 0xff at offset 6"),
        ("NUL", file("a.txt", b"hello\0"), "NUL byte at offset 5"),
        ("PDF", file("a.txt", b"%PDF-1.7 ..."), "binary file with a text name"),
        ("shorter than a record", file("a.txt", "short"), "5 characters in all"),
        ("too few", file("a.txt", "word " * 100), "4 rows; expected at least 20"),
        (
            "no column of that name",
            file("a.jsonl", '{"text": "some words"}\n' * 30, field="txt"),
            "'txt' is not a column; expected one of text",
        ),
        (
            "two columns of texts",
            file("a.csv", "a,b\n" + "some words,other words\n" * 30),
            "2 columns of texts: a, b; expected field=COLUMN",
        ),
        (
            "a line too long",
            file("a.txt", "x" * 5000, record="lines", max_characters=1000),
            "more than 1000 characters",
        ),
    ],
    "audio": [
        ("zero bytes", folder(clips({"0_me_99.wav": b""})), r"99\.wav: 0 bytes"),
        ("MP3", folder(clips({"0_me_99.wav": b"ID3\x03" + bytes(90)})), "MP3 under a .wav name"),
        (
            "cut off",
            folder(clips({"0_me_99.wav": wav()[:-100]})),
            "350 frames; expected 400 as its header says",
        ),
        ("another rate", folder(clips({"0_me_99.wav": wav(rate=16000)})), "2 sampling rates.*such as"),
        ("one long clip", file("a.wav", wav(80_000), frames=8000), "1 rows.*segment=1 cuts recordings"),
        ("frames and pieces", folder(clips({}), frames=9, segment=1), "one of them"),
        ("rate 0", folder(clips({"0_me_99.wav": header_wav(rate=0)})), "header of 0 Hz"),
        ("A-law", folder(clips({"0_me_99.wav": header_wav(tag=6, bits=8, align=1)})), "coding 6 with 8 bits"),
        ("align lies", folder(clips({"0_me_99.wav": header_wav(align=3)})), "3 bytes a frame"),
        ("no frames", folder(clips({"0_me_99.wav": wav(0)})), "0 frames"),
        (
            "not a number",
            folder(
                clips(
                    {
                        "0_me_99.wav": header_wav(tag=3, bits=32, align=4)[:-8]
                        + struct.pack("<ff", 0.0, float("nan"))
                    }
                )
            ),
            "frame 1: a sample that is not a number",
        ),
    ],
}
CASES = [
    pytest.param(kind, make, match, id=f"{kind}-{name}")
    for kind, rows in BAD.items()
    for name, make, match in rows
]


@pytest.mark.parametrize("kind, make, match", CASES)
def test_bad_input_is_named_and_nothing_is_written(
    kind: str, make: Make, match: str, tmp_path: Path, home: Path
) -> None:
    source, options = make(tmp_path)
    with pytest.raises(GenpipeError, match=rf"(?s){match}") as caught:
        ingest(source, **{"kind": kind, **options})  # type: ignore[arg-type]
    assert caught.value.exit_code in (2, 3)
    assert not list(home.rglob("manifest.json"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name, match",
    [("nowhere.bin", "no such file or folder"), ("none*.bin", "no file matches"), ("empty", "no files")],
)
def test_missing_input(kind: str, name: str, match: str, tmp_path: Path, home: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(GenpipeError, match=match):
        ingest(str(tmp_path / name), kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_option_names_the_closest(kind: str, tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(GenpipeError, match=r"unknown option 'memori'.*did you mean 'memory'"):
        ingest(str(tmp_path / "a.bin"), kind=kind, memori=3)


def test_every_kind_has_bad_inputs() -> None:
    assert set(BAD) == set(SOURCES) == set(KINDS)
