"""The verbs around one generator: train, tune, evaluate, register, generate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from genpipe.cli.app import Name, Seed, app
from genpipe.cli.output import dataset_of, echo, pairs, recipe_of, say, scores, staged, warn


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(help="A dataset's URI, or the name of one in the store.")],
    recipe: Annotated[
        str | None, typer.Option(help="A recipe's name, or a YAML file of changes to one.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Ray Train workers; 0 trains in this process.")] = 0,
    seed: Seed = 0,
    name: Name = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after so long, keep the best.")
    ] = None,
    tag: Annotated[str, typer.Option(help="Any text; makes an equal request another run.")] = "",
) -> None:
    """Train a generator. Killed? The same command resumes. Already trained? It answers at once.

    \b
    genpipe train people
    genpipe train people --recipe tabular_gan --workers 2
    """

    def work(progress: Any) -> Any:
        from genpipe.verbs import train

        return train(
            dataset_of(dataset),
            recipe=recipe_of(recipe),
            workers=workers,
            seed=seed,
            name=name,
            minutes=minutes,
            tag=tag,
            progress=progress,
        )

    model = staged("train", work)
    say(model=model.uri, steps=model.steps, seconds=round(model.seconds, 1), **model.metrics)
    from genpipe.dataset import Dataset
    from genpipe.stages.checked import training_note

    warn(training_note(Dataset(model.dataset_uri)))


@app.command()
def tune(
    dataset: Annotated[str, typer.Argument(help="A dataset's URI, or the name of one in the store.")],
    recipes: Annotated[
        list[str] | None, typer.Option("--recipe", help="Search among these; all of the kind if not given.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials at most.")] = 8,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Minutes at most.")] = None,
    seed: Seed = 0,
    name: Name = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Ray Train workers of each trial; 0: the trial's own process.")
    ] = 0,
) -> None:
    """Search losses, architectures, sizes and learning rates; bad trials are stopped early.

    \b
    genpipe tune people --trials 20 --minutes 10
    genpipe tune people --recipe tabular_gan --recipe tabular_vae
    """

    def work(progress: Any) -> Any:
        from genpipe.stages.tune.verb import tune

        return tune(
            dataset_of(dataset),
            recipes=recipes or None,
            trials=trials,
            minutes=minutes,
            seed=seed,
            name=name,
            workers=workers,
            progress=progress,
        )

    found = staged("tune", work)
    say(study=found.uri, winner=found.best.name, trials=len(found.trials), **found.best_metrics)
    echo(found.best.model_dump_json(indent=1))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A bundle's URI, a set of tables, or models:/name@champion.")],
    dataset: Annotated[str | None, typer.Option(help="By default the one it was trained on.")] = None,
    rows: Annotated[int | None, typer.Option(min=2, help="Generated rows to judge.")] = None,
    seed: Seed = 0,
    real_examples: Annotated[
        bool, typer.Option("--real-examples", help="Show held-out pictures, series, clips: for you alone.")
    ] = False,
    folds: Annotated[
        int | None,
        typer.Option(min=0, help="Of few entities: models to judge by those each has not seen; 0: never."),
    ] = None,
) -> None:
    """Score a generator against held-out real data, and write an HTML report. Of related tables (what
    train-tables printed) rows are those without parents, and a dataset is another such model.

    \b
    genpipe evaluate models:/people@champion
    genpipe evaluate models:/shop@champion --rows 1000
    """

    def work(progress: Any) -> Any:
        from genpipe.verbs import evaluate

        return evaluate(
            model,
            dataset_of(dataset) if dataset else None,
            rows=rows,
            seed=seed,
            real_examples=real_examples,
            folds=folds,
            progress=progress,
        )

    report = staged("evaluate", work)
    scores(report)
    say(report=report.page, verdict=report.verdict)


@app.command()
def register(
    model: Annotated[str, typer.Argument(help="A bundle's URI, or what train-tables printed.")],
    name: Annotated[str, typer.Option(help="The name consumers load: models:/NAME@champion.")],
    despite: Annotated[
        str, typer.Option(help="Why one that copies or leaks is published all the same; recorded for all.")
    ] = "",
    unchecked: Annotated[
        str, typer.Option(help="Why one that too few entities can tell of is; recorded for all to see.")
    ] = "",
    allow: Annotated[
        str, typer.Option(help="What consumers may do with it beside generating: score, impute, or both.")
    ] = "",
) -> None:
    """Register a generator in MLflow. It becomes champion if it beats the present one on the same holdout.
    One that copies, leaks, or that nobody can judge is refused (exit code 5), unless a reason is given.

    \b
    genpipe register .genpipe/store/runs/people-1a2b/bundle --name people
    genpipe register <model> --name people --allow score,impute
    """

    def work(progress: Any) -> Any:
        from genpipe.verbs import register

        return register(
            model,
            name=name,
            despite=despite,
            unchecked=unchecked,
            allow=[verb.strip() for verb in allow.split(",") if verb.strip()],
            progress=progress,
        )

    made = staged("register", work)
    say(model=made.uri, alias=made.alias, reason=getattr(made, "reason", ""))


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="models:/name@champion, models:/name/3, or a bundle's URI.")],
    rows: Annotated[int, typer.Option(min=1, help="Exactly so many rows.")],
    output: Annotated[
        str | None, typer.Option(help="Folder or s3:// prefix; by default in the store.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help='COLUMN=VALUE that every row must have, or COLUMN={"a": 0.7, "b": 0.3} for shares.'
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of sampling: below 1 likelier rows, above 1 bolder ones.")
    ] = None,
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(min=0, help="Ray workers; by default one a CPU.")] = None,
    rows_per_part: Annotated[int | None, typer.Option(min=1, help="Rows of a Parquet file.")] = None,
    name: Name = None,
    tag: Annotated[str, typer.Option(help="Any text; makes an equal request another output.")] = "",
) -> None:
    """Generate rows into Parquet. Same seed, same bytes, on any number of workers; a killed run resumes.

    \b
    genpipe generate models:/people@champion --rows 1000000 --output s3://deliver/people
    genpipe generate models:/digits@champion --rows 100 --where label=7
    """

    def work(progress: Any) -> Any:
        from genpipe.verbs import generate

        return generate(
            model,
            rows=rows,
            output=output,
            conditions=pairs(where),
            temperature=temperature,
            seed=seed,
            workers=workers,
            rows_per_part=rows_per_part,
            name=name,
            tag=tag,
            progress=progress,
        )

    made = staged("generate", work)
    say(dataset=made.uri, rows=made.rows("generated"), parts=len(made.parts("generated")))
    warn(made.manifest.origin.get("check", ""))
