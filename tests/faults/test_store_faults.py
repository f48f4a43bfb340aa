"""A real S3 server behind a wire that hangs, trickles, cuts or resets: a clear error, in time, no harm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_wire import Wire

import genpipe
from genpipe import store
from genpipe.errors import InfrastructureError, UsageError

FAULTS = ("hangs", "trickles", "cut", "reset")
SECONDS = 1.5
LINES = "name,age\n" + "".join(f"n{k % 7},{k % 90}\n" for k in range(4000))


@pytest.fixture
def wire(s3: Any, s3_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    with Wire(int(s3.environment["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{wire.port}")
        yield wire


def in_time(work: Any, match: str = r"s3://.*AWS_ENDPOINT_URL and the keys") -> InfrastructureError:
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InfrastructureError, match=match) as caught:
        patch.setenv("GENPIPE_STORE_SECONDS", str(SECONDS))  # what is well may take longer on a busy machine
        work()
    assert time.monotonic() - began < 4 * SECONDS + 10
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)
    return caught.value


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS)
def test_reading_ends_in_time_and_works_afterwards(fault: str, wire: Wire, s3_store: str) -> None:
    uri = f"{s3_store}/object"
    store.write_bytes(uri, bytes(100_000))
    wire.fault = fault
    in_time(lambda: store.read_bytes(uri))
    wire.fault = "none"
    assert store.read_bytes(uri) == bytes(100_000)


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["hangs", "trickles", "reset"])
def test_a_commit_ends_in_time_and_can_be_made_again(fault: str, wire: Wire, s3_store: str) -> None:
    uri = f"{s3_store}/manifest.json"
    assert not store.exists(uri)
    wire.fault = fault
    in_time(lambda: store.create(uri, b"{}"))
    wire.fault = "none"
    store.create(uri, b"{}")  # the first may have arrived without its answer
    assert store.read_bytes(uri) == b"{}"


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_that_does_not_come_whole_is_infrastructure(
    fault: str, wire: Wire, s3_store: str, home: Path
) -> None:
    """The flow tries it again, and it is nobody's fault in the data."""
    uri = f"{s3_store}/people.csv"
    store.write_bytes(uri, LINES.encode())
    wire.fault = fault
    in_time(lambda: genpipe.ingest(uri, name="people"))
    wire.fault = "none"
    assert genpipe.ingest(uri, name="people").rows() == 4000


def test_a_deadline_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, s3_store: str) -> None:
    monkeypatch.setenv("GENPIPE_STORE_SECONDS", "soon")
    with pytest.raises(UsageError, match=r"GENPIPE_STORE_SECONDS: 'soon'; expected seconds"):
        store.exists(f"{s3_store}/x")
