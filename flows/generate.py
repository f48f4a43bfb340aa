"""Registered generator -> delivered data."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from genpipe.dataset import Dataset
from genpipe.flows.artifacts import show_dataset
from genpipe.flows.ingest import describe
from genpipe.flows.policy import listening, remembered, step, tell
from genpipe.progress import Progress


@step("generate", hours=24, cached=True)
def generate_step(
    model: str,
    *,
    rows: int,
    output: str | None,
    conditions: dict[str, Any],
    temperature: float | None,
    seed: int,
    workers: int | None,
    rows_per_part: int | None,
    name: str | None,
    tag: str,
) -> dict[str, Any]:
    from genpipe.stages.generate.verb import generate

    made = generate(
        model,
        rows=rows,
        output=output,
        conditions=conditions,
        temperature=temperature,
        seed=seed,
        workers=workers,
        rows_per_part=rows_per_part,
        name=name,
        tag=tag,
        progress=tell(),
    )
    return describe(made)


def dataset_exists(dataset: dict[str, Any]) -> bool:
    return Dataset.exists(dataset["uri"])


@flow(name="generate")
def generate(
    model: str,
    rows: Annotated[int, Field(ge=1)],
    output: str | None = None,
    conditions: dict[str, Any] | None = None,
    temperature: Annotated[float, Field(gt=0)] | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    workers: Annotated[int, Field(ge=0)] | None = None,
    rows_per_part: Annotated[int, Field(ge=1)] | None = None,
    name: str | None = None,
    tag: str = "",
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Generate rows from "models:/name@champion" or a bundle; an alias is resolved once, to a version."""
    from genpipe.registry import resolve

    fixed = resolve(model).reference if model.startswith("models:/") else model
    with listening(progress):
        made = remembered(
            generate_step,
            dataset_exists,
            model=fixed,
            rows=rows,
            output=output,
            conditions=conditions or {},
            temperature=temperature,
            seed=seed,
            workers=workers,
            rows_per_part=rows_per_part,
            name=name,
            tag=tag,
        )
    show_dataset(made)
    return made
