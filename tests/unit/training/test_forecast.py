"""A long training says in its first seconds what it takes; a short one says nothing of it."""

from __future__ import annotations

import pytest

from genpipe.progress import Event
from genpipe.stages.train import process
from genpipe.training.loop import Status


def notes(monkeypatch: pytest.MonkeyPatch, *, seconds: float, steps: int) -> dict[int, str]:
    """What is said after each of 40 steps of so many seconds, by the second at which it is said."""
    now, told = [0.0], list[Event]()
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    report = process._Clock(None).reporter(True, told.append, None)
    for step in range(1, 41):
        now[0] += seconds
        report(Status(step, steps, {}))
    return {int(event.done): event.note for event in told}


def test_a_long_run_tells_its_minutes_and_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    said = notes(monkeypatch, seconds=1.0, steps=600)
    assert said[2] == "1 steps/s"
    assert said[3].startswith("takes about 10 min and ") and "GB of memory" in said[3]
    assert said[40] == "1 steps/s"
    assert not any("takes about 0" in note for note in said.values())


def test_a_short_run_says_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("takes" in note for note in notes(monkeypatch, seconds=1.0, steps=60).values())
