"""What each published artefact holds of training data: canaries planted in a real run, and searched for.

`docs/published.md` tells what is found where; the tests fail where a run shows something else. To write it
anew: GENPIPE_UPDATE_DOCS=1 python -m pytest -m "slow or not slow" tests/security/test_published.py
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "published.md"
PASSWORD = "correct-horse-battery"
ATTACK = "<img src=x onerror=alert(1)>"
NAME, CITY, FOLDER = "Quentin Zyxwvut-Marlowe", "Canary-upon-Nowhere", "ward-of-dr-canary"
LOW, HIGH, BORN = "-54321.98", "987654.32", "1903-02-17"
CANARIES = (
    "a name (text of one row)",
    "a category of one row",
    "a number of one row",
    "the least number",
    "the greatest number",
    "the earliest date",
    "a held-out row",
    "the file's folder",
)
HEAD = """\
# What is published of the training data

`tests/security/test_published.py` makes this table, and fails where a run shows another one. It plants
canaries in a table of 400 rows, goes the whole road (ingest, train, evaluate, register, generate) and looks
for them in every file, database and screen: text as it is, as JSON writes it, in UTF-16 and base64; numbers
as text, rounded, in hundredths, as distances from the least one, and as floats of 32 and 64 bits.

What is the owner's alone holds the data itself, and is listed for completeness. All else may be seen by those
who run, judge or consume models. Names of columns, their kinds and numbers of rows are in nearly all of it. A
generator learns categories by name, and numbers between the least and the greatest, and may make them again.
"""


def table(folder: Path) -> Path:
    """400 rows, with the canaries in rows that ingest does not hold out."""
    rng = np.random.default_rng(7)
    lines = [f"name,city,salary,born,{ATTACK},sex"]
    for i in range(400):
        salary = f"{rng.normal(40_000, 9_000):.2f}"
        day = np.datetime64("1950-01-01") + int(rng.integers(0, 20_000))
        city = ["Ulm", "Bonn", "Kiel <script>alert(1)</script>"][int(rng.integers(0, 3))]
        lines.append(f"Person {i:04d} {rng.integers(10**9):x},{city},{salary},{day},{i % 7},{'fm'[i % 2]}")
    for row, (column, value) in {
        13: (0, NAME),
        23: (1, CITY),
        37: (2, LOW),
        41: (2, HIGH),
        59: (3, BORN),
    }.items():
        cells = lines[row].split(",")
        cells[column] = value
        lines[row] = ",".join(cells)
    file = folder / FOLDER / "visits.csv"
    file.parent.mkdir()
    file.write_text("\n".join(lines) + "\n")
    return file


def planted(home: Path) -> dict[str, set[bytes]]:
    """What to look for, for each canary; those of single rows are chosen from the dataset."""
    (folder,) = (p for p in (home / "store/datasets/visits").iterdir() if p.is_dir())
    rows = {
        split: [
            row
            for file in sorted(folder.glob(f"data/*/{split}-*.parquet"))
            for row in pq.read_table(file).to_pylist()
        ]
        for split in ("train", "holdout")
    }
    train = json.dumps(rows["train"], default=str)
    assert all(value in train for value in (NAME, CITY, LOW, HIGH, BORN)), "a canary was held out"
    salaries = sorted(row["salary"] for row in rows["train"])
    held = rows["holdout"][3]
    days = int((np.datetime64(BORN) - np.datetime64("1970-01-01")).astype(int))
    return {
        "a name (text of one row)": text(NAME),
        "a category of one row": text(CITY),
        "a number of one row": set[bytes]().union(*(number(n, salaries[0]) for n in salaries[1:-1])),
        "the least number": number(float(LOW)) | {b"-54321", b"-54322", b"-54,321", b"-54,322"},
        "the greatest number": number(float(HIGH), float(LOW))
        | {b"987654", b"987655", b"987,654", b"987,655"},
        "the earliest date": text(BORN) | {b"1903", b"%d" % days},
        "a held-out row": text(held["name"]) | number(held["salary"], salaries[0]),
        "the file's folder": text(FOLDER),
    }


def text(value: str) -> set[bytes]:
    """A text as UTF-8, UTF-16, JSON, and base64, in which it depends on where it begins."""
    forms = {value.encode(), json.dumps(value)[1:-1].encode(), value.encode("utf-16-le")}
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + value.encode())
        forms.add(coded[4 if shift else 0 : -4])
    return forms


def number(value: float, least: float | None = None) -> set[bytes]:
    """A number of two decimals, the hundredths that it is, and those above the least, as text and floats."""
    whole = round(value * 100)
    counts = {whole} if least is None else {whole, whole - round(least * 100)}
    written = {_shortest(f"{value:.2f}".encode()), *(b"%d" % count for count in counts)}
    return written | {struct.pack("<d", n) for n in (value, *counts)} | {struct.pack("<f", value)}


NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")


def _shortest(written: bytes) -> bytes:
    return written.rstrip(b"0").rstrip(b".") if b"." in written else written


class Searched:
    """Bytes in which forms are looked for: a number as a whole number, a float anywhere, a text anywhere."""

    def __init__(self, data: bytes) -> None:
        self.data, self.numbers = data, {_shortest(found) for found in NUMBER.findall(data)}
        # floats of 32 bits in every fourth place: among any four bytes, chance would find some
        self.floats = {
            width: {
                data[i : i + width] for start in starts for i in range(start, len(data) - width + 1, width)
            }
            for width, starts in ((4, (0,)), (8, range(8)))
        }

    def holds(self, forms: set[bytes]) -> bool:
        written = {form for form in forms if NUMBER.fullmatch(form)}
        floats = {form for form in forms - written if len(form) in self.floats}
        return (
            bool(written & self.numbers)
            or any(form in self.floats[len(form)] for form in floats)
            or any(form in self.data for form in forms - written - floats)
        )


def content(path: Path) -> bytes:
    """A file's bytes; of Parquet and SQLite also what they decode to."""
    raw = path.read_bytes()
    if path.suffix == ".parquet":
        read = pq.read_table(path)
        return raw + repr(read.to_pylist()).encode() + json.dumps(read.to_pylist(), default=str).encode()
    if path.suffix == ".db":
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return raw + "\n".join(database.iterdump()).encode(errors="replace")
    return raw


def footer(path: Path) -> bytes:
    """What a generated file says besides its columns: metadata, and the statistics of its row groups."""
    told = pq.read_metadata(path)
    return repr(told.metadata).encode() + repr(told.to_dict()).encode()


# artefact -> the files it is, below the home; Path -> bytes
Place = tuple[str, Callable[[Path], bytes]]
BUNDLE = "store/runs/*/bundle-*"
PUBLISHED: dict[str, Place] = {
    "bundle: recipe.json": (f"{BUNDLE}/recipe.json", content),
    "bundle: schema.json": (f"{BUNDLE}/schema.json", content),
    "bundle: codec.json": (f"{BUNDLE}/codec.json", content),
    "bundle: metrics.json, origin.json, manifest.json": (f"{BUNDLE}/[mo][era][tin]*.json", content),
    "bundle: weights.safetensors": (f"{BUNDLE}/weights.safetensors", content),
    "MLflow: database (runs, versions, tags, parameters, curves)": ("mlflow.db*", content),
    "MLflow: the bundle among its artifacts": ("mlartifacts/**/bundle/*", content),
    "MLflow: pyfunc (MLmodel with signature, code, requirements)": ("mlartifacts/**/artifacts/*", content),
    "store: the copy of a registered bundle": ("store/models/*/*", content),
    "store: results and histories of runs, names of champions": ("store/r*/*/*.json", content),
    "report.json, report.html, samples.png": ("store/runs/*/evaluation/*/*", content),
    "generated rows": ("store/generated/visits/*/data/*.parquet", content),
    "generated rows: metadata and statistics of the file": (
        "store/generated/visits/*/data/*.parquet",
        footer,
    ),
    "generated rows: manifest.parquet": ("store/generated/visits/*/manifest.parquet", content),
    "screen of ingest": ("screens/ingest", content),
    "screens of train, evaluate, register, generate, explain": ("screens/[!i]*", content),
    "logs": ("logs/*", content),
}
WITH_PREFECT: dict[str, Place] = {
    "Prefect: database (runs, parameters, artifacts) and results": ("prefect/**/*", content),
}
OWNERS: dict[str, Place] = {
    "owner only: dataset, training rows": ("store/datasets/*/*/data/*/train-*", content),
    "owner only: dataset, held-out rows": ("store/datasets/*/*/data/*/holdout-*", content),
    "owner only: dataset, manifest.json": ("store/datasets/*/*/manifest.json", content),
    "owner only: latest.json, the last ingest of a name": ("store/datasets/*/latest.json", content),
    "owner only: dataset, fitted codecs": ("store/datasets/*/*/codecs/*", content),
    "owner only: checkpoints of a training run": ("store/runs/*/checkpoints/**/*", content),
}


def searched(home: Path, places: dict[str, Place]) -> dict[str, list[str]]:
    """artefact -> the canaries found in it."""
    canaries, found = planted(home), dict[str, list[str]]()
    for artefact, (pattern, read) in places.items():
        files = [p for p in home.glob(pattern) if p.is_file()]
        assert files, f"the run made no {artefact}"
        every = [Searched(read(p)) for p in files]
        found[artefact] = [what for what, forms in canaries.items() if any(s.holds(forms) for s in every)]
    return found


def rendered(found: dict[str, list[str]]) -> str:
    lines = ["| artefact | " + " | ".join(CANARIES) + " |", "|---|" + "---|" * len(CANARIES)]
    for artefact in [*PUBLISHED, *WITH_PREFECT, *OWNERS]:
        if artefact in found:
            cells = ["**yes**" if what in found[artefact] else "no" for what in CANARIES]
            lines.append(f"| {artefact} | " + " | ".join(cells) + " |")
    return HEAD + "\n" + "\n".join(lines) + "\n"


def documented() -> dict[str, list[str]]:
    """The table of the document, read back."""
    found = {}
    for line in DOCUMENT.read_text().splitlines() if DOCUMENT.exists() else ():
        artefact, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(CANARIES) and set(cells) <= {"**yes**", "no"}:
            found[artefact] = [what for what, cell in zip(CANARIES, cells, strict=True) if cell != "no"]
    return found


def compare(found: dict[str, list[str]]) -> None:
    if os.environ.get("GENPIPE_UPDATE_DOCS"):
        DOCUMENT.write_text(rendered(documented() | found))
    told = documented()
    assert {a: told.get(a) for a in found} == found, (
        f"{DOCUMENT.name} tells something else; see this file's head"
    )
    assert DOCUMENT.read_text() == rendered(told)


@contextmanager
def screen(file: Path) -> Iterator[None]:
    """Everything written to stdout and stderr, into a file."""
    file.parent.mkdir(exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved, streams = (os.dup(1), os.dup(2)), (sys.stdout, sys.stderr)
    with open(file, "wb", buffering=0) as target:
        for fd in (1, 2):
            os.dup2(target.fileno(), fd)
        sys.stdout = sys.stderr = io.TextIOWrapper(target, write_through=True)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            for fd, old in zip((1, 2), saved, strict=True):
                os.dup2(old, fd)
                os.close(old)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The road by its commands, on embedded MLflow; screens/VERB holds what each printed."""
    from genpipe.cli import execute

    folder = tmp_path_factory.mktemp("published")
    file, home = table(folder), folder / "home"
    recipe = folder / "recipe.yaml"
    recipe.write_text("base: tabular_autoregressive\ntraining: {steps: 20, evaluate_every: 20}\n")
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "GENPIPE_STORE",
            "MLFLOW_TRACKING_URI",
            "MLFLOW_REGISTRY_URI",
            "RAY_ADDRESS",
            "GENPIPE_DEVICE",
        ):
            patch.delenv(name, raising=False)
        patch.setenv("GENPIPE_HOME", str(home))
        patch.setenv("GENPIPE_CPUS", "2")

        def command(verb: str, *arguments: str) -> None:
            home.mkdir(exist_ok=True)
            with screen(home / "screens" / verb):
                code = execute([verb, *arguments])
            assert code == 0, (home / "screens" / verb).read_text()

        command("ingest", str(file), "--target", "sex")
        command("train", "visits", "--recipe", str(recipe))
        (bundle,) = home.glob(BUNDLE)
        command("evaluate", str(bundle))
        command("register", str(bundle), "--name", "visits")
        command("generate", "models:/visits@champion", "--rows", "300", "--workers", "0")
        (part,) = home.glob("store/generated/visits/*/data/generated-*.parquet")
        command("explain", str(part))
        yield home


def test_the_search_finds_what_is_there() -> None:
    for data in (
        f"x{NAME}y".encode(),
        base64.b64encode(f"a{NAME}b".encode()),
        base64.b64encode(f"ab{NAME}c".encode()),
        base64.b64encode(f"abc{NAME}d".encode()),
        NAME.encode("utf-16-le"),
    ):
        assert Searched(data).holds(text(NAME)), data
    assert Searched(json.dumps("Zoë Ångström").encode()).holds(text("Zoë Ångström"))
    for data in (
        b"[-54321.980]",
        struct.pack("<bd", 1, -54321.98),
        struct.pack("<ff", 1, -54321.98),
        b'"low": -5432198,',
    ):
        assert Searched(data).holds(number(-54321.98)), data
    assert Searched(b"[104197630.0]").holds(number(987654.32, -54321.98)), "above the least"
    assert not Searched(b"Quentin -54321.9 1987654.32 54321.989").holds(text(NAME) | number(-54321.98))


def test_the_document_tells_what_a_run_publishes(home: Path) -> None:
    compare(searched(home, PUBLISHED | OWNERS))


def test_no_file_escapes_the_search(home: Path) -> None:
    searched_for = {p for pattern, _ in (PUBLISHED | OWNERS).values() for p in home.glob(pattern)}
    missed = [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file() and p not in searched_for]
    assert not [name for name in missed if not name.startswith("ray/")]


def test_free_text_and_held_out_rows_are_published_nowhere(home: Path) -> None:
    """Whatever the document says: these two are promises."""
    found = searched(home, PUBLISHED)
    promised = {"a name (text of one row)", "a held-out row"}
    assert not {artefact for artefact, canaries in found.items() if promised & set(canaries)}


def test_the_report_shows_names_as_text(home: Path) -> None:
    """Tags in the names of columns and categories do not become tags of the page."""
    from html.parser import HTMLParser

    (page,) = home.glob("store/runs/*/evaluation/*/report.html")
    seen: list[tuple[str, dict[str, str | None]]] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

    html = page.read_text()
    Tags().feed(html)
    assert "&lt;img src=x onerror=alert(1)&gt;" in html, "the report names the column"
    assert not [a for tag, a in seen if any(name.startswith("on") for name in a)]
    assert not [tag for tag, a in seen if tag == "img" and not str(a.get("src")).startswith("data:image/")]
    assert "<script>alert(1)" not in html and ATTACK not in html


GUARDED_SERVER = """
import base64, sys
from werkzeug.serving import make_server
from mlflow.server import app

def guarded(environment, start):
    if environment.get("HTTP_AUTHORIZATION") != "Basic " + base64.b64encode(sys.argv[1].encode()).decode():
        start("401 Unauthorized", [("Content-Type", "text/plain")])
        return [b"who are you?"]
    return app(environment, start)

server = make_server("127.0.0.1", 0, guarded, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@contextmanager
def tracking_server(home: Path) -> Iterator[str]:
    """A real MLflow server that asks for a password, in a process of its own (it changes what MLflow's
    clients in its process speak to); yields its URI with it.
    """
    home.mkdir(exist_ok=True)
    told = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{home / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(home / "mlartifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    command = [sys.executable, "-c", GUARDED_SERVER, f"me:{PASSWORD}"]
    with subprocess.Popen(command, env=os.environ | told, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://me:{PASSWORD}@127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_whole_run_with_prefect_and_a_server_that_asks_for_a_password(tmp_path: Path) -> None:
    home, spec = tmp_path / "home", tmp_path / "spec.yaml"
    wanted = {
        "name": "visits",
        "source": {"path": str(table(tmp_path)), "target": "sex"},
        "recipe": {"base": "tabular_autoregressive", "training": {"steps": 20, "evaluate_every": 20}},
        "train": {"workers": 0},
        "generate": {"rows": 300, "workers": 0},
    }
    spec.write_text(json.dumps(wanted))
    with tracking_server(home) as uri:
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("_MLFLOW", "PREFECT", "GENPIPE"))
        }
        environment |= {"MLFLOW_TRACKING_URI": uri, "GENPIPE_HOME": str(home), "GENPIPE_CPUS": "2"}
        command = [sys.executable, "-m", "genpipe.cli", "run", str(spec)]
        done = subprocess.run(command, capture_output=True, env=environment, timeout=400, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (home / "screens").mkdir()
    (home / "screens/run").write_bytes(done.stdout + done.stderr)
    assert b"http://127.0.0.1:" in done.stdout, "the link to MLflow, without its password"
    secret = text(PASSWORD) | text(f"me:{PASSWORD}")
    leaks = [str(p) for p in home.rglob("*") if p.is_file() and Searched(content(p)).holds(secret)]
    assert not leaks
    with sqlite3.connect(home / "prefect/prefect.db") as database:
        links = [row[0] for row in database.execute("select data from artifact where type = 'markdown'")]
    assert any("/#/models/visits/versions/1" in link for link in links), (
        "the link artifact keeps host and path"
    )
    places = {a: p for a, p in PUBLISHED.items() if not p[0].startswith("screens/")}
    compare(searched(home, places | WITH_PREFECT))
    assert list(searched(home, {"screen of run": ("screens/run", content)}).values()) == [[]]
