"""The home is its user's alone, whatever the umask; what is delivered elsewhere keeps the umask."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_dataset import small_dataset

from genpipe.errors import InfrastructureError, UsageError
from genpipe.private import SOCKET_PATH, Scratch
from genpipe.settings import make_folder, read_settings

NOBODY = 65534


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(folder: Path) -> dict[str, str]:
    paths = [folder, *folder.rglob("*")]
    return {str(p): oct(mode(p)) for p in paths if not p.is_symlink() and mode(p) & 0o077}


def test_all_that_is_written_into_a_home_is_the_users_alone(home: Path, umask: int) -> None:
    import sqlite3

    from genpipe.console import log_file, quiet

    small_dataset(str(home / "store" / "datasets" / "people"))
    with quiet(log_file("test")):
        print("a line for the log")
    database = sqlite3.connect(home / "mlflow.db")  # as MLflow and Prefect do, with files beside it
    database.execute("pragma journal_mode=wal")
    database.execute("create table runs (row)")
    database.commit()
    assert {"mlflow.db", "mlflow.db-wal", "mlflow.db-shm"} <= {p.name for p in home.iterdir()}
    # and as a child does, whose umask is what it likes
    child = (
        "import os, sys; os.umask(0); os.makedirs(sys.argv[1] + '/a/b'); open(sys.argv[1] + '/a/b/c', 'w')"
    )
    subprocess.run([sys.executable, "-c", child, str(home / "mlartifacts")], check=True)
    assert len(list(home.rglob("*"))) > 10 and open_to_others(home) == {}
    database.close()


def test_every_stage_keeps_to_it(home: Path, tmp_path: Path) -> None:
    from genpipe.verbs import generate, register, train

    before = os.umask(0)
    try:
        dataset = small_dataset(str(home / "store" / "datasets" / "people"))
        recipe = {"base": "tabular_vae", "training": {"steps": 10, "evaluate_every": 10}}
        model = train(dataset, recipe=recipe)
        register(model)
        generate(model.uri, rows=50, workers=0)
        os.umask(0o027)
        delivered = generate(model.uri, rows=50, workers=0, output=str(tmp_path / "for-colleagues"))
    finally:
        os.umask(before)
    assert (home / "mlflow.db").exists() and open_to_others(home) == {}
    outside = Path(delivered.uri)
    assert {mode(p) for p in outside.rglob("*") if p.is_file()} == {0o640}
    assert {mode(p) for p in outside.rglob("*") if p.is_dir()} == {0o750}


def test_a_home_of_an_earlier_version_is_closed(home: Path) -> None:
    (home / "store").mkdir(parents=True)
    (home / "store" / "rows.parquet").write_bytes(b"rows")
    home.chmod(0o755)
    read_settings()
    assert mode(home) == 0o700
    store_file = home / "store" / "rows.parquet"
    if os.geteuid() == 0:
        assert _as_nobody(store_file) != 0
    assert store_file.read_bytes() == b"rows"


def _as_nobody(path: Path) -> int:
    command = ["/bin/cat", str(path)]
    return subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True).returncode


def refusal(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GENPIPE_HOME", str(home))
    for refused in (read_settings, lambda: make_folder(home / "logs")):
        with pytest.raises(UsageError) as caught:
            refused()
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    return str(caught.value)


def test_a_home_that_others_share_or_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a folder that holds more than" in refusal(Path(tempfile.gettempdir()), monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "a folder that holds more than" in refusal(tmp_path, monkeypatch)


def test_a_home_that_is_a_link_to_where_others_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "home").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "open" / "home")
    monkeypatch.setenv("GENPIPE_HOME", str(tmp_path / "link"))
    read_settings()  # a link within one's own folders is anybody's right
    (tmp_path / "open").chmod(0o777)
    assert "a link to" in refusal(tmp_path / "link", monkeypatch)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    assert "a folder of user " in refusal(theirs, monkeypatch)
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "own")
    os.lchown(tmp_path / "link", NOBODY, NOBODY)
    assert "a link made by user " in refusal(tmp_path / "link", monkeypatch)


def test_a_scratch_folder_is_closed_short_and_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = tmp_path / "t"
    short.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    live = Scratch("trial")
    assert mode(live.path) == 0o700 and live.path.parent == short
    killed = Scratch("trial")
    fcntl.flock(killed._lock, fcntl.LOCK_UN)  # as the kernel does for a dead process
    for scratch in (live, killed):
        (scratch.path / "r" / "sockets").mkdir(parents=True)
        os.utime(scratch.path, (time.time() - 60,) * 2)
    (short / "genpipe-trial-link").symlink_to(live.path)
    Scratch("trial").remove()
    assert live.path.exists() and not killed.path.exists()
    live.remove()
    assert not live.path.exists()
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    elsewhere = Scratch("trial", room=60)
    assert len(str(elsewhere.path)) + 60 <= SOCKET_PATH
    elsewhere.remove()


def test_a_temporary_folder_in_which_others_move_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "open"))
    used = Scratch("trial")
    assert used.path.parent == Path("/tmp")  # has the sticky bit
    used.remove()
    monkeypatch.setattr("genpipe.private._open_to_all", lambda folder: True)
    with pytest.raises(
        InfrastructureError, match="a temporary folder in which other users may move your files"
    ):
        Scratch("trial")
