"""Silence: Ray, Prefect and MLflow write to file descriptors 1 and 2, from this process and from children.

`quiet` points both at a log file and hands out consoles on the real ones: results on stdout, progress on
stderr. What Python writes into the log passes through `shown_lines` on its way: MLflow prints the URI of its
server, and Ray what its workers said.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from genpipe.redaction import guard_logs, shown, shown_error, shown_lines
from genpipe.settings import make_folder

if TYPE_CHECKING:
    from rich.console import Console


class _Shown(io.TextIOWrapper):
    """Text for a file descriptor that stays open, without secrets and control characters."""

    def __init__(self, fd: int) -> None:
        raw = open(fd, "wb", buffering=0, closefd=False)  # noqa: SIM115 - lives as long as this stream
        super().__init__(raw, "utf-8", errors="backslashreplace", write_through=True)

    def write(self, text: str) -> int:
        super().write(shown_lines(text))
        return len(text)


@contextmanager
def quiet(log: Path) -> Iterator[tuple[Console, Console]]:
    """(results, progress) consoles, while everything else written to stdout or stderr goes to `log`."""
    make_folder(log.parent)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    files = [os.fdopen(os.dup(fd), "w", buffering=1, errors="backslashreplace") for fd in saved]
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Shown(1), _Shown(2)
    guard_logs()
    try:
        yield console(files[0]), console(files[1])
    finally:
        sys.stdout, sys.stderr = streams
        for number, old in zip((1, 2), saved, strict=True):
            os.dup2(old, number)
            os.close(old)
        for file in files:
            file.close()


def console(file: TextIO | None = None) -> Console:
    """A rich console that takes text as it is: brackets in a name are no markup, and :smile: no picture."""
    from rich.console import Console

    return Console(file=file, highlight=False, markup=False, emoji=False)


def write_traceback(log: Path, error: BaseException) -> None:
    """Append an error with all that led to it; what libraries say in it may hold secrets."""
    make_folder(log.parent)
    with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(shown_error(error))


def log_file(title: str) -> Path:
    """A log file of this command's own, in $GENPIPE_HOME/logs."""
    from genpipe.settings import make_folder, read_settings

    stamp = time.strftime("%Y%m%d-%H%M%S")
    logs = make_folder(read_settings().logs)
    return logs / f"{title.split()[0]}-{stamp}-{os.getpid()}.log"


def last_log(*, since: float, error: BaseException) -> Path:
    """The log that holds this error's traceback: the one this process wrote, else a new one."""
    from genpipe.settings import read_settings

    logs = read_settings().logs
    mine = [p for p in logs.glob(f"*-{os.getpid()}.log") if p.stat().st_mtime >= since - 1]
    if mine:
        return max(mine, key=lambda p: p.stat().st_mtime)
    log = log_file("error")
    write_traceback(log, error)
    return log


def shorten(path: str | Path) -> str:
    """A path as a person would type it: relative to here where it lies below."""
    text = str(path).removeprefix("file://")
    try:
        return shown(Path(text).relative_to(Path.cwd()) if "://" not in text else text)
    except ValueError:
        return shown(text)
