"""Dataset -> the best recipe a search finds."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from genpipe import store
from genpipe.dataset import Dataset
from genpipe.flows.artifacts import show_table, slug
from genpipe.flows.policy import listening, remembered, step, tell
from genpipe.progress import Progress


@step("tune", hours=72, cached=True)
def tune_step(dataset: str, **budget: Any) -> dict[str, Any]:
    """budget: what `genpipe.tune` takes."""
    from genpipe.stages.tune.verb import tune

    return tune(dataset, **budget, progress=tell()).model_dump(mode="json")


def study_exists(result: dict[str, Any]) -> bool:
    return store.exists(store.join(result["uri"], "result.json"))


def show_trials(name: str, study: dict[str, Any]) -> None:
    rows = [
        {"trial": t["number"], "state": t["state"], **t["choices"], **t["metrics"], "error": t["error"]}
        for t in study["trials"]
    ]
    show_table(rows, key=slug(name, "trials"), description=f"winner: trial {study['best_trial']}")


@flow(name="tune")
def tune(
    dataset: str,
    recipes: list[str] | None = None,
    vary: dict[str, Any] | None = None,
    trials: Annotated[int, Field(ge=1)] = 8,
    minutes: Annotated[float, Field(gt=0)] | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    name: str | None = None,
    workers: Annotated[int, Field(ge=0)] = 0,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search losses, architectures, sizes and rates; the winner is chosen by holdout fidelity."""
    name = name or Dataset(dataset).name
    with listening(progress):
        study = remembered(
            tune_step,
            study_exists,
            dataset=dataset,
            recipes=recipes,
            vary=vary,
            trials=trials,
            minutes=minutes,
            seed=seed,
            name=name,
            workers=workers,
        )
    show_trials(name, study)
    return study
