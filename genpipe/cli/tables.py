"""The verbs of related tables that are not those of a single one: train-tables, generate-tables."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from genpipe.cli.app import Seed, app
from genpipe.cli.output import pairs, say, staged, warn


@app.command()
def train_tables(
    spec: Annotated[str, typer.Argument(help="A spec of related tables (YAML), see examples/tables/.")],
    workers: Annotated[int, typer.Option(min=0, help="Ray Train workers; 0 trains in this process.")] = 0,
) -> None:
    """Learn tables tied by keys, or events of entities: one generator a table. Killed? Run it again.

    \b
    genpipe train-tables examples/tables/shop.yaml
    """

    def work(progress: Any) -> Any:
        from genpipe.related.train import train_tables as train

        return train(spec, workers=workers, progress=progress)

    model = staged("train-tables", work)
    fidelity = {f"fidelity of {n}": m["fidelity"] for n, m in model.metrics.items() if "fidelity" in m}
    say(model=model.uri, **fidelity)


def sizes(items: list[str] | None) -> Any:
    """A number of rows, or table=rows, each once: {table: rows}, with * for the tables that are not named."""
    found = pairs([item if "=" in item else f"*={item}" for item in items or []])
    return found or None if found.keys() != {"*"} else found["*"]


@app.command()
def generate_tables(
    model: Annotated[
        str, typer.Argument(help="The folder that train-tables printed, or models:/name@champion.")
    ],
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Rows without parents, or entities (default: as in the data); or table=rows."),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Folder or s3:// prefix; by default in the store.")
    ] = None,
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="0: this process, else Ray; by default as much work asks.")
    ] = None,
) -> None:
    """Generate related tables into Parquet: every foreign key is a generated row's key, exactly.

    \b
    genpipe generate-tables models:/shop@champion --rows 10000 --output delivered/shop
    genpipe generate-tables <model> --rows 10000 --rows products=500
    """
    wanted = sizes(rows)

    def work(progress: Any) -> Any:
        from genpipe.related.generate import generate_tables as generate

        return generate(model, rows=wanted, output=output, seed=seed, workers=workers, progress=progress)

    made = staged("generate-tables", work)
    say(tables=made.uri, **{name: f"{data.rows()} rows" for name, data in made.items()})
    warn(next(iter(made.values())).manifest.origin.get("check", ""))
