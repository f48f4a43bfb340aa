"""One stage as the screen knows it: counts, rate, time left, last metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from genpipe.progress import Event

FIRST_METRICS = ("fidelity", "loss")


@dataclass
class Row:
    """One stage as the screen knows it."""

    group: str
    stage: str
    began: float | None = None
    ended: float | None = None
    failed: bool = False
    event: Event = field(default_factory=lambda: Event(""))
    first: tuple[float, float] | None = None
    shown: float = field(default=0.0)

    def update(self, event: Event, now: float) -> None:
        self.began = self.began or now
        complete = event.total is not None and event.done == event.total
        if not event.unit and complete:  # the end of the stage; its last counts stay
            self.ended = now
            self.event = replace(self.event, note=event.note or self.event.note)
            return
        if self.first is None or event.done < self.first[1]:
            self.first = (now, event.done)
        merged = {**self.event.metrics, **event.metrics}
        note = "" if event.note.endswith("/s") else event.note  # the screen has a rate of its own
        self.event = replace(event, unit=event.unit or self.event.unit, metrics=merged, note=note)

    @property
    def rate(self) -> float | None:
        if self.first is None or self.began is None:
            return None
        seconds = (self.ended or time.monotonic()) - self.first[0]
        done = self.event.done - self.first[1]
        return done / seconds if done > 0 and seconds > 0.2 else None

    @property
    def left(self) -> float | None:
        if self.ended or not self.rate or self.event.total is None:
            return None
        return max(0.0, (self.event.total - self.event.done) / self.rate)

    @property
    def seconds(self) -> float:
        return ((self.ended or time.monotonic()) - self.began) if self.began else 0.0

    def counts(self) -> str:
        if not self.event.unit or self.event.total is None:
            return ""
        return f"{self.event.done:,.0f}/{self.event.total:,.0f} {self.event.unit}"

    def numbers(self) -> str:
        known = [n for n in FIRST_METRICS if n in self.event.metrics]
        names = known or [n for n in self.event.metrics if not n.endswith(("/s", "gradient"))]
        return "  ".join(f"{n} {self.event.metrics[n]:.3g}" for n in names[:2])


def clock(seconds: float | None) -> str:
    whole = int(seconds or 0)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02}"
    )
