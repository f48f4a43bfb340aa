"""Requests meant to stop a served model, sent to a real `mlflow models serve` and to `load_model`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ports import free_ports
from test_registry_entries import tables_of

import genpipe
from genpipe.bundle import Bundle
from genpipe.registry import publish
from genpipe.registry.tracking import client

ROOT = Path(genpipe.__file__).parent.parent
EMPTY: dict[str, Any] = {"dataframe_split": {"columns": [], "data": []}}
MANY = 100_000  # rows allowed by default
SLOWEST = 10.0  # seconds for two rows on a machine that does other things too


@dataclass
class Scoring:
    """A running scoring server."""

    port: int
    process: subprocess.Popen
    private: tuple[str, ...]

    def send(self, body: Any, kind: str = "application/json", timeout: float = 60) -> Any:
        """The connection, after the request and before its reply."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        to = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        to.request("POST", "/invocations", raw, {"Content-Type": kind})
        return to

    def ask(self, body: Any, kind: str = "application/json", timeout: float = 60) -> tuple[int, Any]:
        """(status, reply)."""
        to = self.send(body, kind, timeout)
        try:
            reply = to.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            to.close()

    def _all(self) -> Iterator[Path]:
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                if os.getpgid(int(status.parent.name)) == self.process.pid:
                    yield status.parent
            except ProcessLookupError:
                continue

    def cpu(self) -> float:
        """Seconds its processes have worked."""
        fields = [(p / "stat").read_text().rsplit(")", 1)[1].split() for p in self._all()]
        return sum(int(f[11]) + int(f[12]) for f in fields) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """MiB its processes hold."""
        lines = [line for p in self._all() for line in (p / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@pytest.fixture(scope="module")
def serving_home(tmp_path_factory: pytest.TempPathFactory, table_bundle: str) -> Iterator[Path]:
    """A home whose registry holds the model `toy`."""
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder))
        for name in ("GENPIPE_STORE", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        told = {"metrics": {"fidelity": 0.5}, "holdout": "h"}
        publish(table_bundle, name="toy", terms={"allow": "impute"}, **told)
        publish(table_bundle, name="closed", **told)
        yield folder


def start(model: str, home: Path, folder: Path, **environment: str) -> Iterator[Scoring]:
    port = free_ports(1)[0]
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", model]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    told = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        **environment,
    }
    with open(folder / "serve.log", "wb") as log:
        process = subprocess.Popen(
            command, env=told, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    packages = str(Path(np.__file__).parent.parent)
    scoring = Scoring(port, process, (str(ROOT), str(home), str(folder), packages, "Traceback"))
    try:
        end = time.monotonic() + 120
        while True:
            try:
                assert scoring.ask({**EMPTY, "params": {"rows": 1}})[0] == 200
                break
            except OSError:
                assert time.monotonic() < end and process.poll() is None, (folder / "serve.log").read_text()
                time.sleep(0.2)
        yield scoring
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def server(serving_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoring]:
    yield from start("models:/toy@champion", serving_home, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def loaded(serving_home: Path) -> Any:
    import mlflow

    client()  # sets the tracking URI
    return mlflow.pyfunc.load_model("models:/toy@champion")


def params(**told: Any) -> dict[str, Any]:
    return {**EMPTY, "params": told}


def split(columns: list[Any], *rows: list[Any]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": list(rows)}}


# requests that `load_model(..).predict` is asked too: MLflow hands it all of them as they are
BOTH = [
    (params(rows=10**12), "1000000000000 rows; expected at most 100000 .GENPIPE_SERVE_MAX_ROWS"),
    (params(rows=MANY + 1), "expected at most 100000"),
    (params(rows=0), "rows: 0; expected a whole number from 1"),
    (params(rows=-5), "rows: -5; expected a whole number from 1"),
    (params(seed=-1), "seed: -1; expected a whole number from 0"),
    (params(seed=2**63), "seed: 9223372036854775808; expected a whole number from 0"),
    (params(conditions="Ulm"), "expected JSON such as"),
    (params(conditions="[" * 60_000), "expected JSON such as"),
    (params(conditions="x" * 10**6), "1000000 characters; expected text of at most 65536"),
    (params(conditions='{"citty": "Ulm"}'), "unknown column 'citty'.*did you mean 'city'"),
    (params(conditions='{"sex": "x"}'), "'x'; expected one of f, m"),
    (params(conditions='{"city": "Paris"}'), "0 of 163840 generated rows .* have city = 'Paris'"),
    (split(["sxe"], ["m"]), "unknown column 'sxe'.*did you mean 'sex'"),
    (split(["sex", "sex"], ["m", "f"]), "column 'sex' twice"),
    (split(["sex"], ["x"]), "'x'; expected one of f, m"),
    (split(["sex"], *[["m"]] * (MANY + 1)), "100001 rows; expected at most 100000"),
    (split(["city"], ["Ulm"]), "'city', which this generator cannot be given beforehand.*tabular_any_order"),
    (split(["age", "city"], [30, "Ulm"]), "'city', which this generator cannot be given beforehand"),
    (split(["age"], [10**6]), "age: 1000000; expected"),
    (split(["age"], ["old"]), "'old'; expected a whole number"),
    (split(["x" * 3_000_000], [1]), "unknown column 'x{80}'"),
    ({**split(["sex"], ["m"]), "params": {"conditions": '{"sex": "f"}'}}, "a column of the frame too"),
]  # fmt: skip
# those that MLflow itself would answer, or put right in silence
HTTP = [
    (params(rows=True), 400, "rows: True; expected a whole number"),
    (params(rows=2.5), 400, "rows: 2.5; expected a whole number"),
    (params(rows="3"), 400, "rows: '3'; expected a whole number"),
    (params(rows=None), 400, "rows: None; expected a whole number"),
    (params(rows=10**4000), 400, "far too many digits"),
    (params(row=3), 400, "unknown parameter 'row'; expected one of .*; did you mean 'rows'"),
    (params(conditions={"city": "Ulm"}), 400, "conditions: a dict; expected text"),
    ({**EMPTY, "parms": {"rows": 3}}, 400, "unknown key 'parms'.*did you mean 'params'"),
    ({**EMPTY, "params": [3]}, 400, "params: a list; expected an object"),
    ({"messages": ["hello"]}, 400, "unknown key 'messages'"),
    ({"params": {"rows": 3}}, 400, "neither; expected one of dataframe_split and dataframe_records"),
    (split(["sex"], ["m", "f"]), 400, "rows of as many values as there are columns: 1"),
    (split(["sex"], [["m"]]), 400, "a number, a boolean or text"),
    (split([1], [1]), 400, "a column's name: .* expected text"),
    ({"dataframe_records": [{f"a{i}": 1} for i in range(50_000)]}, 400, "unknown column 'a0'"),
    ([1, 2], 400, "a list; expected an object"),
    (b"{" * 3_000_000, 400, "line 1 column 2"),
    (b"[" * 4_000_000, 400, "nested too deep"),
    (b"\xff\xfe\xff", 400, "decode"),
    (b"x" * 10_000_000, 413, "at most 4194304 .GENPIPE_SERVE_MAX_BYTES"),
]  # fmt: skip


def test_each_request_is_refused_with_its_reason_and_nothing_else(server: Scoring) -> None:
    for body, status, reason in [*((body, 400, reason) for body, reason in BOTH), *HTTP]:
        got, reply = server.ask(body)
        assert got == status, (str(body)[:100], reply)
        assert set(reply) == {"error_code", "message"} and reply["message"].startswith("[E-")
        assert len(reply["message"]) <= 1000 and not [p for p in server.private if p in reply["message"]]
        with pytest.raises(AssertionError, match=f"(?s){reason}"):
            raise AssertionError(reply["message"])
    parquet = pd.DataFrame({"sex": ["m"]}).to_parquet()  # a small one may unfold to any size
    for data, kind in ((parquet, "application/vnd.apache.parquet"), (b"sex\nm\n", "text/csv"), (b"", "")):
        assert server.ask(data, kind)[0] == 415
    assert len(server.ask(params(rows=2))[1]["predictions"]) == 2


def test_load_model_gives_the_same_errors(loaded: Any) -> None:
    from mlflow.exceptions import MlflowException

    for body, reason in BOTH:
        frame = pd.DataFrame(body["dataframe_split"]["data"], columns=body["dataframe_split"]["columns"])
        with pytest.raises(MlflowException, match=f"(?s){reason}") as caught:
            loaded.predict(frame, params=body.get("params"))
        assert caught.value.get_http_status_code() == 400 and len(caught.value.message) <= 1000


def test_limits_come_from_the_environment_when_asked(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = pd.DataFrame()
    for name, value, wrong in (("ROWS", "5", "6 rows; expected at most 5"), ("CELLS", "20", "24 cells")):
        with monkeypatch.context() as patch:
            patch.setenv(f"GENPIPE_SERVE_MAX_{name}", value)
            assert len(loaded.predict(nothing, params={"rows": 5})) == 5
            with pytest.raises(Exception, match=wrong):
                loaded.predict(nothing, params={"rows": 6})
            for bad in ("-1", "0", "many", "9" * 30, "1e9"):
                patch.setenv(f"GENPIPE_SERVE_MAX_{name}", bad)
                with pytest.raises(Exception, match=f"GENPIPE_SERVE_MAX_{name}: .*at least 1"):
                    loaded.predict(nothing, params={"rows": 5})


def test_a_frame_is_followed_column_by_column(server: Scoring, loaded: Any, table_bundle: str) -> None:
    asked = [["m", 30], ["f", 41], [None, 52], ["m", None]]
    rows = server.ask({**split(["sex", "age"], *asked), "params": {"seed": 3}})[1]["predictions"]
    for (sex, age), row in zip(asked, rows, strict=True):
        assert set(row) == {"age", "height", "city", "sex"}
        assert sex in (None, row["sex"]) and age in (None, row["age"])
    frame = pd.DataFrame(asked, columns=["sex", "age"], index=list("dbca"))
    again = loaded.predict(frame, params={"seed": 3})
    assert list(again.index) == list("dbca") and again.age.tolist() == [row["age"] for row in rows]
    told = loaded.predict(pd.DataFrame({"sex": ["m", "f"] * 20_000}))
    assert told.sex.tolist() == ["m", "f"] * 20_000 and told.age.nunique() > 20
    plain = loaded.predict(pd.DataFrame(), params={"rows": 7, "seed": 2})
    assert plain.equals(Bundle.open(table_bundle).sample(7, seed=2).to_pandas())


def test_rows_given_in_part_are_for_models_published_so(serving_home: Path) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    closed = mlflow.pyfunc.load_model("models:/closed@champion")
    with pytest.raises(
        MlflowException, match=r"E-NOTALLOWED.*'age': rows to impute.*among sex.*--allow impute"
    ):
        closed.predict(pd.DataFrame({"sex": ["m"], "age": [30]}))
    assert closed.predict(pd.DataFrame({"sex": ["m", "f"]})).sex.tolist() == ["m", "f"]
    assert len(closed.predict(pd.DataFrame(), params={"rows": 3})) == 3


def test_eight_large_requests_do_not_stop_a_small_one_and_end_with_their_clients(server: Scoring) -> None:
    large = [server.send(params(rows=MANY, seed=seed)) for seed in range(8)]
    for _ in range(3):
        began = time.monotonic()
        assert len(server.ask(params(rows=2))[1]["predictions"]) == 2
        assert time.monotonic() - began < SLOWEST
    for to in large:
        to.close()
    end = time.monotonic() + 30
    while True:  # what two of them had begun ends with the block or the reply they were at
        before = server.cpu()
        time.sleep(0.5)
        if server.cpu() - before < 0.1:
            break
        assert time.monotonic() < end, "works on for clients that have gone"


def test_more_than_can_wait_are_refused_at_once(server: Scoring) -> None:
    outcome: list[int] = []

    def ask(seed: int) -> None:
        to = server.send(params(rows=MANY, seed=seed))
        to.sock.settimeout(2)
        try:
            outcome.append(to.getresponse().status)
        except TimeoutError:
            pass
        finally:
            to.close()

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcome.count(503) >= 10 and set(outcome) <= {200, 503}
    assert server.ask(params(rows=2))[0] == 200


TABLES = [
    (params(rows=10**12), "1000000000000 rows; expected at most 100000"),
    (params(rows=0), "rows: 0; expected a whole number from 1"),
    (params(seed=-1), "seed: -1; expected a whole number from 0"),
    (params(table="peple"), "unknown table 'peple'.*did you mean 'people'"),
    (params(table="x" * 60_000), "unknown table 'x{80}'"),
    (split(["sex"], ["m"]), "column 'sex'; .*related tables take no conditions"),
]


@pytest.fixture(scope="module")
def tables(serving_home: Path, table_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registered set of one table."""
    where = tables_of(table_bundle, tmp_path_factory.mktemp("tables"))
    code = ROOT / "genpipe" / "related" / "pyfunc_tables.py"
    return str(publish(where, name="tables", metrics={"fidelity": 0.5}, holdout="h", code=code))


def test_related_tables_have_limits_too(tables: str) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    model = mlflow.pyfunc.load_model(tables)
    for body, reason in TABLES:
        frame = pd.DataFrame(body["dataframe_split"]["data"], columns=body["dataframe_split"]["columns"])
        with pytest.raises(MlflowException, match=f"(?s){reason}") as caught:
            model.predict(frame, params=body.get("params"))
        assert caught.value.get_http_status_code() == 400 and len(caught.value.message) <= 1000
    seen: dict[int, Any] = {}  # two at once get the rows each has asked for

    def ask(rows: int) -> None:
        seen[rows] = len(model.predict(pd.DataFrame(), params={"rows": rows}))

    threads = [threading.Thread(target=ask, args=(rows,)) for rows in (20, 30, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {20: 20, 30: 30, 40: 40}


@pytest.mark.slow
def test_served_tables_refuse_and_answer(tables: str, serving_home: Path, tmp_path: Path) -> None:
    for server in start(tables, serving_home, tmp_path):
        for body, reason in TABLES:
            status, reply = server.ask(body)
            assert status == 400 and not [p for p in server.private if p in reply["message"]]
            with pytest.raises(AssertionError, match=f"(?s){reason}"):
                raise AssertionError(reply["message"])
        assert len(server.ask(params(rows=2))[1]["predictions"]) == 2


@pytest.mark.slow
def test_eight_at_the_limit_stay_within_memory(server: Scoring) -> None:
    """Two are at work at a time: 512 MiB for them, whatever the others ask."""
    before, peak, done = server.memory(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], server.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    large = [server.send(params(rows=MANY, seed=seed), timeout=300) for seed in range(8)]
    answers = [to.getresponse() for to in large]
    assert sorted({a.status for a in answers}) in ([200], [200, 504])  # those that waited too long
    for answer in answers:
        answer.read()
    done.set()
    watcher.join()
    assert peak[0] < before + 512, (before, peak)


@pytest.mark.slow
def test_work_ends_with_mlflows_own_timeout(serving_home: Path, tmp_path: Path) -> None:
    limits = {"GENPIPE_SERVE_MAX_ROWS": "1" + "0" * 12, "GENPIPE_SERVE_MAX_CELLS": "1" + "0" * 13}
    wait = {"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "3"}
    for server in start("models:/toy/1", serving_home, tmp_path, **limits, **wait):
        to = server.send(params(rows=10**12))
        assert to.getresponse().status == 504
        time.sleep(3)
        before = server.cpu()
        time.sleep(1)
        assert server.cpu() - before < 0.2
        to.close()
