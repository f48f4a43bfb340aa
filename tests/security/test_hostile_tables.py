"""Tables made to take the machine: each is refused with its place and a reason, soon, in little memory.

Every attack is a process of its own, which may take ADDRESSES and some seconds: a reader that is no longer
bounded fails a test and takes nobody else with it.
"""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genpipe import store
from genpipe.errors import GenpipeError
from genpipe.sources import open_source
from genpipe.sources.files import File, list_files
from genpipe.sources.tabular.binary import BatchReader
from genpipe.sources.tabular.source import TableSource
from genpipe.verbs import ingest

ADDRESSES, SECONDS, SOON = 6 * 2**30, 240, 30
GROWS = 700 * 2**20  # bytes: `memory` is 512 MiB unless an attack says so; the old readers took gigabytes
LEAST = 96 * 2**20  # of `memory`
ATTACKER = """
import json, resource, sys, time
from genpipe.errors import GenpipeError
from genpipe.verbs import ingest
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
high = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
before = high()
for path, options in json.load(sys.stdin):
    began = time.monotonic()
    try:
        found = ["", 0, str(ingest(path, workers=0, **options).rows())]
    except GenpipeError as error:
        found = [error.code, error.exit_code, str(error)]
    except Exception as error:
        found = ["INTERNAL", 1, repr(error)]
    sizes = [high() - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]
    print(json.dumps([*found, *sizes, time.monotonic() - began]), flush=True)
"""


@dataclass
class Outcome:
    """grown: bytes the process grew by at its peak so far. child: the largest of its children, whole."""

    code: str
    exit_code: int
    said: str
    grown: int
    child: int
    seconds: float


def attack(inputs: list[tuple[str, dict[str, object]]], home: Path) -> list[Outcome]:
    """Ingest each in one process; fewer outcomes than inputs where it died."""
    environment = os.environ | {"GENPIPE_HOME": str(home), "GENPIPE_CPUS": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ATTACKER, str(ADDRESSES)]
    told = subprocess.run(
        command, input=json.dumps(inputs), stdout=subprocess.PIPE, text=True, timeout=SECONDS, env=environment
    )
    return [Outcome(*json.loads(line)) for line in told.stdout.splitlines()]


def refused(outcome: Outcome, code: str, *says: str) -> None:
    assert (outcome.code, outcome.exit_code) == (code, 3), outcome
    assert all(word in outcome.said for word in says) and len(outcome.said) < 2000, outcome
    assert outcome.grown < GROWS and outcome.child < GROWS and outcome.seconds < SOON, outcome


def parquet(path: Path, columns: dict[str, Any] | pa.Table, **how: Any) -> None:
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **how)


def one_text(path: Path, size: int, *, restored: bool = True) -> None:
    """65,536 rows of one text, which is there once. restored: Arrow gives them back as a dictionary."""
    rows = 65_536
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * size]))
    parquet(path, {"a": texts, "b": range(rows)}, store_schema=restored)


def nested(levels: int, *, lists: bool) -> str:
    return (
        '{"a":' + "[" * levels + "]" * levels + "}\n"
        if lists
        else '{"a":' * levels + "1" + "}" * levels + "\n"
    )


def lines(objects: Iterable[object]) -> str:
    return "".join(json.dumps(item) + "\n" for item in objects)


NEW_KEYS = lines({f"key{i:07d}": 1} for i in range(50_000))
CYCLED = lines({f"k{i % 9_000}": 1} for i in range(60_000))
TEXTS: dict[str, tuple[str, Callable[[], str], str, tuple[str, ...]]] = {
    "objects in objects": (
        "a.jsonl",
        lambda: nested(100_000, lists=False),
        "LIMIT",
        ("row 1", "nested 100000"),
    ),
    "lists in lists": ("a.jsonl", lambda: nested(100_000, lists=True), "LIMIT", ("row 1", "deep")),
    "an object over many lines": (
        "a.jsonl",
        lambda: '{"a":\n' * 100_000 + "1" + "}" * 100_000,
        "LIMIT",
        ("nested 100000",),
    ),
    "levels hidden by brackets in texts": (
        "a.jsonl",
        lambda: '{"}":' * 100_000 + "1" + "}" * 100_000 + "\n",
        "LIMIT",
        ("nested 100000",),
    ),
    "levels after honest lines": (
        "a.jsonl",
        lambda: '{"a":1}\n' * 50 + nested(100_000, lists=False),
        "LIMIT",
        ("nested",),
    ),
    "a new key in each line": ("a.jsonl", lambda: NEW_KEYS, "LIMIT", ("50000 different keys",)),
    "a new key with escapes": (
        "a.jsonl",
        lambda: "".join(f'{{"\\u0041{i}" : 1}}\n' for i in range(20_000)),
        "LIMIT",
        ("20000 different keys",),
    ),
    "keys that come by turns": ("a.jsonl", lambda: CYCLED, "LIMIT", ("9000 different keys",)),
    "many keys in one object": (
        "a.jsonl",
        lambda: lines([{f"k{i}": 1 for i in range(70_000)}]),
        "LIMIT",
        ("70000 keys",),
    ),
    "new keys inside": (
        "a.jsonl",
        lambda: lines({"a": {f"k{i}": 1}} for i in range(20_000)),
        "LIMIT",
        ("different keys",),
    ),
    "a key of 100 kB": ("a.jsonl", lambda: lines([{"k" * 100_000: 1}] * 30), "LIMIT", ("characters",)),
    "a number of 99,999 digits": (
        "a.jsonl",
        lambda: '{"a":1' + "0" * 99_998 + "}\n",
        "NONFINITE",
        ("row 1",),
    ),
    "an infinite number": ("a.jsonl", lambda: '{"a":1e999999}\n' * 30, "JSON", ("row 1",)),
    "a text without end": ("a.jsonl", lambda: '{"a":"' + "x" * 100_000 + "\n", "ENCODING", ("row 1",)),
    "a key twice": ("a.jsonl", lambda: '{"a":1,"a":2}\n' * 30, "JSON", ("row",)),
    "a header of 200 kB": ("a.csv", lambda: "a" * 200_000 + ",b\n1,2\n", "HEADER", ("a.csv", "names")),
    "a name of 100 kB": ("a.csv", lambda: "a" * 100_000 + ",b\n1,2\n", "LIMIT", ("100000 characters",)),
    "a million columns": (
        "a.csv",
        lambda: ",".join(map(str, range(600_000))) + "\n1,2\n",
        "LIMIT",
        ("600000 columns", "65536"),
    ),
    "a header without end": ("a.csv", lambda: "a," * 3_000_000, "LIMIT", ("first line of more than",)),
    "commas": ("a.csv", lambda: "," * 70_000 + "\n", "LIMIT", ("70001 columns",)),
    "only line separators": ("a.csv", lambda: "\x1c\x1d\n" * 9, "EMPTY", ("no header",)),
    "a quote in the header that stays open": ("a.csv", lambda: '"' + "a,b\n" * 90_000, "HEADER", ("quote",)),
}


def bomb(path: Path, unit: bytes, times: int) -> None:
    """Some hundred megabytes of equal rows, compressed as the name says."""
    codec = {".gz": lambda d: gzip.compress(d, 9), ".bz2": bz2.compress}.get(
        path.suffix, lambda d: pa.compress(d, "zstd", asbytes=True)
    )
    block = codec(unit * (2**23 // len(unit)))
    path.write_bytes(codec(b"a,b\n") + block * times if "csv" in path.name else block * times)


def nulls(path: Path) -> None:
    """90 million rows in a few kilobytes."""
    table = pa.table({"a": pa.nulls(3_000_000, pa.int64())})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(30):
            writer.write_table(table)


def deep(path: Path, levels: int) -> None:
    kind, value = pa.int64(), pa.array([1] * 30)
    for _ in range(levels):
        kind = pa.struct([("x", kind)])
        value = pa.StructArray.from_arrays([value], ["x"])
    parquet(path, {"a": value}, store_schema=False)


Make = Callable[[Path], None]
FILES: dict[str, tuple[str, Make, dict[str, object], str, tuple[str, ...]]] = {
    "Parquet, one text of 100 kB": (
        "d.parquet",
        lambda p: one_text(p, 100_000),
        {},
        "LIMIT",
        ("row 1", "memory="),
    ),
    "Parquet, one text of 1 MB": ("d.parquet", lambda p: one_text(p, 1_000_000), {}, "LIMIT", ("memory=",)),
    "Parquet, one text, as it is read": (
        "d.parquet",
        lambda p: one_text(p, 100_000, restored=False),
        {},
        "LIMIT",
        ("memory=",),
    ),
    "Parquet, a text of 150 MB": (
        "v.parquet",
        lambda p: parquet(p, {"a": ["x" * 150_000_000] * 2}, compression="zstd", use_dictionary=False),
        {"memory": LEAST},
        "LIMIT",
        (f"memory={LEAST}",),
    ),
    "Parquet, rows of nothing": ("n.parquet", nulls, {"memory": LEAST}, "EXPAND", ("row", "raise memory=")),
    "Parquet, 90 structs deep": ("s.parquet", lambda p: deep(p, 90), {}, "PARQUET", ("recursion",)),
    "Parquet, 2,000 structs deep": ("s.parquet", lambda p: deep(p, 2000), {}, "PARQUET", ("recursion",)),
    "Parquet, a name of 5,000 letters": (
        "l.parquet",
        lambda p: parquet(p, {"n" * 5000: [1]}),
        {},
        "LIMIT",
        ("5000",),
    ),
    "gzip of 1,000 times": ("b.csv.gz", lambda p: bomb(p, b"1,2\n", 80), {}, "EXPAND", ("b.csv.gz",)),
    "bzip2": ("b.csv.bz2", lambda p: bomb(p, b"1,2\n", 40), {}, "EXPAND", ("b.csv.bz2",)),
    "Zstandard": ("b.jsonl.zst", lambda p: bomb(p, b'{"a":1}\n', 80), {}, "EXPAND", ("b.jsonl.zst",)),
    "one line, compressed": ("o.jsonl.gz", lambda p: bomb(p, b"          ", 80), {}, "EXPAND", ("o.jsonl",)),
    "one cell, compressed": ("o.csv.gz", lambda p: bomb(p, b"x", 80), {}, "EXPAND", ("o.csv.gz",)),
    "gzip in gzip": (
        "g.csv.gz",
        lambda p: p.write_bytes(gzip.compress(gzip.compress(b"a,b\n1,2\n" * 99))) and None,
        {},
        "NUL",
        ("g.csv.gz",),
    ),
    "a line of 20 MB": (
        "l.jsonl",
        lambda p: p.write_text('{"a":"' + "x" * 20_000_000 + '"}\n') and None,
        {},
        "LIMIT",
        ("row 1", "a line of more than"),
    ),
    "a cell of 20 MB": (
        "l.csv",
        lambda p: p.write_text("a,b\n" + "x" * 20_000_000 + ",1\n") and None,
        {},
        "LIMIT",
        ("a record of more than",),
    ),
    "a quote that stays open": (
        "q.csv",
        lambda p: p.write_text('a,b\n1,"' + "2,3\n" * 5_000_000) and None,
        {},
        "CELLSIZE",
        ("row 2", "quote"),
    ),
}


SLOW = {
    "Parquet, one text, as it is read",
    "Parquet, a text of 150 MB",
    "bzip2",
    "Zstandard",
    "one line, compressed",
    "one cell, compressed",
    "a quote that stays open",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Outcome]:
    """What became of each attack that is asked for, all tried by one process one after the other."""
    inputs: list[tuple[str, Path, dict[str, object]]] = []
    for name, (file, text, _, _) in TEXTS.items():
        path = tmp_path_factory.mktemp("text") / file
        path.write_text(text())
        inputs.append((name, path, {}))
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    for name, (file, make, options, _, _) in FILES.items():
        if name not in asked:
            continue
        path = tmp_path_factory.mktemp("file") / file
        make(path)
        inputs.append((name, path, options))
    home = tmp_path_factory.mktemp("home")
    found = attack([(str(path), options) for _, path, options in inputs], home)
    assert not list(home.rglob("manifest.json"))
    return {name: outcome for (name, _, _), outcome in zip(inputs, found, strict=False)}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in (*TEXTS, *FILES)]
)
def test_a_small_file_takes_neither_memory_nor_time(name: str, outcomes: dict[str, Outcome]) -> None:
    assert name in outcomes, "the process died of it, or of one before"
    file, *_, code, says = TEXTS.get(name) or FILES[name]
    refused(outcomes[name], code, file, *says)


def parsers() -> list[psutil.Process]:
    """The children that decode Parquet; the session has others, such as Ray and the S3 server. A reader that
    an earlier test left half read has its own until it is collected."""
    return [c for c in psutil.Process().children() if any("parsing.parquet" in word for word in c.cmdline())]


def test_the_child_that_parses_knows_no_secrets_and_ends_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    parquet(tmp_path / "a.parquet", {"a": range(100_000)})
    reader, earlier = BatchReader("parquet", 512 * 2**20), parsers()
    batches = reader.batches(list_files(str(tmp_path / "a.parquet"))[0])
    assert next(batches)[0].num_rows == 65_536
    (child,) = [c for c in parsers() if c not in earlier]
    assert "hush-hush" not in child.environ().values() and len(child.environ()) < 16
    assert child.rlimit(psutil.RLIMIT_AS)[1] < 2 * 2**30
    assert sum(batch.num_rows for batch, _ in batches) == 34_464
    assert child.is_running(), "it parses the next file, too"
    del reader, batches
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def test_an_object_store_is_read_by_the_owner_of_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child asks for the bytes it needs; here they come from a folder, as from any other file system."""
    path = tmp_path / "a.parquet"
    parquet(path, {"a": range(150_000), "b": ["x"] * 150_000}, row_group_size=50_000)
    folder = fsspec.filesystem("file")
    monkeypatch.setattr(store, "scheme_of", lambda uri: "s3")
    monkeypatch.setattr(store, "filesystem", lambda uri: folder)
    reader, file = BatchReader("parquet", LEAST), File(str(path), path.stat().st_size, "", "")
    assert sum(batch.num_rows for batch, _ in reader.batches(file)) == 150_000
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(GenpipeError, match="whole Parquet file"):
        list(reader.batches(file))


def test_a_child_that_dies_is_a_reason_and_the_next_file_is_read(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", {"a": range(200_000)})
    reader, file = BatchReader("parquet", 512 * 2**20), list_files(str(tmp_path / "a.parquet"))[0]
    batches, earlier = reader.batches(file), parsers()
    next(batches)
    (child,) = [c for c in parsers() if c not in earlier]
    child.kill()
    with pytest.raises(GenpipeError, match=r"a\.parquet.*Arrow dies \(SIGKILL\)") as caught:
        list(batches)
    assert caught.value.code == "PARQUET"
    assert sum(batch.num_rows for batch, _ in reader.batches(file)) == 200_000


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "NOTREGULAR"),
    "a device": (lambda p: p.symlink_to("/dev/zero"), "NOTREGULAR"),
    "a link to itself": (lambda p: p.symlink_to(p.name), "MISSING"),
    "a link to nothing": (lambda p: p.symlink_to("nothing"), "MISSING"),
}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_file_is_not_opened(name: str, suffix: str, tmp_path: Path, home: Path) -> None:
    make, code = ODD[name]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / f"a.{suffix}")
    for source in (tmp_path / "in" / f"a.{suffix}", tmp_path / "in", tmp_path / "in" / "*"):
        with pytest.raises(GenpipeError) as caught:
            ingest(str(source))
        assert caught.value.exit_code == 3 and caught.value.code in (code, "PATH", "MISSING"), caught.value


@pytest.mark.parametrize("suffix, code", [("csv", "NUL"), ("jsonl", "NUL"), ("parquet", "PARQUET")])
def test_a_terabyte_of_nothing(suffix: str, code: str, tmp_path: Path, home: Path) -> None:
    with (tmp_path / f"a.{suffix}").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(GenpipeError, match=f"a.{suffix}") as caught:
        ingest(str(tmp_path / f"a.{suffix}"), workers=0)
    assert caught.value.code == code


def test_a_file_that_grows_is_not_followed_for_ever(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{i},{i}\n" for i in range(100)))
    source = open_source(str(path))
    with path.open("a") as file:
        file.write("1,2\n" * 100)
    assert isinstance(source, TableSource)
    (rejected,) = source.observe(0).rejects
    assert rejected.error.code == "CHANGED"


@pytest.mark.parametrize("source", ["a" * 5000 + ".csv", "a\0.csv", "[" * 5000])
def test_names_no_file_can_have(source: str, home: Path) -> None:
    with pytest.raises(GenpipeError) as caught:
        ingest(source)
    assert caught.value.exit_code in (2, 3)


def test_more_files_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(30):
        (tmp_path / f"{i}.csv").touch()
    assert len(list_files([str(tmp_path), f"{tmp_path}/**", f"{tmp_path}/1*"])) == 30, "each once"
    monkeypatch.setattr("genpipe.sources.files.MAX_FILES", 20)
    for source in (str(tmp_path), f"{tmp_path}/*"):
        with pytest.raises(GenpipeError, match="more than 20 files"):
            list_files(source)


@pytest.mark.parametrize(
    "name, value",
    [
        *(("delimiter", v) for v in ("((((", "\n", '"', "\0", "é", 3, ["a"])),
        *(("decimal", v) for v in ("..", "é", '"')),
        *(("encoding", v) for v in ("rot13", "base64", "idna", "punycode", "undefined", "no\0", "x" * 9999)),
        *(("memory", v) for v in ("1e999", "nan", -1, 0, 2**70, "much", None)),
        *((n, v) for n in ("window", "stride") for v in (-1, 0, 2**60, "x")),
        *(("min_rows", v) for v in ("x", None)),
        *(("workers", v) for v in ("x", -1)),
    ],
)
def test_a_wrong_option_is_a_usage_error(name: str, value: object, tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "".join(f"{i},{i * 3}\n" for i in range(50)))
    with pytest.raises(GenpipeError) as caught:
        ingest(str(tmp_path / "a.csv"), **{name: value})  # type: ignore[arg-type]
    assert caught.value.exit_code == 2 and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("source", "OPTION"),
        ("progress", "OPTION"),
        ("name", "FEWROWS"),
        ("target", "COLUMN"),
        ("min_rows", "VALUE"),
    ],
)
def test_an_option_that_is_a_parameter_is_read_as_that(
    name: str, code: str, tmp_path: Path, home: Path, capsys: Any
) -> None:
    from genpipe.cli import execute

    (tmp_path / "a.csv").write_text("a\n1\n")
    assert execute(["ingest", str(tmp_path / "a.csv"), "-o", f"{name}=x"]) == (3 if name == "name" else 2)
    assert f"[E-{code}]" in capsys.readouterr().err


def test_a_wide_table_takes_time_by_its_columns(tmp_path: Path, home: Path) -> None:
    draw, seconds = random.Random(0), {}
    for columns in (500, 2000):
        path = tmp_path / f"w{columns}.csv"
        rows = [",".join(f"g{i}" for i in range(columns))]
        rows += [",".join(f"{draw.random():.3f}" for _ in range(columns)) for _ in range(30)]
        path.write_text("\n".join(rows) + "\n")
        began = time.process_time()
        assert len(ingest(str(path), workers=0).schema.fields) == columns
        seconds[columns] = time.process_time() - began
    assert seconds[2000] < 9 * seconds[500]  # by the square it is sixteen times


def read_all(path: Path) -> int:
    """Rows of a table, observed and read as ingest would."""
    source = open_source(str(path), kind="tabular", options={"memory": LEAST})
    assert isinstance(source, TableSource)
    stats = source.observe(0)
    if stats.rejects:
        raise stats.rejects[0].error
    schema = source.schema(stats, target=None, key=())
    return sum(rows.batch.num_rows for rows in source.read(0, schema, skip=frozenset(), rejects=[]))


VALID = {
    "csv": b'a,b,c\n1,x,2024-01-01\n2,"y\n""z""",2024-01-02\n,\xc3\xa9,\n' * 3,
    "jsonl": b'{"a": 1, "b": {"c": [1, null]}, "d": "x\\"y"}\n{"a": null, "d": "2024-01-01"}\n' * 3,
}
MARKS = [
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"\\",
    b"\xef\xbb\xbf",
    b"\xff",
    b"1e999",
]
CHANGES = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(MARKS) | st.binary(max_size=4), st.booleans())
)


def mutated(data: bytes, changes: list[tuple[int, bytes, bool]]) -> bytes:
    for at, new, over in changes:
        at %= len(data) + 1
        data = data[:at] + new + data[at + len(new) * over :]
    return data


def survives(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        assert read_all(path) > 0
    except GenpipeError as error:
        assert error.exit_code in (2, 3) and len(str(error)) < 3000, error


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def test_a_key_that_is_no_text(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' * 30 + b'{"a\x80": 1}\n')
    with pytest.raises(GenpipeError, match=r"a.jsonl:row 1: a key.* 0x80"):
        ingest(str(tmp_path / "a.jsonl"), workers=0)


@pytest.mark.parametrize("examples", [60, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", VALID)
def test_any_bytes_are_a_table_or_a_reason(suffix: str, examples: int, tmp_path: Path, home: Path) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=QUIET)
    @given(st.binary(max_size=200) | CHANGES.map(lambda changes: mutated(VALID[suffix], changes)))
    def run(data: bytes) -> None:
        survives(tmp_path / f"a.{suffix}", data)

    run()


@pytest.mark.parametrize("examples", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_any_damage_to_parquet_is_a_reason(examples: int, tmp_path: Path, home: Path) -> None:
    """One child reads them all, or a new one where it died; this process never does."""
    table = pa.table({"a": range(50), "b": [str(i % 3) for i in range(50)], "c": [[1, None]] * 50})
    parquet(tmp_path / "valid.parquet", table.drop_columns("c"))
    parquet(tmp_path / "nested.parquet", table)
    valid = [(tmp_path / f"{name}.parquet").read_bytes() for name in ("valid", "nested")]
    reader = BatchReader("parquet", LEAST)

    @settings(max_examples=examples, deadline=None, suppress_health_check=QUIET)
    @given(st.sampled_from(valid), CHANGES)
    def run(data: bytes, changes: list[tuple[int, bytes, bool]]) -> None:
        path = tmp_path / "a.parquet"
        path.write_bytes(mutated(data, changes))
        try:
            for batch, _ in reader.batches(list_files(str(path))[0]):
                batch.validate(full=True)
        except GenpipeError as error:
            assert error.exit_code == 3 and len(str(error)) < 3000, error

    run()
