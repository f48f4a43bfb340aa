"""The Typer application."""

from __future__ import annotations

import typer

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
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
      genpipe evaluate <model>
      genpipe register <model> --name people
      genpipe generate models:/people@champion --rows 10000
    \b
    Or all of it from one file:
      genpipe validate people.yaml && genpipe run people.yaml
    \b
    Every command reuses what is already done and resumes what was interrupted.
    Exit codes: 0 done, 2 usage, 3 bad data, 4 infrastructure, 5 privacy, 6 conflict, 7 quality,
    130 interrupted.
    """,
)
