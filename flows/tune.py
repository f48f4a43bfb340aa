"""Dataset -> the best recipe a search finds."""

from __future__ import annotations

from typing import Any

from prefect import flow

from genpipe.dataset import Dataset
from genpipe.flows.artifacts import show_table, slug
from genpipe.flows.policy import listening, remembered, step, tell
from genpipe.flows.there import study_exists
from genpipe.perform import meant
from genpipe.progress import Progress
from genpipe.requests import Tune
from genpipe.requests.signature import takes


@step("tune", hours=72, cached=True)
def tune_step(dataset: str, **request: Any) -> dict[str, Any]:
    from genpipe.perform import perform

    return perform(Tune.of(dataset=dataset, **request), tell()).model_dump(mode="json")


def show_trials(name: str, study: dict[str, Any]) -> None:
    rows = [
        {"trial": t["number"], "state": t["state"], **t["choices"], **t["metrics"], "error": t["error"]}
        for t in study["trials"]
    ]
    show_table(rows, key=slug(name, "trials"), description=f"winner: trial {study['best_trial']}")


@flow(name="tune")
@takes(Tune)
def tune(dataset: str, *, progress: Progress | None = None, **given: Any) -> dict[str, Any]:
    """Search losses, architectures, sizes and rates; the winner is chosen by holdout fidelity."""
    asked, _ = meant(Tune.of(dataset=dataset, **given))
    name = asked.name or Dataset(asked.dataset).name
    with listening(progress):
        study = remembered(tune_step, study_exists, **asked.model_dump() | {"name": name})
    show_trials(name, study)
    return study
