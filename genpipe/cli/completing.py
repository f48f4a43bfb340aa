"""The verbs around a user's own rows: impute, likelihood."""

from __future__ import annotations

from typing import Any

from genpipe.cli.app import app
from genpipe.cli.models import delivered, perform
from genpipe.cli.options import asked, options
from genpipe.cli.output import echo, say
from genpipe.requests import Impute, Likelihood


@app.command()
@options(Impute)
def impute(model: str, source: str, **given: Any) -> None:
    """Fill what is missing in a table, so that it fits the rest of its row. Absent columns are made, too.

    \b
    genpipe train people --recipe tabular_any_order --name people
    genpipe impute people people-with-gaps.csv
    """
    made = perform(asked(Impute, {"model": model, "source": source, **given}))
    delivered(made, given["output"])


@app.command()
@options(Likelihood)
def likelihood(model: str, source: str, **given: Any) -> None:
    """Say how likely a table generator finds each row, and which column surprises it most.

    \b
    genpipe likelihood models:/people@champion new-people.csv
    """
    made = perform(asked(Likelihood, {"model": model, "source": source, **given}))
    table = made.table("generated")
    say(dataset=made.uri, rows=table.num_rows)
    odd = table.to_pandas().nsmallest(5, "log_probability")
    echo("\nthe most unusual rows\n" + odd.to_string(index=False, float_format="{:.4g}".format))
