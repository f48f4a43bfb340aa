"""What the verbs share: a screen around the work, facts printed, names and recipes read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from genpipe.redaction import shown, shown_lines


def staged(title: str, work: Callable[[Any], Any], *, plan: tuple[str, ...] = ()) -> Any:
    """Run `work(progress)` behind a quiet screen."""
    from genpipe.console import Screen, log_file, quiet, write_traceback

    log = log_file(title)
    with (
        quiet(log) as (_, err),
        Screen(err, title=f"genpipe {title}", log=log, plan=plan or (title,)) as screen,
    ):
        try:
            return work(screen)
        except BaseException as error:
            write_traceback(log, error)
            raise


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print what may hold names and values of others: what a terminal would obey is made visible."""
    typer.echo(shown_lines(text), err=err, nl=nl)


def warn(text: str) -> None:
    """One loud line, below all others and on stderr, of what somebody must know who uses this."""
    if text:
        echo(f"genpipe: WARNING {text}", err=True)


def say(**facts: Any) -> None:
    width = max(map(len, facts))
    for key, value in facts.items():
        if value not in ("", None):
            echo(f"{key:<{width}}  {f'{value:.4g}' if isinstance(value, float) else shown(value)}")


def scores(report: Any) -> None:
    rows = [
        ("score", "value", "worthless", "real data"),
        *(tuple(map(shown, row[:4])) for row in report.table()),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def recipe_of(value: str | None) -> Any:
    if value and value.endswith((".yaml", ".yml", ".json")):
        from genpipe.pipeline.reading import read_spec

        return read_spec(Path(value))[0]
    return value
