"""The command line: every verb of the library, for people.

Nothing heavy is imported before a verb needs it. Results go to stdout, progress to stderr, everything Ray,
Prefect and MLflow say to a log file. Exit codes are those of genpipe.errors; 130 and 143 mean interrupted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import typer
from typer.exceptions import Abort, TyperException

from genpipe.errors import LONGEST_PART, GenpipeError
from genpipe.redaction import shown, shown_lines

__all__ = ["execute", "main"]


def main() -> None:
    """The console script: run a verb, turn what goes wrong into one line and an exit code."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str]) -> int:
    began = time.time()
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, lambda *_: _raise(Terminated()))
    try:
        from genpipe.cli.verbs import app

        if arguments[:1] == ["help"]:  # as of git
            arguments = [*arguments[1:2], "--help"]
        code = app(args=arguments, prog_name="genpipe", standalone_mode=False)
        # Typer answers Ctrl-C with this code
        return _interrupted() if code == 130 else int(code or 0)
    except GenpipeError as error:
        from genpipe.cli.mistyped import as_typed

        told = as_typed(error, arguments[0] if arguments else "")
        return _fail(f"[E-{told.code}] {told}", told.exit_code)
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
            return 0
        from genpipe.cli.mistyped import usage_error

        wrong = usage_error(error, arguments)
        return _fail(f"[E-{wrong.code}] {wrong}", wrong.exit_code)
    except (KeyboardInterrupt, Abort):
        return _interrupted()
    except Terminated:
        return _fail("terminated; resumable: run the same command again", 143)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        from genpipe.console import last_log, shorten

        log = last_log(since=began, error=error)
        first = shown(str(error).partition("\n")[0], LONGEST_PART)
        fix = f"this is a defect of genpipe; the traceback is in {shorten(log)}"
        return _fail(f"[E-INTERNAL] {type(error).__name__}: {first}; {fix}", 1)


class Terminated(BaseException):
    """SIGTERM, as an exception, so that everything is put away on the way out."""


def _raise(error: BaseException) -> None:
    raise error


def _interrupted() -> int:
    return _fail("interrupted; resumable: run the same command again", 130)


def _fail(text: str, code: int) -> int:
    typer.echo(f"genpipe: error {shown_lines(text)}", err=True)
    return code
