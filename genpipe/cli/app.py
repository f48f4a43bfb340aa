"""The Typer application."""

from __future__ import annotations

from typing import Annotated

import typer

from genpipe.version import __version__

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="""Learn from data you may not share, deliver data you may.

    \b
    First time here?
      genpipe demo                          watch the whole road, on data that ships with the packages
    \b
    Your own table, step by step:
      genpipe ingest people.csv --target income
      genpipe train people
      genpipe evaluate people
      genpipe register people
      genpipe generate people --rows 10000 --output people-made
    \b
    Or all of it from one file:
      genpipe validate people.yaml && genpipe run people.yaml
    \b
    Every command reuses what is already done and resumes what was interrupted. All of it is kept in
    $GENPIPE_HOME, by default .genpipe in this folder or one above it; `genpipe list` shows what is there.
    `genpipe --install-completion` has your shell complete verbs, options, datasets, models and recipes.
    Exit codes: 0 done, 2 usage, 3 bad data, 4 infrastructure, 5 privacy, 6 conflict, 7 quality,
    130 interrupted.
    """,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None: ...
