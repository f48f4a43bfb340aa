"""The verbs around a user's own rows: impute, score."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from genpipe.cli.app import Name, Options, Seed, app
from genpipe.cli.output import echo, pairs, say, staged

Model = Annotated[str, typer.Argument(help="models:/name@champion, models:/name/3, or a bundle's URI.")]
Rows = Annotated[str, typer.Argument(help="CSV, JSON Lines or Parquet: a file, folder, glob or s3://.")]
Output = Annotated[str | None, typer.Option(help="Folder or s3:// prefix; by default in the store.")]
TAKEN = ("model", "source", "rows", "output", "seed", "name", "progress")  # what -o may not say again


@app.command()
def impute(
    model: Model,
    rows: Rows,
    output: Output = None,
    seed: Seed = 0,
    name: Name = None,
    option: Options = None,
) -> None:
    """Fill what is missing in a table, so that it fits the rest of its row. Absent columns are made, too.

    \b
    genpipe train people --recipe tabular_any_order --name people
    genpipe impute <model> people-with-gaps.csv
    """

    def work(progress: Any) -> Any:
        from genpipe.stages.rows.verb import impute

        return impute(
            model, rows, output=output, seed=seed, name=name, progress=progress, **pairs(option, taken=TAKEN)
        )

    made = staged("impute", work)
    say(dataset=made.uri, rows=made.rows("generated"))


@app.command()
def score(model: Model, rows: Rows, output: Output = None, name: Name = None, option: Options = None) -> None:
    """Say how likely a table generator finds each row, and which column surprises it most.

    \b
    genpipe score models:/people@champion new-people.csv
    """

    def work(progress: Any) -> Any:
        from genpipe.stages.rows.verb import score

        return score(model, rows, output=output, name=name, progress=progress, **pairs(option, taken=TAKEN))

    made = staged("score", work)
    table = made.table("generated")
    say(dataset=made.uri, rows=table.num_rows)
    odd = table.to_pandas().nsmallest(5, "log_probability")
    echo("\nthe most unusual rows\n" + odd.to_string(index=False, float_format="{:.4g}".format))
