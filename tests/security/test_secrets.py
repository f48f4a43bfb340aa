"""Keys and passwords: refused in URIs, and never shown or kept where the environment holds them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genpipe.cli import execute
from genpipe.errors import DataError, SpecError, UsageError
from genpipe.redaction import guard_logs, holds_secret, link, redact

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYED = f"s3://{KEY}:{SECRET}@lake/people.csv"
PRESIGNED = f"s3://lake/people.csv?X-Amz-Credential={KEY}%2F20260101&X-Amz-Signature=0badc0ffee0badc0ffee"
PASSWORD = "correct-horse-battery"
WHERE_KEYS_BELONG = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def leaks(text: str | bytes) -> list[str]:
    raw = text if isinstance(text, bytes) else text.encode()
    return [s for s in (KEY, SECRET, PASSWORD, "0badc0ffee0badc0ffee") if s.encode() in raw]


def kept(home: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in home.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("at http://user:s3cr3t-s3cr3t@host:5000/api now", "s3cr3t-s3cr3t"),
        ("postgresql+psycopg2://mlflow:s3cr3t@db:5432/mlflow", "s3cr3t"),
        ("postgresql://u:p@ss:w#rd@db/x", "p@ss:w#rd"),
        ("http://u:ab/cd@db/x", "ab/cd"),
        ("https://ghp_0123456789abcdef@github.com/a/b", "ghp_0123456789abcdef"),
        (KEYED, SECRET),
        (PRESIGNED, "0badc0ffee0badc0ffee"),
        ("postgresql://db/x?user=a&password=s3cr3t&sslpassword=s3cr3t", "s3cr3t"),
        ("https://api.example/v1?key=s3cr3t&q=1", "s3cr3t"),
        ("https://h/x?X-Amz-Security-Token=s3cr3t;sig=s3cr3t", "s3cr3t"),
        ("could not connect: host=db user=me password=s3cr3t dbname=x", "s3cr3t"),
        ("{'password': 's3cr3t', 'user': 'me'}", "s3cr3t"),
        ("headers: Authorization: Basic czNjcjN0OnMzY3IzdA==", "czNjcjN0OnMzY3IzdA"),
        (f"InvalidAccessKeyId: {KEY} is not known", KEY),
    ],
)
def test_a_secret_is_known_by_its_form(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert "***" in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://lake/users/a@b.example/part-0.parquet",
        "http://127.0.0.1:5000/#/models/people/versions/1@x",
        "models:/people@champion",
        "choose another key=, or change holdout=",
        "sqlite:////home/me@host/mlflow.db",
        "people@mail.example; found 3 tokens, key customer_id",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text
    assert not holds_secret(text)


def test_a_link_keeps_host_and_path() -> None:
    assert (
        link("http://me:word@mlflow.example:5000/x/#/models/a") == "http://mlflow.example:5000/x/#/models/a"
    )


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("MLFLOW_TRACKING_PASSWORD", PASSWORD, PASSWORD),
        ("AWS_SECRET_ACCESS_KEY", PASSWORD, PASSWORD),
        ("RAY_AUTH_TOKEN", PASSWORD, PASSWORD),
        ("PREFECT_SERVER_API_AUTH_STRING", PASSWORD, PASSWORD),
        ("PGPASSWORD", PASSWORD, PASSWORD),
        ("MLFLOW_TRACKING_URI", f"http://me:{PASSWORD}@host", PASSWORD),
        ("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql://me:per%40cent-word@host/x", "per@cent-word"),
        ("SOME_SECRET", 'quo"ted-word', json.dumps('quo"ted-word')[1:-1]),
    ],
)
def test_a_secret_of_the_environment_is_known_by_its_value(
    name: str, value: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    error = DataError("X", where=f"at {found}", found=f"bad {found}", expected=found, fix=found)
    every = [str(error), error.where, error.found, error.expected, error.fix, repr(error)]
    assert not any(found in text for text in every)
    assert str(error).startswith("at ") and "bad ***" in str(error)


VERBS: list[list[str]] = [
    ["ingest", "{}"],
    ["ingest", "people.csv", "--schema", "{}"],
    ["train", "{}"],
    ["tune", "{}"],
    ["evaluate", "{}"],
    ["register", "{}", "--name", "people"],
    ["generate", "{}", "--rows", "5"],
    ["generate-tables", "{}", "--rows", "5"],
    ["impute", "{}", "people.csv"],
    ["likelihood", "{}", "people.csv"],
    ["explain", "{}"],
    ["explain", "{}/part.parquet"],
]


OTHERS = [f"https://user:{PASSWORD}@host/people.csv", f"postgresql+psycopg2://mlflow:{PASSWORD}@db/mlflow"]


@pytest.mark.parametrize("uri", [KEYED, PRESIGNED, *OTHERS], ids=["s3", "presigned", "https", "postgres"])
@pytest.mark.parametrize("verb", VERBS, ids=lambda v: " ".join(v))
def test_every_verb_refuses_a_uri_with_keys(
    verb: list[str], uri: str, home: Path, capfd: pytest.CaptureFixture[str], people: str
) -> None:
    arguments = [people if a == "people.csv" else a.format(uri) for a in verb]
    code = execute(arguments)
    out, err = capfd.readouterr()
    assert code == 2, err
    assert "[E-KEYS]" in err and WHERE_KEYS_BELONG in err.splitlines()[-1]
    assert not leaks(out + err)
    assert not [name for name, data in kept(home).items() if leaks(data)]


@pytest.mark.parametrize(
    "verb",
    ["generate MODEL --rows 5", "impute MODEL PEOPLE", "score MODEL PEOPLE"],
    ids=lambda v: v.split()[0],
)
def test_an_output_with_keys_is_refused(
    verb: str, home: Path, capfd: pytest.CaptureFixture[str], people: str, table_bundle: str
) -> None:
    named = {"MODEL": table_bundle, "PEOPLE": people}
    assert execute([*(named.get(word, word) for word in verb.split()), "--output", KEYED]) == 2
    out, err = capfd.readouterr()
    assert "[E-KEYS]" in err, err
    assert not leaks(out + err)
    assert not [name for name, data in kept(home).items() if leaks(data)]


SAID = [
    ["train", "people", "--tag", "{}"],
    ["train", "people", "--recipe", "{}"],
    ["generate", "people", "--rows", "5", "--tag", "{}"],
    ["generate", "people", "--rows", "5", "--where", "city={}"],
    ["register", "people", "--despite", "as {} says"],
    ["register", "people", "--unchecked", "as {} says"],
    ["ingest", "people.csv", "--entity", "none: see {}"],
    ["ingest", "people.csv", "-o", "delimiter={}"],
    ["tune", "people", "--vary", 'adversarial=["{}"]'],
    ["evaluate", "people", "--dataset", "{}"],
    ["run", "spec.yaml", "--tag", "{}"],
    ["clean", "--place", "{}"],
]


@pytest.mark.parametrize("uri", [KEYED, OTHERS[0]], ids=["s3", "https"])
@pytest.mark.parametrize("verb", SAID, ids=lambda v: " ".join([v[0], v[-2]]))
def test_what_is_only_noted_may_hold_no_keys_either(
    verb: list[str], uri: str, home: Path, capfd: pytest.CaptureFixture[str], people: str
) -> None:
    """Tags, reasons and options stand in manifests, MLflow's tags and Prefect's parameters."""
    code = execute([people if a == "people.csv" else a.format(uri) for a in verb])
    out, err = capfd.readouterr()
    assert code == 2 and "[E-KEYS]" in err, err
    assert not leaks(out + err)
    assert not [name for name, data in kept(home).items() if leaks(data)]


@pytest.fixture
def people(tmp_path: Path) -> str:
    file = tmp_path / "people.csv"
    file.write_text("age,height,city,sex\n" + "\n".join(f"{20 + i},170.5,Ulm,f" for i in range(30)) + "\n")
    return str(file)


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("source.path", "source: {{path: '{}'}}\n"),
        ("source.schema", "source: {{path: builtin:titanic, schema: '{}'}}\n"),
        ("generate.output", "source: {{path: builtin:titanic}}\ngenerate: {{rows: 5, output: '{}'}}\n"),
        ("tables.a.source", "tables: {{a: {{source: '{}'}}}}\n"),
        ("unchecked", "source: {{path: builtin:titanic}}\nunchecked: 'as {} says'\n"),
        ("source.options.delimiter", "source: {{path: builtin:titanic, options: {{delimiter: '{}'}}}}\n"),
    ],
)
def test_a_spec_with_keys_is_refused_by_its_line(
    command: str, key: str, text: str, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: people\n" + text.format(KEYED))
    assert execute([command, str(spec)]) == 2
    out, err = capfd.readouterr()
    assert (
        "[E-SPEC]" in err
        and key in err
        and "a key or password in the URI" in err
        and WHERE_KEYS_BELONG in err
    )
    assert not leaks(out + err)
    assert not [name for name, data in kept(home).items() if leaks(data)]


def test_the_store_may_not_hold_keys(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], people: str
) -> None:
    monkeypatch.setenv("GENPIPE_STORE", f"s3://{KEY}:{SECRET}@lake/store")
    assert execute(["ingest", people]) == 2
    err = capfd.readouterr().err
    assert "GENPIPE_STORE: a key or password in the URI" in err and not leaks(err)


def test_from_python_too(home: Path) -> None:
    import genpipe

    with pytest.raises(UsageError, match=r"KEYS|a key or password in the URI") as caught:
        genpipe.ingest(KEYED)
    assert not leaks(str(caught.value))
    with pytest.raises(SpecError) as refused:
        genpipe.run({"name": "people", "source": {"path": KEYED}})
    assert not leaks(str(refused.value))


def test_a_tracking_server_that_does_not_answer(home: Path, table_bundle: str) -> None:
    """The real command: what it prints, its log, and all else it leaves."""
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"http://me:{PASSWORD}@127.0.0.1:9/mlflow",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "GENPIPE_HOME": str(home),
    }
    command = [sys.executable, "-m", "genpipe.cli", "generate", "models:/people@champion", "--rows", "5"]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 4, done.stderr
    assert b"[E-MLFLOW] http://127.0.0.1:9/mlflow" in done.stderr
    assert not leaks(done.stdout + done.stderr)
    logs = kept(home)
    assert any(b"Traceback" in data for data in logs.values())
    assert not [name for name, data in logs.items() if leaks(data)]


def test_what_libraries_say_is_redacted_in_the_error_and_its_log(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], people: str
) -> None:
    import genpipe.stages.ingest.wanted as stage

    def fails(*_: Any, **__: Any) -> Any:
        print(f"a library prints https://me:{PASSWORD}@host")
        logging.getLogger("library").error("it logs %s", f"https://me:{PASSWORD}@host")
        try:
            raise OSError(f"cannot reach https://me:{PASSWORD}@host/x")
        except OSError as error:
            raise ValueError(f"no {KEY}\nsecond line") from error

    monkeypatch.setattr(stage, "open_source", fails)
    assert execute(["ingest", people]) == 1
    out, err = capfd.readouterr()
    assert "[E-INTERNAL] ValueError: no ***" in err
    (log,) = (home / "logs").glob("ingest-*.log")
    text = log.read_text()
    assert "cannot reach https://***@host/x" in text and "a library prints https://***@host" in text
    assert not leaks(out + err + text)


def test_a_record_of_a_log_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    guard_logs()
    log = logging.getLogger("somebody")
    try:
        raise OSError(f"at https://me:{PASSWORD}@host")
    except OSError:
        log.exception("failed: %s", f"https://me:{PASSWORD}@host\nWARNING forged line \x1b[2J")
    text = "\n".join(logging.Formatter("%(levelname)s %(message)s").format(r) for r in caplog.records)
    assert not leaks(text)
    assert "\n  WARNING forged line \\u001b[2J" in text


def test_what_a_step_raises_is_kept_by_prefect_without_secrets() -> None:
    from genpipe.flows.policy import step

    @step("failing")
    def failing(uri: str) -> None:
        raise OSError(f"cannot reach {uri}")

    with pytest.raises(RuntimeError, match=r"OSError: cannot reach https://\*\*\*@host/x") as caught:
        failing.fn(f"https://me:{PASSWORD}@host/x")
    assert caught.value.__suppress_context__


def test_the_next_command_and_the_links_hold_no_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genpipe.flows import artifacts
    from genpipe.flows.closing import tracked

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg2://me:{PASSWORD}@db/mlflow")
    assert tracked()[0] == 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{PASSWORD}@host:5000/mlflow/")
    assert tracked()[0] == "http://host:5000/mlflow/"
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(artifacts, "create_link_artifact", lambda link, **about: made.append({"link": link}))
    artifacts.show_links("people", {"page": "/x/report.html"}, {"name": "people", "version": 3})
    assert [m["link"] for m in made] == [
        "file:///x/report.html",
        "http://host:5000/mlflow/#/models/people/versions/3",
    ]


AWAY = [
    (
        {"MLFLOW_TRACKING_URI": "postgresql+psycopg2://me:{}@127.0.0.1:9/mlflow"},
        "generate models:/p@champion --rows 5",
    ),
    (
        {"AWS_ENDPOINT_URL": "http://me:{}@127.0.0.1:9", "GENPIPE_STORE_SECONDS": "3"},
        "ingest s3://lake/people.csv",
    ),
    ({"RAY_ADDRESS": "ray://me:{}@127.0.0.1:9"}, "ingest PEOPLE --workers 1"),
    ({"PREFECT_API_URL": "http://me:{}@127.0.0.1:9/api"}, "run SPEC"),
    (
        {
            "MLFLOW_TRACKING_URI": "http://me:{}@127.0.0.1:9",
            "RAY_ADDRESS": "ray://me:{}@127.0.0.1:9",
            "PREFECT_API_URL": "http://me:{}@127.0.0.1:9/api",
        },
        "doctor",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("told", "words"), AWAY, ids=lambda v: v if isinstance(v, str) else ", ".join(v))
def test_a_planted_password_of_a_server_that_is_away_is_in_no_file(
    told: dict[str, str], words: str, home: Path, tmp_path: Path, people: str
) -> None:
    """Terminal, log, error, databases: all that the real command says and leaves."""
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"name": "people", "source": {"path": people, "target": "sex"}}))
    named = {"PEOPLE": people, "SPEC": str(spec)}
    environment = os.environ | {"GENPIPE_HOME": str(home), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    environment |= {"AWS_ACCESS_KEY_ID": "k" * 8, "AWS_SECRET_ACCESS_KEY": SECRET}
    environment |= {name: value.format(PASSWORD) for name, value in told.items()}
    command = [sys.executable, "-m", "genpipe.cli", *(named.get(word, word) for word in words.split())]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=280, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert not leaks(done.stdout + done.stderr)
    assert not [name for name, data in kept(tmp_path).items() if leaks(data)]
