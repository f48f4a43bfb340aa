"""The verbs around one generator: train, tune, evaluate, register, generate; also of related tables."""

from __future__ import annotations

from typing import Any

from genpipe.cli.app import app
from genpipe.cli.options import asked, options
from genpipe.cli.output import dataset_of, echo, recipe_of, say, scores, staged, warn
from genpipe.requests import Evaluate, Generate, Register, Request, Train, Tune


def perform(request: Request) -> Any:
    """Do what was asked, behind a screen."""

    def work(progress: Any) -> Any:
        from genpipe.perform import perform

        return perform(request, progress)

    return staged(type(request).__name__.lower(), work)


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
    model = perform(wanted.model_copy(update={"dataset": dataset_of(dataset)}))
    if hasattr(model, "nodes"):
        trained_tables(model)
        return warn(model.note)
    say(model=model.uri, steps=model.steps, seconds=round(model.seconds, 1), **model.metrics)
    from genpipe.dataset import Dataset
    from genpipe.stages.checked import training_note

    warn(training_note(Dataset(model.dataset_uri)))


def trained_tables(model: Any) -> None:
    """Say what came of a spec of related tables."""
    fidelity = {f"fidelity of {n}": m["fidelity"] for n, m in model.metrics.items() if "fidelity" in m}
    say(model=model.uri, **fidelity)


@app.command()
@options(Tune)
def tune(dataset: str, **given: Any) -> None:
    """Search losses, architectures, sizes and learning rates; bad trials are stopped early.

    \b
    genpipe tune people --trials 20 --minutes 10
    genpipe tune people --recipe tabular_gan --recipe tabular_vae
    genpipe tune people --recipe tabular_gan --vary 'adversarial=["hinge", "wasserstein"]'
    """
    wanted = asked(Tune, {"dataset": dataset, **given})
    wanted = wanted.model_copy(update={"dataset": dataset_of(dataset)})
    found = perform(wanted)
    say(study=found.uri, winner=found.best.name, trials=len(found.trials), **found.best_metrics)
    echo(found.best.model_dump_json(indent=1))
    from genpipe.dataset import Dataset
    from genpipe.stages.checked import tuning_note

    warn(tuning_note(Dataset(wanted.dataset)))


@app.command()
@options(Evaluate)
def evaluate(model: str, **given: Any) -> None:
    """Score a generator, or one of related tables, against held-out real data, and write an HTML report.

    \b
    genpipe evaluate models:/people@champion
    genpipe evaluate models:/shop@champion --rows 1000
    """
    wanted = asked(Evaluate, {"model": model, **given})
    if wanted.dataset:
        wanted = wanted.model_copy(update={"dataset": dataset_of(wanted.dataset)})
    report = perform(wanted)
    scores(report)
    say(report=report.page, verdict=report.verdict)


@app.command()
@options(Register)
def register(model: str, **given: Any) -> None:
    """Register a generator in MLflow. It becomes champion if it beats the present one on the same holdout.
    One that copies, leaks, or that nobody can judge is refused (exit code 5), unless a reason is given.

    \b
    genpipe register .genpipe/store/runs/people-1a2b/bundle --name people
    genpipe register <model> --name people --allow likelihood,impute
    """
    made = perform(asked(Register, {"model": model, **given}))
    say(model=made.uri, alias=made.alias, reason=getattr(made, "reason", ""))


@app.command()
@options(Generate)
def generate(model: str, **given: Any) -> None:
    """Generate rows into Parquet. Same seed, same bytes, on any number of workers; a killed run resumes.
    Of related tables every foreign key is a generated row's key, exactly.

    \b
    genpipe generate models:/people@champion --rows 1000000 --output s3://deliver/people
    genpipe generate models:/digits@champion --rows 100 --where label=7
    genpipe generate models:/shop@champion --rows 10000 --rows products=500
    """
    made = perform(asked(Generate, {"model": model, **given}))
    if hasattr(made, "datasets"):
        say(tables=made.uri, **{name: f"{data.rows()} rows" for name, data in made.items()})
        made = next(iter(made.values()))
    else:
        say(dataset=made.uri, rows=made.rows("generated"), parts=len(made.parts("generated")))
    warn(made.manifest.origin.get("check", ""))
