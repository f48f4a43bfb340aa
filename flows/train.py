"""Dataset -> trained generator."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from genpipe.dataset import Dataset
from genpipe.flows.policy import bundle_exists, listening, remembered, step, tell
from genpipe.flows.resources import suitable_workers
from genpipe.progress import Progress

Workers = Annotated[int, Field(ge=0)]
Minutes = Annotated[float, Field(gt=0)]


def workers_for(dataset: str, asked: int | None) -> int:
    """The number of workers asked for, if the cluster has them, else what suits the size of the data."""
    if asked == 0:
        return 0
    from genpipe.stages.cluster import check_workers, connect

    cluster = connect()
    if asked is None:
        return suitable_workers(Dataset(dataset).rows("train"), cluster)
    check_workers(asked, cluster)
    return asked


@step("train", hours=72, cached=True)
def train_step(
    dataset: str,
    *,
    recipe: str | dict[str, Any] | None,
    workers: int,
    seed: int,
    name: str,
    minutes: float | None,
    tag: str,
) -> dict[str, Any]:
    from genpipe.stages.train.verb import train

    model = train(
        dataset,
        recipe=recipe,
        workers=workers,
        seed=seed,
        name=name,
        minutes=minutes,
        tag=tag,
        progress=tell(),
    )
    return asdict(model) | {"metrics": dict(model.metrics)}


@flow(name="train")
def train(
    dataset: str,
    recipe: str | dict[str, Any] | None = None,
    workers: Workers | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    name: str | None = None,
    minutes: Minutes | None = None,
    tag: str = "",
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a recipe on the dataset at a URI. workers None: as many as the data is worth."""
    with listening(progress):
        chosen = {
            "recipe": recipe,
            "workers": workers_for(dataset, workers),
            "seed": seed,
            "minutes": minutes,
            "tag": tag,
        }
        return remembered(
            train_step, bundle_exists, dataset=dataset, name=name or Dataset(dataset).name, **chosen
        )
