"""Whether the Ray that was joined is still there: two listening sockets stand for its head and its node."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from genpipe.errors import InfrastructureError
from genpipe.stages.watch import Watch, wait_for_door

PATIENCE = 0.3


@pytest.fixture
def doors() -> Iterator[dict[str, socket.socket]]:
    made = {name: socket.create_server(("127.0.0.1", 0)) for name in ("head", "node")}
    yield made
    for listener in made.values():
        listener.close()


def watch_over(doors: dict[str, socket.socket]) -> Watch:
    where = {name: listener.getsockname() for name, listener in doors.items()}
    return Watch(where, patience=PATIENCE, where="RAY_ADDRESS=x", fix="do that")


@pytest.mark.parametrize("gone", ["head", "node"])
def test_what_no_longer_answers_is_named_after_some_patience(
    gone: str, doors: dict[str, socket.socket]
) -> None:
    watch = watch_over(doors)
    try:
        time.sleep(2 * PATIENCE)
        watch.check()
        watch.settle()
        doors[gone].close()
        assert not watch.knock()
        watch.check()  # not yet: it may come back
        time.sleep(2 * PATIENCE)
        words = rf"RAY_ADDRESS=x: {gone} \(127\.0\.0\.1:\d+\) is gone.*do that"
        with pytest.raises(InfrastructureError, match=words) as caught:
            watch.check()
        assert (caught.value.code, caught.value.exit_code) == ("RAYLOST", 4)
        with pytest.raises(InfrastructureError, match="is gone"):
            watch.settle()
    finally:
        watch.end()


def test_a_door_is_waited_for_and_no_longer_than_said(doors: dict[str, socket.socket]) -> None:
    door = doors["head"].getsockname()
    assert wait_for_door(door, 5)
    doors["head"].close()
    began = time.monotonic()
    assert not wait_for_door(door, 0.3)
    assert 0.25 < time.monotonic() - began < 3
