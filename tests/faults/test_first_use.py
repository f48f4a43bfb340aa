"""The first use of a home: killed at any moment, begun by several at once, or found half made."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from genpipe.errors import InfrastructureError
from genpipe.registry.database import settle_database
from genpipe.registry.tracking import client

ROOT = Path(__file__).parent.parent.parent
# says when the making begins, and what is there when it is done
FIRST = """
import sys
import mlflow
from genpipe.registry.tracking import EXPERIMENT, client, experiment_id
print("begun", flush=True)
print(experiment_id(client(), EXPERIMENT), flush=True)
"""


def begin(home: Path) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "GENPIPE"))}
    env |= {"GENPIPE_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FIRST]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed_and_tried_again(home: Path, seconds: float) -> None:
    """A first command, killed so long after it began; the next one must find or make a whole registry."""
    first = begin(home)
    assert first.stdout is not None and first.stdout.readline() == "begun\n"
    time.sleep(seconds)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    again = begin(home)
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0 and out.split() == ["begun", "1"], (seconds, err[-2000:])
    assert not list(home.glob("*.making*"))


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [0.5])
def test_a_first_command_that_is_killed_ruins_nothing(tmp_path: Path, seconds: float) -> None:
    killed_and_tried_again(tmp_path / "home", seconds)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_many_first_commands_killed_at_random(tmp_path: Path) -> None:
    rng = random.Random(3)
    for k in range(30):
        killed_and_tried_again(tmp_path / f"home{k}", rng.uniform(0, 4))


@pytest.mark.faults
def test_three_first_commands_at_once(tmp_path: Path) -> None:
    started = [begin(tmp_path / "home") for _ in range(3)]
    for each in started:
        out, err = each.communicate(timeout=240)
        assert each.returncode == 0 and out.split() == ["begun", "1"], err[-2000:]


OLD_RUN = """
INSERT INTO runs
(run_uuid, experiment_id, status, user_id, start_time, end_time, lifecycle_stage, artifact_uri)
VALUES ('r', 7, 'FINISHED', 'me', 1, 2, 'active', 'old')
"""


def half_made(path: Path, *, with_run: bool = False) -> None:
    """As MLflow itself leaves it, killed in the middle of its steps; from an older version if with a run."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config = _get_alembic_config(f"sqlite:///{path}")
        config.attributes["connection"] = connection
        command.upgrade(config, "0a8213491aaa")  # a step near the beginning
    engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'old', 'active')"
        )
        if with_run:
            database.execute(OLD_RUN)
        else:
            database.execute("CREATE TABLE _alembic_tmp_experiments (x)")
        database.commit()


def test_a_half_made_database_that_holds_nothing_is_made_again(home: Path) -> None:
    home.mkdir(exist_ok=True)
    half_made(home / "mlflow.db")
    assert client().get_experiment_by_name("old") is None
    assert len(list(home.glob("mlflow.db.before-*"))) == 1, "what was there is kept"


def test_a_database_of_an_older_mlflow_is_upgraded_and_a_copy_kept(home: Path) -> None:
    home.mkdir(exist_ok=True)
    half_made(home / "mlflow.db", with_run=True)
    before = (home / "mlflow.db").read_bytes()
    to = client()
    assert to.get_run("r").info.status == "FINISHED"
    found = to.get_experiment_by_name("old")
    assert found is not None and found.experiment_id == "7"
    (kept,) = home.glob("mlflow.db.before-*")
    with closing(sqlite3.connect(kept)) as copy:
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == ("0a8213491aaa",)
    assert len(kept.read_bytes()) == len(before)


@pytest.mark.slow
def test_what_cannot_be_upgraded_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    half_made(path, with_run=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'of-the-future'")
        database.commit()
    before = path.read_bytes()
    with pytest.raises(InfrastructureError, match=r"tables of another MLflow \(of-the-future\) .* a copy is"):
        settle_database(path)
    with pytest.raises(InfrastructureError, match="a copy is"):
        settle_database(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.glob("mlflow.db.before-*"))) == 1, "another try keeps no other copy"


def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(InfrastructureError, match="a file that is no database"):
        settle_database(path)
    assert path.read_bytes() == b"something else" * 1000
    assert not list(tmp_path.glob("mlflow.db.before-*"))
