"""The command line as a person meets it: help, one-line errors, exit codes, quick starts."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genpipe import errors
from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.errors import UsageError

VERBS = [
    "validate",
    "ingest",
    "train",
    "tune",
    "evaluate",
    "register",
    "generate",
    "impute",
    "likelihood",
    "run",
    "explain",
    "demo",
    "clean",
    "doctor",
]
HEAVY = [
    "torch",
    "ray",
    "mlflow",
    "prefect",
    "pyarrow",
    "pandas",
    "numpy",
    "sklearn",
    "rich.live",
]
# the options of the command line are read from pydantic's models, which cost a tenth of a second
HEAVY_BY_ITSELF = [*HEAVY, "pydantic"]


def child(code: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | extra, timeout=120
    )


@pytest.mark.parametrize(
    ("code", "heavy", "times", "bare"),
    [
        ("import genpipe", HEAVY_BY_ITSELF, 2.5, "pass"),
        ("from genpipe.cli import execute; execute(['--help'])", HEAVY, 4, "import typer, pydantic"),
    ],
)
def test_a_start_is_quick_and_imports_nothing_heavy(
    code: str, heavy: list[str], times: float, bare: str
) -> None:
    """So many times what is needed for any such program; here 1.2 and 2.3."""
    found = f"import sys, json; print(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    done = child(f"{code}\n{found}")  # bytecode may have to be written once
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert cpu_seconds(code) < times * cpu_seconds(bare)


def cpu_seconds(code: str) -> float:
    """The least of some, as a busy machine takes longer."""
    spent = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        child(code)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: genpipe " + verb in out
    assert verb == "demo" or re.search(rf"^  genpipe {verb} \S", out, re.MULTILINE)


def test_help_names_every_verb_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {verb} ", out, re.MULTILINE) for verb in VERBS)
    for code, word in (
        (2, "usage"),
        (3, "bad data"),
        (4, "infrastructure"),
        (5, "privacy"),
        (6, "conflict"),
        (7, "quality"),
    ):
        assert f"{code} {word}" in out
    assert execute([]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "x"], r"\[E-USAGE\] .*no command 'trian'; did you mean 'train'"),
        (
            ["people", "train", "--seed", "3"],
            r"\[E-USAGE\] .*the verb comes first: genpipe train people --seed 3",
        ),
        (
            ["train", "x", "--steps", "9"],
            r"\[E-USAGE\] .*no option --steps; it is said in a recipe: .*--recipe FILE",
        ),
        (["ingest", "x", "-o", "age"], r"\[E-USAGE\] age: no '='; .*quote .*-o where='age>=18'"),
        (
            ["ingest", "x", "--holdout", "150%"],
            r"\[E-VALUE\] holdout: 1.5; expected a number from 0 to below 1",
        ),
        (["train"], r"\[E-USAGE\] genpipe train: Missing argument 'dataset'"),
        (["train", "x", "--workers", "two"], r"\[E-VALUE\] workers: 'two'; expected a whole number from 0"),
        (
            ["train", "x", "--worker", "2"],
            r"\[E-USAGE\] genpipe train: no option --worker; did you mean '--workers'",
        ),
        (["generate", "m", "--rows", "0"], r"\[E-VALUE\] rows: 0; expected a whole number from 1"),
        (
            ["train", "x", "--seed", "-1"],
            r"\[E-VALUE\] seed: -1; expected a whole number from 0; leave",
        ),
        (["tune", "x", "--trials", "0"], r"\[E-VALUE\] trials: 0; expected a whole number from 1"),
        (["train", "x", "--minutes", "0"], r"\[E-VALUE\] minutes: 0.0; expected a number above 0"),
        (["ingest", "x", "--holdout", "1"], r"\[E-VALUE\] holdout: 1.0; expected a number from 0 to below 1"),
        (
            ["generate", "m", "--rows", "5", "--where", "label"],
            r"\[E-USAGE\] --where: 'label': no sign between a column and a value",
        ),
        (
            ["generate", "m", "--rows", "5", "--where", "age>=3", "--where", "age=4"],
            r"\[E-USAGE\] --where age=4: age twice",
        ),
        (["ingest", "x", "-o", "skip=1", "-o", "skip=2"], r"\[E-USAGE\] skip=2: skip twice"),
        (["ingest", "-"], r"\[E-NAME\] no name for standard input.*ingest - --name people"),
        (["train", "nobody"], r"\[E-UNKNOWN\] .*unknown dataset 'nobody'"),
        (["validate", "nothing.yaml"], r"\[E-PATH\] nothing.yaml: no such file"),
        (["validate"], r"\[E-USAGE\] validate: no file"),
        (["run", "nothing.yaml"], r"\[E-PATH\] nothing.yaml: no such file"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(
    arguments: list[str], message: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(arguments) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert re.match(r"genpipe: error " + message, last), last
    assert "Traceback" not in last


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("UsageError", 2),
        ("DataError", 3),
        ("InfrastructureError", 4),
        ("PrivacyError", 5),
        ("ConflictError", 6),
        ("QualityError", 7),
    ],
)
def test_each_error_has_its_exit_code_and_its_traceback_is_in_the_log(
    kind: str, code: int, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import genpipe.stages.evaluate.verb as stage

    def fail(*_: object, **__: object) -> None:
        raise getattr(errors, kind)("WORD", where="here", found="this", expected="that", fix="do so")

    monkeypatch.setattr(stage, "evaluate", fail)
    assert execute(["evaluate", "some/bundle"]) == code
    err = capfd.readouterr().err
    assert err.splitlines()[-1] == "genpipe: error [E-WORD] here: this; expected that; do so"
    assert "Traceback" not in err
    (log,) = home.glob("logs/evaluate-*.log")
    assert "Traceback" in log.read_text() and "in fail" in log.read_text()


def test_a_defect_is_told_apart_and_logged(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import genpipe.stages.explain as stage

    monkeypatch.setattr(stage, "explain", lambda path: 1 / 0)
    assert execute(["explain", "x"]) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    found = re.search(r"\[E-INTERNAL\] ZeroDivisionError: division by zero; .* traceback is in (\S+)$", last)
    assert found and "Traceback" in Path(found.group(1)).read_text()


SLEEPER = """
import sys, time
import genpipe.stages.evaluate.verb as stage
from genpipe.cli import execute
from genpipe.dataset import Dataset
from genpipe.errors import UsageError
def slow(*a, **k):
    print("noise", flush=True)
    open(sys.argv[1], "w").close()
    time.sleep(60)
stage.evaluate = slow
sys.exit(execute(["evaluate", "./m"]))
"""


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_say_resumable(number: int, code: int, word: str, home: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(ready)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background job ignores Ctrl-C
    )
    end = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.splitlines()[-1] == f"genpipe: error {word}; resumable: run the same command again"
    # what the libraries print goes to the log, not to the screen
    assert "noise" not in out + err
    assert "noise" in next(home.glob("logs/evaluate-*.log")).read_text()


def test_validate_prints_every_problem(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: A\nsource: {path: nope.csv}\nextra: 1\n")
    assert execute(["validate", str(spec)]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"genpipe: error [E-SPEC] {spec}: 3 problems"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["line 1", "line 2", "line 3"]
    assert not home.exists(), "validating must leave nothing behind"


def test_validate_prints_the_schema(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["validate", "--schema"]) == 0
    assert json.loads(capfd.readouterr().out)["required"] == ["name", "source"]


def test_a_dataset_is_found_by_its_name_and_its_schema_can_be_edited(home: Path, tmp_path: Path) -> None:
    from genpipe.stages.named_data import dataset_meant

    people, schema = tmp_path / "people.csv", tmp_path / "people.schema.yaml"
    people.write_text(
        "age,city\n" + "".join(f"{20 + i % 40},{'Ulm' if i % 3 else 'Bonn'}\n" for i in range(200))
    )

    def ingest(*more: str) -> str:
        command = [sys.executable, "-m", "genpipe.cli", "ingest", str(people), *more]
        return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True).stdout

    printed = ingest()
    assert "- name: age\n" in printed and "reason:" in printed
    first = dataset_meant("people").uri
    assert f"dataset      {first}" in printed and Dataset(first).schema.field("age").kind == "integer"
    ingest("--save-schema", str(schema))
    schema.write_text(schema.read_text().replace("kind: integer", "kind: number"))
    assert "kind: number" in ingest("--schema", str(schema))
    assert dataset_meant("people").uri != first  # the newest of the name
    mine = schema.read_text()
    for path, told in (
        (schema, "E-EXISTS"),
        (tmp_path / "no" / "x.yaml", "E-FOLDER"),
        (tmp_path, "E-FOLDER"),
    ):
        with pytest.raises(subprocess.CalledProcessError) as failed:
            ingest("--save-schema", str(path))
        assert told in failed.value.stderr
    assert schema.read_text() == mine
    with pytest.raises(UsageError, match=r"unknown dataset 'peple'.*did you mean 'people'"):
        dataset_meant("peple")


def test_what_a_shell_takes_of_a_condition_is_missed() -> None:
    """`--where income=>50K` without quotes is `--where income=` and a file named 50K."""
    from genpipe.cli.options import asked
    from genpipe.requests import Generate

    with pytest.raises(UsageError, match=r"--where income=: no value.*--where 'income=>50K'"):
        asked(Generate, {"model": "people", "conditions": ["income="]})
    assert asked(Generate, {"model": "people", "conditions": ['note=""']}).conditions == {"note": ""}
