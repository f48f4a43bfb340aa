"""The embedded registry's database: made whole beside its place, then put there, by one process at a time.

MLflow makes and upgrades its tables in some fifty steps. A process that is killed between two of them leaves
a database that MLflow refuses for ever, and of several first commands at once all but one may fail. So none
of these steps is made in place. `<database>.whole` names the version of MLflow that found it whole; where
that is another, or where the file is not there, the database is looked at.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

from genpipe.errors import InfrastructureError

HOLDS = ("runs", "registered_models", "logged_models")  # tables with a row where a database holds anything
WAIT_SECONDS = 300.0  # for another process that makes it


def settle_database(path: Path) -> None:
    """See that a whole database of the installed MLflow is there: make, upgrade or replace it if need be.

    One that an earlier MLflow made is upgraded, and a copy of what it was stays beside it. One that a killed
    process left half made is put aside, and made again where it holds nothing. Raises InfrastructureError.
    """
    if is_settled(path):
        return
    with _alone(path):
        if is_settled(path):  # another process made it while this one waited
            return
        fresh = _make(path)
        if not path.exists() or not path.stat().st_size:
            os.replace(fresh, path)
        elif _revision(path) != _revision(fresh):
            _replace(path, fresh)
        fresh.unlink(missing_ok=True)
        _write(_marker(path), version("mlflow"))


def is_settled(path: Path) -> bool:
    """Whether the installed MLflow has seen it whole."""
    marker = _marker(path)
    return path.exists() and marker.exists() and marker.read_text() == version("mlflow")


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.whole")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process makes this database."""
    end = time.monotonic() + WAIT_SECONDS
    with open(path.with_name(f"{path.name}.lock"), "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end:
                    raise InfrastructureError(
                        "DATABASE",
                        where=str(path),
                        found=f"another process that has been making it for {WAIT_SECONDS:.0f} s",
                        fix="see what that process waits for (fuser, lsof), or end it",
                    ) from None
                time.sleep(0.1)
        yield


def _make(database: Path) -> Path:
    """A new, whole and empty database beside one, durable."""
    from mlflow import MlflowClient

    for left in database.parent.glob(f"{database.name}.making-*"):  # of a killed process; this one is alone
        left.unlink()
    # MLflow makes no tables again under a name it has opened before in this process
    path = database.with_name(f"{database.name}.making-{uuid.uuid4().hex[:8]}")
    uri = f"sqlite:///{path}"
    to = MlflowClient(tracking_uri=uri, registry_uri=uri)
    to.search_experiments(max_results=1)
    to.search_registered_models(max_results=1)
    _sync(path)
    return path


def _replace(path: Path, fresh: Path) -> None:
    """Put another in the place of a database of other tables: itself upgraded, or the fresh one if empty."""
    changed = time.strftime("%Y%m%dT%H%M%S", time.localtime(path.stat().st_mtime))
    kept = path.with_name(f"{path.name}.before-{version('mlflow')}-{changed}")
    if not kept.exists():  # else a try before this one has kept it
        _copy(path, kept)
    if not _holds_anything(path):
        os.replace(fresh, path)
        return
    work = path.with_name(f"{path.name}.upgrading")
    _copy(path, work)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{work}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or _revision(work) != _revision(fresh):
        told = (done.stderr.strip().splitlines() or ["it ended in another state"])[-1][:200]
        raise InfrastructureError(
            "DATABASE",
            where=str(path),
            found=f"tables of another MLflow ({_revision(path) or 'none'}) that cannot be upgraded: {told}",
            expected=f"those of MLflow {version('mlflow')}",
            fix=f"install the MLflow that made it, or move the file away; a copy is {kept.name}",
        )
    _sync(work)
    os.replace(work, path)


def _revision(path: Path) -> str:
    """The state of the tables, as MLflow names it; empty where there is none."""
    with closing(sqlite3.connect(path)) as database:
        try:
            return ",".join(row[0] for row in database.execute("SELECT version_num FROM alembic_version"))
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):  # it is in use, and says nothing of its tables
                raise
            return ""


def _holds_anything(path: Path) -> bool:
    """Whether there is a run or a model in it; a file that is no database might hold anything."""
    with closing(sqlite3.connect(path)) as database:
        try:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            named, row = {name for (name,) in tables}, "SELECT EXISTS (SELECT 1 FROM {})"
            return any(database.execute(row.format(t)).fetchone()[0] for t in HOLDS if t in named)
        except sqlite3.DatabaseError:
            return True


def _copy(path: Path, target: Path) -> None:
    """A consistent copy, also of a database that is in use; whole or not at all."""
    beside = target.with_name(f"{target.name}.new")
    beside.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(beside)) as copy:
            source.backup(copy)
    except sqlite3.DatabaseError as error:
        beside.unlink(missing_ok=True)
        raise InfrastructureError(
            "DATABASE",
            where=str(path),
            found=f"a file that is no database ({error})",
            fix="move it away to begin anew, or put a copy of the database in its place",
        ) from None
    _sync(beside)
    os.replace(beside, target)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text)
    os.replace(beside, path)
