"""Silence: Ray, Prefect and MLflow write to file descriptors 1 and 2, from this process and from children.

`quiet` points both at a log file and hands out consoles on the real ones: results on stdout, progress on
stderr.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def quiet(log: Path) -> Iterator[tuple[Console, Console]]:
    """(results, progress) consoles, while everything else written to stdout or stderr goes to `log`."""
    from rich.console import Console

    from genpipe.settings import make_folder

    make_folder(log.parent)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
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


def log_file(title: str) -> Path:
    """A log file of this command's own, in $GENPIPE_HOME/logs."""
    from genpipe.settings import read_settings

    stamp = time.strftime("%Y%m%d-%H%M%S")
    return read_settings().logs / f"{title.split()[0]}-{stamp}-{os.getpid()}.log"


def last_log(*, since: float, error: BaseException) -> Path:
    """The log that holds this error's traceback: the one this process wrote, else a new one."""
    from genpipe.settings import make_folder, read_settings

    logs = read_settings().logs
    mine = [p for p in logs.glob(f"*-{os.getpid()}.log") if p.stat().st_mtime >= since - 1]
    if mine:
        return max(mine, key=lambda p: p.stat().st_mtime)
    log = log_file("error")
    make_folder(log.parent)
    log.write_text("".join(traceback.format_exception(error)))
    return log


def shorten(path: str | Path) -> str:
    """A path as a person would type it: relative to here where it lies below."""
    text = str(path).removeprefix("file://")
    try:
        return str(Path(text).relative_to(Path.cwd())) if "://" not in text else text
    except ValueError:
        return text
