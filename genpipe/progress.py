"""How long work tells a person where it stands: plain events handed to a plain function.

Stages take `progress: Progress` and call it; the command line draws a screen from it, flows turn it
into Prefect artifacts, a notebook may pass `print`. Nobody below knows who listens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Event:
    """One step forward: `done` of `total` `unit`s of `stage`, with the last metrics and a short note."""

    stage: str
    done: float = 0
    total: float | None = None
    unit: str = ""
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    note: str = ""


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """The default listener."""


def throttled(progress: Progress, *, seconds: float = 0.2) -> Progress:
    """Pass on at most one event of a stage per `seconds`, and always the one that completes it."""
    last: dict[str, float] = {}

    def emit(event: Event) -> None:
        now = time.monotonic()
        if event.total == event.done or now - last.get(event.stage, 0.0) >= seconds:
            last[event.stage] = now
            progress(event)

    return emit
