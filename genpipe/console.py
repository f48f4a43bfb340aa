"""What a person sees: one quiet live screen of stages, or plain lines where there is no terminal.

Ray, Prefect and MLflow write to file descriptors 1 and 2, from this process and from children. `quiet` points
both at a log file and hands out consoles on the real ones: results on stdout, progress on stderr.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genpipe.progress import Event, Progress, silent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PLAIN_SECONDS = 5.0
FIRST_METRICS = ("fidelity", "loss")


@contextmanager
def quiet(log: Path) -> Iterator[tuple[Console, Console]]:
    """(results, progress) consoles, while everything else written to stdout or stderr goes to `log`."""
    from rich.console import Console

    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    files = [os.fdopen(os.dup(fd), "w", buffering=1) for fd in saved]
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield Console(file=files[0], highlight=False), Console(file=files[1], highlight=False)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), saved, strict=True):
            os.dup2(old, number)
            os.close(old)
        for file in files:
            file.close()


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
            self.event = Event(
                self.stage, self.event.done, self.event.total, self.event.unit, self.event.metrics, event.note
            )
            return
        if self.first is None or event.done < self.first[1]:
            self.first = (now, event.done)
        merged = {**self.event.metrics, **event.metrics}
        self.event = Event(
            event.stage, event.done, event.total, event.unit or self.event.unit, merged, event.note
        )

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


class Screen:
    """A listener for `progress=`: a live table on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, *, title: str, log: Path, plan: tuple[str, ...] = ()) -> None:
        self.console, self.title, self.log = console, title, log
        self.began = time.monotonic()
        self.rows: dict[str, Row] = {}
        for key in plan:
            self._row(key)
        self.live: Any = None

    def _row(self, key: str) -> Row:
        group, _, stage = key.rpartition("/")
        return self.rows.setdefault(key, Row(group, stage))

    def __call__(self, event: Event) -> None:
        row, now = self._row(event.stage), time.monotonic()
        started = row.began is None
        row.update(event, now)
        if self.live is None and (started or row.ended or now - row.shown > PLAIN_SECONDS):
            row.shown = now
            self.console.print(self._plain(row), markup=False, soft_wrap=True)

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _nobody, ()  # Ray Tune pickles whoever listens to it; a terminal does not travel

    def __enter__(self) -> Screen:
        if self.console.is_terminal and not os.environ.get("CI"):
            from rich.live import Live

            self.live = Live(
                get_renderable=self.render,
                console=self.console,
                refresh_per_second=5,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.live.start()
        else:
            self.console.print(f"{self.title}; log: {shorten(self.log)}", markup=False, soft_wrap=True)
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        for row in self.rows.values():
            if kind is not None and row.began and not row.ended:
                row.failed, row.ended = True, time.monotonic()
        if self.live is not None:
            self.live.stop()

    def _plain(self, row: Row) -> str:
        state = "done" if row.ended else "..."
        left = f"{clock(row.left)} left" if row.left is not None else ""
        rate = f"{row.rate:,.0f}/s" if row.rate and not row.ended else ""
        parts = [
            f"[{clock(time.monotonic() - self.began)}]",
            f"{row.group} {row.stage}".strip(),
            state,
            row.counts(),
            rate,
            left,
        ]
        parts += [row.numbers(), row.event.note, f"({row.seconds:.1f} s)" if row.ended else ""]
        return "  ".join(p for p in parts if p)

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text

        parts: list[RenderableType] = [
            Text.assemble((self.title, "bold"), (f"   {clock(time.monotonic() - self.began)}", "dim"))
        ]
        for group in dict.fromkeys(r.group for r in self.rows.values()):
            if group:
                parts.append(Text(f" {group}", style="bold cyan"))
            parts.append(
                Padding(self._table([r for r in self.rows.values() if r.group == group]), (0, 0, 0, 1))
            )
        parts.append(
            Text(f" log  {shorten(self.log)}    Ctrl-C stops; the same command resumes", style="dim")
        )
        return Group(*parts)

    def _table(self, rows: list[Row]) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        for width in (1, 9, 16, 18, 9, 10):
            table.add_column(width=width, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for row in rows:
            running = row.began is not None and row.ended is None
            mark: RenderableType = (
                Text("✗", "bold red")
                if row.failed
                else Text("✓", "green")
                if row.ended
                else Spinner("dots", style="cyan")
                if running
                else Text("·", "dim")
            )
            bar: RenderableType = Text("")
            if row.began:
                total = row.event.total or (1 if row.ended else None)
                bar = ProgressBar(
                    total=total,
                    completed=total if row.ended and not row.failed and total else row.event.done,
                    width=16,
                    pulse=running and total is None,
                )
            rate = f"{row.rate:,.0f}/s" if row.rate and row.rate >= 1 and running else ""
            when = (
                f"{row.seconds:.1f} s"
                if row.ended
                else f"{clock(row.left)} left"
                if row.left is not None
                else clock(row.seconds)
                if running
                else ""
            )
            text = Text(
                "  ".join(t for t in (row.numbers(), row.event.note) if t), style="dim" if row.ended else ""
            )
            table.add_row(
                mark,
                Text(row.stage, "bold" if running else "" if row.began else "dim"),
                bar,
                Text(row.counts(), "dim"),
                Text(rate, "dim"),
                Text(when, "dim"),
                text,
            )
        return table


def _nobody() -> Progress:
    return silent


def clock(seconds: float | None) -> str:
    whole = int(seconds or 0)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02}"
    )


def shorten(path: str | Path) -> str:
    """A path as a person would type it: relative to here where it lies below."""
    text = str(path).removeprefix("file://")
    try:
        return str(Path(text).relative_to(Path.cwd())) if "://" not in text else text
    except ValueError:
        return text


def log_file(title: str) -> Path:
    """A log file of this command's own, in $GENPIPE_HOME/logs."""
    from genpipe.settings import read_settings

    stamp = time.strftime("%Y%m%d-%H%M%S")
    return read_settings().logs / f"{title.split()[0]}-{stamp}-{os.getpid()}.log"


def last_log(*, since: float, error: BaseException) -> Path:
    """The log that holds this error's traceback: the one this process wrote, else a new one."""
    from genpipe.settings import read_settings

    logs = read_settings().logs
    mine = [p for p in logs.glob(f"*-{os.getpid()}.log") if p.stat().st_mtime >= since - 1]
    if mine:
        return max(mine, key=lambda p: p.stat().st_mtime)
    log = log_file("error")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(traceback.format_exception(error)))
    return log
