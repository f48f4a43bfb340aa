"""doctor: what is not as it should be is said, with what to do, and the other lines are said all the same."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import genpipe
from genpipe import remote, store
from genpipe.cli import execute
from genpipe.registry.tracking import client
from genpipe.stages import doctor as stage
from genpipe.stages.doctor import Finding


@pytest.fixture
def look(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Finding]]:
    """Some of the looks, by their name; Ray's takes seconds."""

    def some(*names: str) -> dict[str, Finding]:
        monkeypatch.setattr(stage, "LOOKS", tuple(getattr(stage, f"_{name}") for name in names))
        return {found.name: found for found in genpipe.doctor()}

    return some


def test_all_is_well(home: Path, ray_cluster: dict[str, float], capfd: pytest.CaptureFixture[str]) -> None:
    client()  # an embedded registry to look at
    code = execute(["doctor"])
    out, err = capfd.readouterr()
    assert code == 0, out + err
    told = {line[5:].split("  ")[0]: line[:3] for line in out.splitlines()}
    assert set(told.values()) == {"ok "}
    assert told.keys() >= {
        "python", "packages", "home", "disk of the home", "memory", "store", "clock", "mlflow", "prefect",
        "mlflow.db", "ray", "ray versions", "gpu",
    }  # fmt: skip
    assert not list((home / "store").iterdir()), "it leaves nothing behind"


def test_on_s3_and_a_store_that_makes_a_name_twice(
    look: Any, s3_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENPIPE_STORE", s3_store)
    found = look("store")
    assert found["store"].ok and found["clock"].ok, found
    assert not store.listing(s3_store)

    class Ignores(remote.Remote):  # as some stores do with If-None-Match
        def pipe_file(self, path: str, data: bytes, mode: str = "") -> Any:
            return self._inner.pipe_file(path, data)

    monkeypatch.setattr(store, "s3", lambda *a: Ignores(remote.s3(*a)._inner))
    found = look("store")
    assert not found["store"].ok and "makes a name twice" in found["store"].found
    assert "If-None-Match" in found["store"].fix


def test_a_store_of_another_time_or_without_a_key(
    look: Any, s3_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENPIPE_STORE", s3_store)
    real = store.listing
    monkeypatch.setattr(store, "listing", lambda uri: {k: v - 700 for k, v in real(uri).items()})
    found = look("store")["clock"]
    assert not found.ok and found.found.startswith(("699 s", "700 s", "701 s")) and "clock" in found.fix
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    remote.s3.cache_clear()
    found = look("store", "versions")
    assert not found["store"].ok and "the keys" in found["store"].fix and found["python"].ok
    remote.s3.cache_clear()


def test_servers_that_are_away_and_a_damaged_database(
    look: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client()
    Path(home, "mlflow.db").write_bytes(Path(home, "mlflow.db").read_bytes()[:4096] + b"x" * 4096)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREFECT_API_URL", f"http://me:password@127.0.0.1:{taken.getsockname()[1]}/api")
        found = look("prefect", "databases")
    assert not found["prefect"].ok and "PREFECT_API_URL is right" in found["prefect"].fix
    assert "password" not in found["prefect"].found
    assert not found["mlflow.db"].ok and "begin anew" in found["mlflow.db"].fix


def test_what_is_short_or_of_another_version(
    look: Any, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "DISK_BYTES", 2**60)
    monkeypatch.setattr(stage, "MEMORY_BYTES", 2**60)
    monkeypatch.setattr(stage, "version", lambda name: "0.1")
    monkeypatch.setenv("GENPIPE_DEVICE", "cuda")
    looks = ("versions", "home", "memory", "gpu")
    found = look(*looks)
    wrong = {name for name, each in found.items() if not each.ok}
    assert wrong >= {"packages", "disk of the home", "disk of the store", "memory"}
    assert "prefect 0.1, wanted ==3.8.8" in found["packages"].found and found["packages"].fix == "make setup"
    monkeypatch.setattr(stage, "LOOKS", tuple(getattr(stage, f"_{name}") for name in looks))
    assert execute(["doctor"]) == 4
    out, err = capfd.readouterr()
    assert "BAD  memory" in out and "-> end other work" in out and "[E-DOCTOR] packages, disk of" in err


def test_a_look_that_breaks_is_a_finding(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def _broken(_: Any) -> Any:
        raise RuntimeError("at https://me:secret-word@host\nmore")

    monkeypatch.setattr(stage, "_broken", _broken, raising=False)
    found = look("broken", "versions")
    assert not found["broken"].ok and found["broken"].found == "RuntimeError: at https://***@host"
    assert found["python"].ok
