"""The verbs around one generator: train, tune, evaluate, register, generate; also of related tables."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from genpipe.cli.app import app
from genpipe.cli.options import asked, options
from genpipe.cli.output import echo, recipe_of, say, scores, staged, warn
from genpipe.errors import DataError, closest
from genpipe.requests import Evaluate, Generate, Promote, Register, Request, Train, Tune


def perform(request: Request) -> Any:
    """Do what was asked, behind a screen."""

    def work(progress: Any) -> Any:
        from genpipe.perform import meant, perform

        exact, taken = meant(request)
        said.extend(taken)
        return perform(exact, progress)

    said = list[str]()
    try:
        return staged(type(request).__name__.lower(), work)
    finally:
        for each in said:
            echo(f"genpipe: took {each}", err=True)


@app.command()
@options(Train)
def train(dataset: str, **given: Any) -> None:
    """Train a generator. Killed? The same command resumes. Already trained? It answers at once.

    The spec of related tables (see examples/tables/) gives one generator a table.

    \b
    genpipe train people
    genpipe train people --recipe tabular_gan --workers 2
    genpipe train examples/tables/shop.yaml
    """
    wanted = asked(Train, {"dataset": dataset, **given, "recipe": recipe_of(given["recipe"])})
    model = perform(wanted)
    if hasattr(model, "nodes"):
        trained_tables(model)
        return warn(model.note)
    say(model=model.uri, steps=model.steps, seconds=round(model.seconds, 1), **model.metrics)
    from genpipe.bundle.folder import read_document
    from genpipe.dataset import Dataset
    from genpipe.stages.checked import learnt_before, training_note

    warn(learnt_before(read_document(model.uri, "origin")))
    warn(training_note(Dataset(model.dataset_uri)))


def trained_tables(model: Any) -> None:
    """Say what came of a spec of related tables."""
    fidelity = {f"fidelity of {n}": m["fidelity"] for n, m in model.metrics.items() if "fidelity" in m}
    say(model=model.uri, **fidelity)


def delivered(made: Any, output: str | None) -> None:
    """Say where rows went, how many there are, and the line that reads them."""
    from genpipe.one_file import how_to_read, one_file

    file = output if output and one_file(output) else ""
    rows, parts = made.rows("generated"), len(made.parts("generated"))
    say(dataset=made.uri, file=file, rows=rows, parts=parts, read=how_to_read(file or made.uri))


@app.command()
@options(Tune)
def tune(dataset: str, **given: Any) -> None:
    """Search losses, architectures, sizes and learning rates; bad trials are stopped early.

    \b
    genpipe tune people --trials 20 --minutes 10
    genpipe tune people --recipe tabular_gan --recipe tabular_vae
    genpipe tune people --recipe tabular_gan --vary 'adversarial=["hinge", "wasserstein"]'
    genpipe tune people --recipe tabular_trees --recipe mine.yaml
    """
    recipes = [recipe_of(each) for each in given["recipes"] or ()]
    wanted = asked(Tune, {"dataset": dataset, **given, "recipes": recipes})
    found = perform(wanted)
    say(study=found.uri, winner=found.best.name, trials=len(found.trials), **found.best_metrics)
    echo(found.best.model_dump_json(indent=1))
    from genpipe.dataset import Dataset
    from genpipe.stages.checked import tuning_note
    from genpipe.stages.named_data import dataset_meant

    warn(tuning_note(Dataset(dataset_meant(wanted.dataset).uri)))


@app.command()
@options(Evaluate)
def evaluate(model: str, **given: Any) -> None:
    """Score a generator, or one of related tables, against held-out real data, and write an HTML report.

    \b
    genpipe evaluate people
    genpipe evaluate shop --rows 1000
    """
    report = perform(asked(Evaluate, {"model": model, **given}))
    scores(report)
    say(report=report.page, verdict=report.verdict)


def how_to_load(model: str) -> None:
    """The lines by which Python elsewhere, and a shell, find the registry; they hold no password."""
    from genpipe.settings import registry_variables

    uri = registry_variables()["MLFLOW_TRACKING_URI"]
    echo(f"\nimport mlflow; mlflow.set_tracking_uri({uri!r})\nmlflow.pyfunc.load_model({model!r})")


@app.command()
@options(Register)
def register(model: str, **given: Any) -> None:
    """Register a generator in MLflow. It becomes champion if it beats the present one on the same holdout.
    One that copies, leaks, or that nobody can judge is refused (exit code 5), unless a reason is given.

    \b
    genpipe register people
    genpipe register people --allow likelihood,impute
    """
    made = perform(asked(Register, {"model": model, **given}))
    say(model=made.uri, alias=made.alias, reason=getattr(made, "reason", ""))
    how_to_load(made.uri)


@app.command()
@options(Promote)
def promote(name: str, version: str, **given: Any) -> None:
    """Make a version of a registered model its champion; `previous` goes back to the one before.

    \b
    genpipe promote people 3 --reason "the new column is what we deliver"
    genpipe promote people previous
    """
    made = perform(asked(Promote, {"name": name, "version": version, **given}))
    say(model=made.uri, alias=made.alias, reason=made.reason)


def _steps(path: str) -> dict[str, list[Any]]:
    """Channel -> values of a file's rows, in their order."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        found = "a folder" if os.path.isdir(path) else "no such file"
        fix = closest(path, os.listdir(os.path.dirname(path) or ".") if not os.path.dirname(path) else ())
        raise DataError(
            "HISTORY", where=path, found=found, expected="a CSV or Parquet file of steps", fix=fix
        )
    try:
        table = parquet.read_table(path) if path.endswith((".parquet", ".pq")) else csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            "HISTORY", where=path, found=str(error)[:300], expected="a CSV or Parquet file"
        ) from None
    steps: dict[str, list[Any]] = table.to_pydict()
    return steps


@app.command()
@options(Generate)
def generate(
    model: str,
    *,
    prompt: Annotated[str | None, typer.Option(help="What every text begins with.")] = None,
    history: Annotated[
        str | None, typer.Option(help="A CSV or Parquet file of steps that every series goes on from.")
    ] = None,
    **given: Any,
) -> None:
    """Generate rows into Parquet. Same seed, same bytes, on any number of workers; a killed run resumes.
    Of related tables every foreign key is a generated row's key, exactly.

    \b
    genpipe generate models:/people@champion --rows 1000000 --output s3://deliver/people
    genpipe generate models:/digits@champion --rows 100 --where label=7
    genpipe generate models:/people@champion --rows 100 --where 'age>=30' --where 'city!=Ulm'
    genpipe generate models:/plays@champion --rows 100 --prompt 'ROMEO:'
    genpipe generate models:/prices@champion --rows 100 --history last-days.csv
    genpipe generate models:/shop@champion --rows 10000 --rows products=500
    """
    request = asked(Generate, {"model": model, **given})
    begun: dict[str, Any] = {} if prompt is None else {"prompt": prompt}
    if history is not None:
        begun["history"] = _steps(history)
    if begun:
        request = request.model_copy(update={"conditions": {**(request.conditions or {}), **begun}})
    made = perform(request)
    if hasattr(made, "datasets"):
        say(tables=made.uri, **{name: f"{data.rows()} rows" for name, data in made.items()})
        made = next(iter(made.values()))
    else:
        delivered(made, given["output"])
    if (model := str(made.manifest.origin.get("model", ""))).startswith("models:/"):
        how_to_load(model)
    warn(made.manifest.origin.get("check", ""))
