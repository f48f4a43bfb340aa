"""MLflow with its authentication on: who may read one model reads that one, and nothing of another team's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from ports import free_ports

from genpipe import store
from genpipe.errors import GenpipeError, InfrastructureError
from genpipe.registry import publish, resolve, tracking
from genpipe.registry.tracking import client
from genpipe.stages import doctor as doctor_stage
from genpipe.upkeep_verbs import doctor
from genpipe.verbs import generate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
ADMIN, PASSWORD = "admin", "correct-horse-battery"
CONFIG = """
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{folder}/auth.db
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
"""


@dataclass(frozen=True)
class Server:
    """A server that knows its users; `admin` may give rights."""

    uri: str
    admin: Any

    @contextmanager
    def as_user(self, name: str, home: Path, password: str = PASSWORD) -> Iterator[None]:
        """With a home of that user's own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            patch.setenv("MLFLOW_TRACKING_USERNAME", name)
            patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
            patch.setenv("GENPIPE_HOME", str(home / name))
            yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("flask_wtf", reason="MLflow's basic-auth app asks for it: the extra `server`")
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "auth.ini").write_text(CONFIG.format(folder=folder))
    (port,) = free_ports(1)
    told = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-this-test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--app-name", "basic-auth", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "_MLFLOW"))} | told
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # it starts uvicorn by name
    with open(folder / "log", "wb") as log:
        child = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert child.poll() is None and time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.3)
        uri = f"http://127.0.0.1:{port}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
            patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
            from mlflow.server.auth.client import AuthServiceClient

            admin = AuthServiceClient(uri)
            for user in ("team-a", "team-b", "reader"):
                admin.create_user(user, PASSWORD)
        yield Server(uri, admin)
    finally:
        os.killpg(child.pid, 9)
        child.wait()


def registered(bundle: str, name: str, fidelity: float = 0.5) -> None:
    publish(bundle, name=name, metrics={"fidelity": fidelity}, holdout="toy")


def refused(work: Any) -> str:
    with pytest.raises(GenpipeError) as caught:
        work()
    return str(caught.value)


def test_read_on_one_model_and_its_experiment_is_enough_and_opens_nothing_else(
    server: Server, table_bundle: str, image_bundle: str, tmp_path: Path
) -> None:
    with server.as_user("team-a", tmp_path):
        registered(table_bundle, "people")
        registered(table_bundle, "secret-people")
        experiment = client().get_experiment_by_name("genpipe/people").experiment_id
        other = client().get_experiment_by_name("genpipe/secret-people").experiment_id
    with server.as_user("team-b", tmp_path):
        registered(image_bundle, "digits")
        assert "403" in refused(lambda: registered(image_bundle, "people"))
    with server.as_user("reader", tmp_path):
        told = refused(lambda: resolve("models:/people@champion"))
        assert "ask for rights on the registered model and on its experiment, genpipe/NAME" in told

    with server.as_user(ADMIN, tmp_path):  # the commands of docs/operations.md
        server.admin.grant_user_permission("reader", "registered_model", "people", "READ")
    with server.as_user("reader", tmp_path):
        assert "403" in refused(lambda: resolve("models:/people@champion")), "the files lie in the experiment"
    with server.as_user(ADMIN, tmp_path):
        server.admin.grant_user_permission("reader", "experiment", experiment, "READ")

    with server.as_user("reader", tmp_path):
        found = resolve("models:/people@champion")
        assert store.exists(f"{found.uri}/manifest.json")
        assert generate("models:/people@champion", rows=20, workers=0).rows() == 20
        for name in ("secret-people", "digits"):
            assert "403" in refused(lambda name=name: resolve(f"models:/{name}@champion"))
        to = client()
        assert {e.name for e in to.search_experiments()} == {"genpipe/people"}
        assert {m.name for m in to.search_registered_models()} == {"people"}
        assert not to.search_runs([other])
        assert "403" in refused(lambda: registered(table_bundle, "people", 0.9)), "READ publishes nothing"


def test_two_teams_publish_and_search_without_seeing_each_other(
    server: Server, table_bundle: str, tmp_path: Path
) -> None:
    trial = {"number": 0, "choices": {}, "state": "finished", "metrics": {"fidelity": 0.5}, "seconds": 1}
    for team in ("team-a", "team-b"):
        with server.as_user(team, tmp_path):
            tracking.log_trial(f"own-{team}", study_uri=f"studies/own-{team}-0", trial=trial)
            mine = {e.name for e in client().search_experiments()}
            assert f"genpipe-search/own-{team}" in mine
            assert not any("own-" in name and team not in name for name in mine)


def test_what_was_registered_in_the_common_experiment_still_opens(
    server: Server, table_bundle: str, image_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.as_user("team-a", tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr("genpipe.registry.models.experiment_of", lambda name: "genpipe")  # as before
            registered(table_bundle, "earlier", 0.5)
        assert client().get_experiment_by_name("genpipe/earlier") is None
        assert resolve("models:/earlier@champion").reference == "models:/earlier/1"
        registered(image_bundle, "earlier", 0.9)
        assert client().get_experiment_by_name("genpipe/earlier") is not None
        assert resolve("models:/earlier@champion").reference == "models:/earlier/2"
        assert resolve("models:/earlier/1").reference == "models:/earlier/1"


def test_who_is_not_known_is_told_what_to_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_stage, "LOOKS", (doctor_stage._mlflow,))
    with server.as_user("nobody", tmp_path):
        with pytest.raises(InfrastructureError, match="set MLFLOW_TRACKING_USERNAME and"):
            resolve("models:/people@champion")
        (found,) = doctor()
        assert not found.ok and found.fix.startswith("set MLFLOW_TRACKING_USERNAME and")
    with server.as_user("reader", tmp_path):
        assert all(found.ok for found in doctor())
