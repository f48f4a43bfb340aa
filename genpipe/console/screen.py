"""One quiet live screen of stages, or plain lines now and then where there is no terminal."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genpipe.console.quiet import shorten
from genpipe.console.row import Row, clock
from genpipe.progress import Event, Progress, silent
from genpipe.redaction import shown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PLAIN_SECONDS = 5.0


class Screen:
    """A listener for `progress=`: a live table on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, *, title: str, log: Path, plan: tuple[str, ...] = ()) -> None:
        self.console, self.title, self.log = console, title, log
        self.began = time.monotonic()
        self.plan = plan
        self.rows: dict[str, Row] = {}
        for key in plan:
            self._row(key)
        self.live: Any = None

    def _row(self, key: str) -> Row:
        group, _, stage = key.rpartition("/")
        return self.rows.setdefault(key, Row(group, stage))

    def __call__(self, event: Event) -> None:
        event = replace(event, stage=shown(event.stage), unit=shown(event.unit), note=shown(event.note))
        if self.plan and event.stage not in self.plan:
            return self._inside(event)
        row, now = self._row(event.stage), time.monotonic()
        started = row.began is None
        row.update(event, now)
        if self.live is None and (started or row.ended or now - row.shown > PLAIN_SECONDS):
            row.shown = now
            self.console.print(self._plain(row), markup=False, soft_wrap=True)

    def _inside(self, event: Event) -> None:
        """A stage within a stage (`prepare` in `train`) is a note of the one that runs."""
        running = next((r for r in self.rows.values() if r.began and not r.ended), None)
        if running:
            _, _, stage = event.stage.rpartition("/")
            done = f"{event.done:,.0f}/{event.total:,.0f} {event.unit}" if event.total and event.unit else ""
            running.event = replace(running.event, note=f"{stage} {done} {event.note}".strip())

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

        table = Table.grid(padding=(0, 1), expand=True)
        for width in (1, 8, 12, 18, 6, 10):
            table.add_column(width=width, min_width=width, no_wrap=True)
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
                    width=12,
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
