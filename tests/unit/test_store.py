"""The store: a conditional create that one of many wins, on disk and on a real S3 server."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from genpipe import remote, store
from genpipe.errors import ConflictError, InfrastructureError, UsageError


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "disk" else request.getfixturevalue("s3_store")


def test_objects_come_back_whole(root: str) -> None:
    where = store.join(root, "a", "b.bin")
    assert (store.exists(where), store.size(where), store.occupied(root)) == (False, None, False)
    with pytest.raises(FileNotFoundError):
        store.read_bytes(where)
    data = bytes(range(256)) * 1000
    store.write_bytes(where, data)
    assert (store.exists(where), store.size(where), store.occupied(root)) == (True, len(data), True)
    assert store.read_bytes(where) == data
    store.remove(root)
    assert not store.exists(where)


def test_create_makes_once_agrees_with_itself_and_refuses_others(root: str) -> None:
    where = store.join(root, "manifest.json")
    assert store.create(where, b"one") is True
    assert store.create(where, b"one") is False
    with pytest.raises(ConflictError, match=r"manifest.json: another result under this name") as caught:
        store.create(where, b"two")
    assert caught.value.exit_code == 6
    assert store.read_bytes(where) == b"one"


def test_of_many_creators_exactly_one_wins(root: str) -> None:
    for number in range(5):
        where, outcome = store.join(root, f"race-{number}"), {}
        barrier = threading.Barrier(8)

        def create(
            who: int, where: str = where, outcome: dict = outcome, barrier: threading.Barrier = barrier
        ) -> None:
            barrier.wait()
            try:
                outcome[who] = store.create(where, str(who).encode())
            except ConflictError:
                outcome[who] = None

        threads = [threading.Thread(target=create, args=(who,)) for who in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [who for who, made in outcome.items() if made]
        assert len(outcome) == 8 and len(winners) == 1
        assert store.read_bytes(where) == str(winners[0]).encode()
    if "://" not in root:
        assert sorted(p.name for p in Path(root).iterdir()) == [
            f"race-{n}" for n in range(5)
        ]  # no scratch left


def test_a_key_that_may_only_read_is_one_clear_line(s3_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_bytes(f"{s3_store}/x", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    assert store.read_bytes(f"{s3_store}/x") == b"1"
    for call in (store.write_bytes, store.create):
        with pytest.raises(InfrastructureError, match=r"/y: .*exists and may be written") as caught:
            call(f"{s3_store}/y", b"1")
        assert (caught.value.exit_code, "\n" in str(caught.value)) == (4, False)


def test_wrong_keys_are_one_clear_line(s3_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    with pytest.raises(InfrastructureError, match=r"the keys") as caught:
        store.write_bytes(f"{s3_store}/x", b"1")
    assert "test-secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_given_up(s3_address: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**s3_address, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "MAX_ATTEMPTS", 2)
    remote.s3.cache_clear()
    began = time.monotonic()
    with pytest.raises(InfrastructureError, match=r"Could not connect to the endpoint.*AWS_ENDPOINT_URL"):
        store.exists("s3://lake/x")
    assert time.monotonic() - began < 20


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for call in (store.create, store.write_bytes):
        with pytest.raises(UsageError, match=r"file: a file; expected a folder"):
            call(str(tmp_path / "file" / "x"), b"1")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("uri", ["ftp://host/x", "gs://bucket/x", "http://host/x"])
def test_other_schemes_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match=r"expected a local path or s3://bucket/prefix"):
        store.exists(uri)


def test_equal_values_have_equal_digests() -> None:
    assert store.digest({"b": 1, "a": [1, 2]}) == store.digest({"a": [1, 2], "b": 1})
    assert store.digest({"a": 1}) != store.digest({"a": "1"})
    assert len(store.digest(b"x")) == 20


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("People 2024", "people-2024"), ("latest", "data-latest"), ("", "data"), ("///", "data"),
        ("É.csv", "é.csv"), ("a" * 80, "a" * 63),
    ],
)  # fmt: skip
def test_a_refused_name_comes_with_one_that_is_allowed(text: str, name: str) -> None:
    assert store.check_name(store.plain_name(text)) == name
    with pytest.raises(UsageError, match=f"for example '{name}'"):
        store.check_name(text)


def test_a_large_object_is_given_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENPIPE_STORE_SECONDS", raising=False)
    given: dict[str, float] = {}

    class Told:
        def info(self, path: str, timeout: float) -> dict[str, int]:
            return {"size": 300 * 2**20}

        def cat_file(self, path: str, timeout: float, **where: int) -> bytes:
            given["read" if where else "read whole"] = timeout
            return b""

        def pipe_file(self, path: str, data: bytes, timeout: float) -> None:
            given["written"] = timeout

    told = remote.Remote(Told())
    told.cat_file("lake/x")
    told.cat_file("lake/x", start=0, end=2 * 2**20)
    told.pipe_file("lake/x", bytes(4 * 2**20))
    assert given == {"read whole": 420.0, "read": 122.0, "written": 124.0}
