"""A real PostgreSQL server of the test session, from the binaries of Debian's package `postgresql`."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_ports

PASSWORD = "correct-horse-battery"


class PostgresServer:
    """uri: of its database `postgres`; user and password stand in the environment, see `environment`."""

    def __init__(self, binaries: str, folder: Path) -> None:
        self.binaries, self.folder, self.port = binaries, folder, free_ports(1)[0]
        self.user = "postgres" if os.geteuid() == 0 else None  # the server refuses to be root

    @property
    def uri(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        (self.folder / "word").write_text(PASSWORD)
        if self.user:
            for path in (self.folder, self.folder / "word"):
                shutil.chown(path, self.user)
        data = self.folder / "data"
        self._run("initdb", "-D", data, "--auth=scram-sha-256", f"--pwfile={self.folder / 'word'}",
                  "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        settings = f"listen_addresses='127.0.0.1'\nport={self.port}\nunix_socket_directories=''\n"
        with open(data / "postgresql.conf", "a") as file:
            file.write(settings + "shared_buffers=32MB\nfsync=off\nmax_connections=20\n")
        self._run("pg_ctl", "-D", data, "-l", self.folder / "log", "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: object) -> None:
        command = [os.path.join(self.binaries, program), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, user=self.user, cwd="/")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    found = shutil.which("initdb") or next(
        iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))[::-1]), ""
    )
    if not found:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    if os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user `postgres`")
    folder = Path(tempfile.mkdtemp(prefix="genpipe-pg-"))
    folder.chmod(0o755)
    server = PostgresServer(os.path.dirname(os.path.realpath(found)), folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty database of this test's own; PGPASSWORD is set."""
    import adbc_driver_postgresql.dbapi as dbapi

    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    name = f"test_{uuid.uuid4().hex[:12]}"
    with dbapi.connect(postgres_server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"create database {name}")
    yield postgres_server.uri.removesuffix("/postgres") + f"/{name}"
