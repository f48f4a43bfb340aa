"""Names of an earlier version, hidden: train-tables, generate-tables, score. They go with the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genpipe.cli.app import app
from genpipe.cli.completing import likelihood
from genpipe.cli.models import generate, train
from genpipe.cli.output import echo


def renamed(old: str, new: str, command: Callable[..., Any]) -> None:
    """`old` does what `new` does, and says that it is called so now."""

    def earlier(**given: Any) -> None:
        echo(f"genpipe: {old} is now called {new}; the old name goes with the next version", err=True)
        command(**given)

    earlier.__doc__ = f"The earlier name of {new}."
    earlier.__signature__ = command.__signature__  # type: ignore[attr-defined]
    app.command(old, hidden=True)(earlier)


renamed("train-tables", "train", train)
renamed("generate-tables", "generate", generate)
renamed("score", "likelihood", likelihood)
