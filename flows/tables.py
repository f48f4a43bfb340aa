"""The road of related tables as one flow: ingest and train, evaluate, register, generate, from one spec."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from genpipe import store
from genpipe.flows.artifacts import show_links, show_scores, show_table, slug
from genpipe.flows.ingest import describe
from genpipe.flows.pipeline import Clock
from genpipe.flows.policy import listening, remembered, step, tell
from genpipe.flows.promote import check_gate, evaluate_step, register_step, report_exists
from genpipe.flows.summary import Summary
from genpipe.progress import Progress
from genpipe.related.spec import TablesSpec, load_tables

__all__ = ["generate_tables", "run_tables", "tables"]


# not remembered by Prefect: whether a source has changed, only the stage can tell
@step("train-tables", hours=72)
def train_tables_step(spec: dict[str, Any]) -> dict[str, Any]:
    from genpipe.related.train import train_tables

    made = train_tables(spec, progress=tell())
    rows = {node.name: node.rows for node in made.nodes}
    return {"uri": made.uri, "name": made.name, "fingerprint": made.fingerprint, "rows": rows}


@step("generate-tables", hours=24, cached=True)
def generate_tables_step(
    model: str, *, rows: int, output: str | None, seed: int, workers: int | None
) -> dict[str, Any]:
    from genpipe.related.generate import generate_tables

    made = generate_tables(model, rows=rows, output=output, seed=seed, workers=workers, progress=tell())
    found = {name: describe(dataset) for name, dataset in made.items()}
    return {
        "uri": made.uri,
        "generated": sum(table.get("generated", 0) for table in found.values()),
        "tables": found,
    }


def tables_exist(made: dict[str, Any]) -> bool:
    return store.exists(store.join(made["uri"], "tables.json"))


def show_tables(name: str, made: dict[str, Any]) -> None:
    rows = [
        {"table": table, "rows": about.get("generated", 0), "fingerprint": about["fingerprint"]}
        for table, about in made["tables"].items()
    ]
    show_table(rows, key=slug(name, "tables"), description=made["uri"])


@flow(name="tables")
def tables(spec: str | dict[str, Any]) -> dict[str, Any]:
    """spec: a YAML file of related tables, or what stands in one. Finished steps are reused."""
    checked, clock = load_tables(spec), Clock()
    model = clock("train", train_tables_step, _plain(checked))
    report = clock(
        "evaluate",
        remembered,
        evaluate_step,
        report_exists,
        model=model["uri"],
        dataset=None,
        seed=checked.seed,
        unchecked=checked.unchecked or "",
    )
    show_scores(checked.name, report)
    check_gate(report, checked.gate)
    terms = {"unchecked": checked.unchecked or ""}
    registered = clock("register", register_step, model["uri"], name=checked.name, report=report, **terms)
    show_links(checked.name, report, registered)
    made = clock("generate", _generate, checked, registered["uri"]) if checked.generate else None
    return Summary(
        name=checked.name,
        dataset={
            "kind": f"{len(checked.tables)} tables",
            "fingerprint": report["lineage"]["dataset fingerprint"],
            "train": report["train_rows"],
            "holdout": report["holdout_rows"],
        },
        model=model,
        report=report,
        registered=registered,
        generated=made,
        seconds=clock.seconds,
    ).model_dump(mode="json")


def run_tables(spec: TablesSpec, *, progress: Progress, fixed: dict[str, float] | None = None) -> Summary:
    """Run the flow in this process and tell `progress` about it; Prefect's API must be there (`embedded`)."""
    with listening(progress):
        return Summary.model_validate(tables(_plain(spec)) | {"fixed": fixed or {}})


def _plain(spec: TablesSpec) -> dict[str, Any]:
    """A spec as a parameter of a flow or step: Prefect walks through what it is given."""
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _generate(spec: TablesSpec, model: str) -> dict[str, Any]:
    wanted = spec.generate
    assert wanted is not None
    made = remembered(
        generate_tables_step,
        tables_exist,
        model=model,
        rows=wanted.rows,
        output=wanted.output,
        seed=wanted.seed,
        workers=wanted.workers,
    )
    show_tables(spec.name, made)
    return made


@flow(name="generate-tables")
def generate_tables(
    model: str,
    rows: Annotated[int, Field(ge=1)],
    output: str | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    workers: Annotated[int, Field(ge=0)] | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Generate related tables from "models:/name@champion"; an alias is resolved once, to a version."""
    from genpipe.registry import resolve

    resolved = resolve(model)
    fixed = resolved.reference if model.startswith("models:/") else model
    with listening(progress):
        made = remembered(
            generate_tables_step,
            tables_exist,
            model=fixed,
            rows=rows,
            output=output,
            seed=seed,
            workers=workers,
        )
    show_tables(resolved.name, made)
    return made
