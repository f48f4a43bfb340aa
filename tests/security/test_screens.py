"""Names and values of strangers on a terminal, in logs and in artifacts: shown, never obeyed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genpipe.cli import execute
from genpipe.errors import DataError, SpecError, unknown
from genpipe.progress import Event
from genpipe.redaction import shown, shown_lines, visible

TRICKS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "link": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "clear": "\x1b[2J\x1b[H",
    "c1": "\x9b2J\x9d0;owned\x9c",
    "back": "ok\x08\x08no\x7f",
    "return": "wrong\rright",
    "direction": "user\u202egnp.exe\u2066\u2069",
    "no width": "a\u200bdm\u200din\ufeff",
    "lines": "a\ngenpipe: error [E-FORGED] all is well\u2028x",
    "tags": "x\U000e0041\U000e0042",
}
ALL = "".join(TRICKS.values())
OBEYED = [
    "\x1b]",
    "\x1b[2J",
    "\x07",
    "\x08",
    "\x7f",
    "\x9b",
    "\x9d",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u200d",
    "\ufeff",
]
OBEYED += ["\u2028", "\U000e0041", "wrong\r", "\nx", "\ngenpipe: error [E-FORGED]", "\udcff"]


def obeyed(data: bytes | str) -> list[str]:
    """What in these bytes a terminal would take as more than text."""
    text = data if isinstance(data, str) else data.decode(errors="surrogateescape")
    return [repr(trick) for trick in OBEYED if trick in text]


def on_a_terminal(arguments: list[str]) -> tuple[int, bytes]:
    """The real command with a pseudo-terminal as its screen: exit code, and every byte it sent there."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "genpipe.cli", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {
        "TERM": "xterm-256color",
        "COLUMNS": "200",
    }
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    return child.wait(60), seen


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A table of which the file's name, the names of columns and the values are all tricks."""
    table = {
        "a" + ALL: [float(i) / 7 for i in range(60)],
        "[bold][link=http://evil.example]b[/]": [["Ulm" + ALL, "[red]Bonn[/red]"][i % 2] for i in range(60)],
        "c": [f"{TRICKS['clear']}{TRICKS['direction']}{i}" for i in range(60)],
    }
    file = tmp_path / f"x{ALL.replace('/', '')}.parquet"
    pq.write_table(pa.table(table), file)
    return file


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
def test_control_characters_become_visible(trick: str) -> None:
    for text in (
        visible(trick),
        shown(trick),
        str(DataError("X", where=trick, found=trick, expected=trick, fix=trick)),
    ):
        assert text.isprintable(), repr(text)
    assert visible(visible(trick)) == visible(trick)
    if "\\" not in trick and trick != TRICKS["tags"]:  # beyond JSON's notation
        assert json.loads(f'"{visible(trick)}"') == trick
    assert not obeyed(shown_lines(trick.replace("\n", "").replace("\u2028", "")))


@pytest.mark.parametrize("text", ["Zürich", "数据", "naïve café", "a\\b", "{'a': [1, 2]}", "½ – …", "👍"])
def test_ordinary_text_stays(text: str) -> None:
    assert visible(text) == shown(text) == shown_lines(text) == text


def test_names_without_end_are_cut_and_their_length_is_told() -> None:
    long = "x" * 1_000_000
    error = DataError("X", where=long, found=f"unknown column {long!r}", expected=long, fix=long)
    assert len(str(error)) < 2500 and "(1,000,000 characters)" in str(error)
    many = unknown("column", "x", [f"column {i}" for i in range(50_000)])
    assert len(str(many)) < 1500 and "characters)" in str(many)
    spec = SpecError("spec.yaml", [f"line {i}: wrong" for i in range(100_000)])
    assert len(str(spec).splitlines()) == 101 and str(spec).endswith("... and 99,901 more")


def test_a_table_of_tricks_on_a_terminal(home: Path, hostile: Path) -> None:
    code, seen = on_a_terminal(["ingest", str(hostile), "--name", "tricks"])
    assert code == 0, seen
    assert not obeyed(seen.replace(b"\r\n", b"\n"))
    assert b"]52;c;cm0gLXJm" in seen and rb"\u202e" in seen, "the schema shows the names"


def test_an_error_about_tricks_on_a_terminal(home: Path, tmp_path: Path) -> None:
    file = tmp_path / f"x{ALL.replace('/', '')}.csv"
    file.write_bytes(b"a,b\n1,2,3\n")
    code, seen = on_a_terminal(["ingest", str(file)])
    assert code == 3, seen
    assert not obeyed(seen.replace(b"\r\n", b"\n"))
    assert rb"\u001b]52;c;cm0gLXJm\u0007" in seen, "the error names the file"


def test_the_schema_that_is_shown_is_the_schema(
    home: Path, hostile: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from genpipe.sources.schema_file import schema_from_yaml

    assert execute(["ingest", str(hostile), "--name", "tricks"]) == 0
    out = capfd.readouterr().out
    assert not obeyed(out)
    edited = tmp_path / "schema.yaml"
    edited.write_text(out[out.index("# How genpipe") :])
    names = [field.name for field in schema_from_yaml(str(edited)).fields]
    assert names == pq.read_schema(hostile).names


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ingest", "ALL.csv"], 3),
        (["ingest", "people.csv", "--target", "ALL"], 2),
        (["ingest", "people.csv", "--name", "ALL"], 2),
        (["ingest", "people.csv", "-o", "ALL=1"], 2),
        (["train", "ALL"], 2),
        (["train", "no/ALL"], 3),
        (["generate", "BUNDLE", "--rows", "5", "--where", "ALL=1"], 2),
        (["generate", "BUNDLE", "--rows", "5", "--where", "sex=ALL"], 2),
        (["generate", "BUNDLE", "--rows", "5", "--where", 'city={"ALL": 1}'], 2),
        (["generate", "models:/ALL", "--rows", "5"], 2),
        (["explain", "ALL.parquet"], 3),
        (["validate", "ALL"], 2),
        (["ALL"], 2),
        (["ingest", "--ALL", "x"], 2),
        (["ingest", "people.csv", "--holdout", "ALL"], 2),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_arguments_are_echoed_as_text(
    arguments: list[str],
    code: int,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table_bundle: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.csv").write_text("a,b\n" + "".join(f"{i},{i * i}\n" for i in range(30)))
    trick = ALL.replace("/", "") + "\udcff"
    given = [a.replace("BUNDLE", table_bundle).replace("ALL", trick) for a in arguments]
    got = execute(given)
    out, err = capfd.readouterr()
    assert not obeyed(out + err)
    assert (got, "E-INTERNAL" in err) == (code, False), err
    assert [line[:14] for line in err.splitlines() if line.startswith("genpipe: error")] == ["genpipe: error"]
    assert all(not obeyed(p.read_bytes()) for p in home.glob("logs/*"))


def test_a_spec_of_tricks(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: a\nsource: {{path: builtin:titanic, kind: {json.dumps(ALL)}}}\n{json.dumps('k' + ALL)}: 1\n"
        f"recipe: {json.dumps('r' + ALL)}\n"
    )
    assert execute(["validate", str(spec)]) == 2
    err = capfd.readouterr().err
    assert not obeyed(err) and len(err.splitlines()) <= 5, err


def test_a_footer_of_tricks_is_explained_as_text(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "part.parquet"
    about = {b"genpipe.model": ALL.encode(), b"genpipe." + ALL.encode(): b"x", b"genpipe.conditions": b"{}"}
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(about), file)
    assert execute(["explain", str(file)]) == 0
    out = capfd.readouterr().out
    assert not obeyed(out)
    assert json.loads(out)["model"] == ALL


@pytest.mark.parametrize(
    "about",
    [
        {b"genpipe.conditions": b"{", b"genpipe.model": b"x"},
        {b"genpipe.conditions": b"[" * 100_000},
        {b"genpipe.model": b"\xff\xfe"},
    ],
    ids=["half", "deep", "bytes"],
)
def test_a_damaged_footer_is_told(
    about: dict[bytes, bytes], home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "part.parquet"
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(about), file)
    assert execute(["explain", str(file)]) == 3
    assert "[E-EXPLAIN]" in capfd.readouterr().err


def test_rows_of_tricks_are_scored_as_text(
    home: Path, tmp_path: Path, table_bundle: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.parquet"
    rows = {"age": [30] * 9, "height": [170.0] * 9, "city": ["Ulm" + ALL] * 9, "sex": ["f"] * 9}
    pq.write_table(pa.table(rows), file)
    execute(["likelihood", table_bundle, str(file)])
    out, err = capfd.readouterr()
    assert not obeyed(out + err)
    assert "E-INTERNAL" not in err


@pytest.mark.parametrize("terminal", [True, False], ids=["live", "plain"])
def test_progress_is_text(terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    from genpipe.console import Screen

    monkeypatch.delenv("CI", raising=False)
    sink = io.StringIO()
    console = Console(file=sink, force_terminal=terminal, width=300)
    with Screen(console, title="genpipe run", log=tmp_path / f"{TRICKS['title']}.log") as screen:
        screen(Event("ingest", 1, 2, "pieces", note=f"file [bold]b[/bold] {ALL}"))
        if terminal:
            screen.live.refresh()
    assert "[bold]b[/bold]" in sink.getvalue() and "\\u001b" in sink.getvalue()
    assert not obeyed(sink.getvalue().replace("\r\x1b", "\x1b"))


def test_the_closing_table_knows_no_markup() -> None:
    import io

    from rich.console import Console

    from genpipe.flows.closing import show
    from genpipe.flows.summary import Summary

    title = "[link=http://evil.example]shape[/link] :smile: " + TRICKS["title"]
    score = {"title": title, "value": 0.5, "unit": "[bold]", "ceiling": 1.0, "floor": 0.0}
    summary = Summary(
        name="tricks",
        dataset={"kind": "tabular", "fingerprint": "f" * 20},
        model={},
        report={
            "scores": [score],
            "verdict": "[blink]good",
            "page": f"/x/{ALL}/r.html",
            "picture": "",
            "kind": "x",
        },
    )
    sink = io.StringIO()
    show([summary], console=Console(file=sink, force_terminal=True, width=300))
    text = sink.getvalue()
    assert "[link=http://evil.example]shape[/link] :smile:" in text and "[blink]good" in text
    assert not obeyed(text)


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "[click](javascript:alert(1))",
        "![x](http://evil.example/p.png)",
        "a | b | c",
    ],
)
def test_artifacts_are_text_and_no_markdown(attack: str) -> None:
    """As the UI's renderer would read it: the only tokens are text."""
    from markdown_it import MarkdownIt

    from genpipe.flows.artifacts import plain

    (_, inline, _) = MarkdownIt("commonmark", {"html": True}).enable("table").parse(plain(attack))
    assert inline.children and {child.type for child in inline.children} == {"text"}
    assert "".join(child.content for child in inline.children) == attack
    assert plain(0.5) == 0.5 and plain(None) is None
    assert not obeyed(plain(ALL))


def test_links_to_reports_hold_no_markdown(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    from genpipe.flows import artifacts

    made: list[str] = []
    monkeypatch.setattr(artifacts, "create_link_artifact", lambda link, **about: made.append(link))
    artifacts.show_links("people", {"page": f"/x)](javascript:a) {ALL}<b>/r.html"}, None)
    (link,) = made
    assert link.startswith("file:///x") and not set(link) & set(")]([<> \x1b\n")


def test_no_stage_writes_a_spreadsheet() -> None:
    """Cells such as =cmd() are harmless in Parquet and JSON; what wrote CSV would have to quote them."""
    root = Path(__file__).parent.parent.parent
    for file in [*root.glob("genpipe/**/*.py"), *root.glob("flows/**/*.py")]:
        text: Any = file.read_text()
        assert "csv.writer" not in text and "write_csv" not in text and ".to_csv(" not in text, file
        assert ".to_excel(" not in text, file
