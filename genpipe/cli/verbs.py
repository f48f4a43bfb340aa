"""The verbs around data and whole pipelines; importing this module completes the application."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from genpipe.cli import completing, earlier, latent, models, upkeep
from genpipe.cli.app import app
from genpipe.cli.models import perform
from genpipe.cli.options import asked, options
from genpipe.cli.output import echo, say, staged
from genpipe.errors import ConflictError, UsageError
from genpipe.requests import Ingest, Run
from genpipe.version import __version__

LISTED = 20  # files that the screen names

__all__ = ["app", "completing", "earlier", "latent", "models", "upkeep"]


@app.command()
def validate(
    spec: Annotated[str, typer.Argument(help="A pipeline spec (YAML).")] = "",
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a spec, for editors.")
    ] = False,
) -> None:
    """Check a spec completely, before anything is spent: all problems at once, with line numbers.

    \b
    genpipe validate examples/people.yaml
    """
    from genpipe.pipeline import PipelineSpec
    from genpipe.related.spec import TablesSpec
    from genpipe.verbs import validate as check

    if schema:
        return echo(json.dumps(PipelineSpec.model_json_schema(by_alias=True), indent=1))
    if not spec:
        raise UsageError("USAGE", where="validate", found="no file", expected="genpipe validate SPEC.yaml")
    found = check(spec)
    rows = f", then generate {found.generate.rows:,} rows" if found.generate else ""
    if isinstance(found, TablesSpec):
        return echo(f"{spec}: valid: {found.name}, related tables {', '.join(found.tables)}{rows}")
    recipe = found.recipe.get("base", "changed") if isinstance(found.recipe, dict) else found.recipe
    how = f"search of {found.search.trials} trials" if found.search else f"recipe {recipe or 'by data kind'}"
    echo(f"{spec}: valid: {found.name} from {found.source.path}, {how}{rows}")


@app.command()
@options(Ingest)
def ingest(
    source: list[str],
    *,
    save_schema: Annotated[
        str | None, typer.Option(help="Write the schema here instead of printing it, to edit it.")
    ] = None,
    **given: Any,
) -> None:
    """Read raw data into an immutable, typed, fingerprinted dataset. The same input again does no work.

    What it took each column for, and why, is printed as a schema file that --schema obeys.

    \b
    genpipe ingest people.csv --target income
    genpipe ingest photos/ -o size=32
    genpipe ingest prices.csv --kind series --entity shop -o time=day -o window=24
    genpipe ingest plays/ --kind text -o record=lines
    genpipe ingest sounds/ -o rate=16000
    genpipe ingest 's3://lake/events/*.parquet' --name events --key user_id
    genpipe ingest people.csv -o where='age>=18' -o sample=10%
    zcat people.csv.gz | genpipe ingest - --name people

    What -o NAME=VALUE takes; docs/sources.md says what each does:

    \b
    tables    columns drop where sample sample_by names header skip comment delimiter
              decimal encoding nulls sheet relations; of a database table query
    series    time window stride step, and those of tables
    pictures  size height width fit channels levels max_pixels
    texts     record length field label encoding max_characters
    sounds    rate segment frames label max_seconds
    all       memory
    """
    if save_schema:
        _check_place(Path(save_schema))
    from genpipe.cli.standard_input import standard_input

    whole = " ".join(source)
    if len(source) > 1 and os.path.exists(whole) and not all(map(os.path.exists, source)):
        fix = f"genpipe ingest {shlex.quote(whole)}"
        raise UsageError(
            "QUOTE", where=whole, found="a name with spaces, unquoted", expected="quotes", fix=fix
        )
    with standard_input(source, given.get("name"), given.get("kind")) as found:
        dataset = perform(asked(Ingest, {"source": found, **given}))
    say(
        dataset=dataset.uri,
        fingerprint=dataset.fingerprint,
        kind=dataset.schema.kind,
        train=dataset.rows("train"),
        holdout=dataset.rows("holdout"),
    )
    _show_schema(dataset, save_schema)


def _show_schema(dataset: Any, path: str | None) -> None:
    """What was noticed, loudly, and the schema as a file to edit."""
    from genpipe.sources.schema_file import schema_to_yaml

    for notice in dataset.notices:
        typer.echo(f"note: {notice}", err=True)
    skipped = dataset.manifest.origin["rejects"]
    for reject in skipped[:LISTED]:
        typer.echo(f"note: left out: {reject['reason']}", err=True)
    if len(skipped) > LISTED:
        typer.echo(f"note: ... and {len(skipped) - LISTED} more, in {dataset.uri}/manifest.json", err=True)
    text = schema_to_yaml(dataset.schema, dataset.manifest.origin.get("offered", ()))
    if not path:
        return echo(f"\n{text}", nl=False)
    place = Path(path)
    if place.exists() and place.read_bytes() != text.encode():
        raise ConflictError(
            "EXISTS",
            where=path,
            found="a file of another content, perhaps yours",
            expected="a new file",
            fix=f"take it with --schema {path}, write to another name, or remove it first",
        )
    place.write_text(text)


def _check_place(place: Path) -> None:
    """Raise a UsageError where no file can be written: no folder for it, or a folder in its place."""
    if place.is_dir():
        raise UsageError("FOLDER", where=str(place), found="a folder", expected="the name of a file")
    if not place.parent.is_dir():
        fix = f"mkdir -p {place.parent}"
        raise UsageError(
            "FOLDER", where=str(place), found="no such folder", expected="one that is there", fix=fix
        )


@app.command()
def relate(
    source: Annotated[str, typer.Argument(help="postgresql://user@host/shop, sqlite:///shop.db, ...")],
) -> None:
    """Print a spec of a database's tables as their keys tie them, to be edited and trained from.

    \b
    genpipe relate postgresql://me@db.example/shop > shop.yaml
    genpipe train shop.yaml
    """
    from genpipe.related.draft import relate as draft

    echo(draft(source), nl=False)


@app.command()
@options(Run)
def run(spec: str, **given: Any) -> None:
    """Run a whole pipeline: ingest, search, train, evaluate, register, generate. The same command resumes.

    \b
    genpipe run examples/people.yaml
    genpipe run examples/tables/shop.yaml
    """
    from genpipe.flows.closing import show
    from genpipe.flows.quiet import unless_quiet

    wanted = asked(Run, {"spec": spec, **given})
    summary, quiet = unless_quiet(wanted.spec, wanted.tag, lambda: _whole_road(wanted))
    if quiet:
        echo(f"genpipe run {summary.name}: nothing changed since the last run; all is there", err=True)
    show([summary])


def _whole_road(wanted: Run) -> Any:
    """Check the spec, then run it behind a screen."""
    from genpipe.related.spec import TablesSpec
    from genpipe.verbs import validate as check

    checked = check(wanted.spec)

    def work(progress: Any) -> Any:
        from genpipe.flows.run import run_checked

        return run_checked(checked, tag=wanted.tag, progress=progress)

    search = None if isinstance(checked, TablesSpec) else checked.search
    steps = ["start", "ingest", *(["tune"] if search else []), "train", "evaluate", "register"]
    return staged(f"run {checked.name}", work, plan=(*steps, *(["generate"] if checked.generate else [])))


@app.command()
def explain(
    path: Annotated[
        str,
        typer.Argument(help="A generated file, a folder of ours, or a name."),
    ],
) -> None:
    """Where a file comes from: model version, dataset, seed, block of rows, code version.

    \b
    genpipe explain delivered/part-00000.parquet
    """
    from genpipe.stages.explain import explain as look

    echo(json.dumps(look(path), indent=2, default=str))


@app.command()
def demo(
    fresh: Annotated[bool, typer.Option("--fresh", help="Do everything again, from another seed.")] = False,
    picture: Annotated[str, typer.Option(hidden=True, help="Draw the last screen into this SVG file.")] = "",
) -> None:
    """The whole road in about two minutes, without a network: handwritten digits and a mixed table.

    Searches losses and architectures, trains the winner on two workers, evaluates, registers, generates.
    A second run finds everything done; --fresh does it again.
    """
    from genpipe.flows.demo import demo as show_road

    show_road(fresh=fresh, picture=picture)


@app.command(hidden=True)
def version() -> None:
    """Print the version."""
    echo(__version__)
