"""Dataset -> trained generator."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow

from genpipe.dataset import Dataset
from genpipe.flows.policy import listening, remembered, step, tell
from genpipe.flows.resources import suitable_workers
from genpipe.flows.there import bundle_exists
from genpipe.perform import check_for_tables, is_spec, meant
from genpipe.progress import Progress
from genpipe.requests import Train
from genpipe.requests.signature import takes
from genpipe.requests.types import Workers
from genpipe.settings import read_settings


def workers_for(dataset: str, asked: int | None) -> int:
    """The number of workers asked for, if the cluster has them, else what suits the size of the data. What
    this machine has is known without Ray, which takes seconds to start.
    """
    if asked == 0:
        return 0
    from genpipe.stages.cluster import connect
    from genpipe.stages.placement import Need, check_workers, nodes, of_this_machine

    settings = read_settings()
    if asked is None:
        has = of_this_machine(settings) if settings.ray_address == "local" else connect()
        return suitable_workers(Dataset(dataset).rows("train"), has, device=settings.device)
    connect()
    check_workers(asked, Need(gpus=1 if settings.device == "cuda" else 0), nodes())
    return asked


@step("train", hours=72, cached=True)
def train_step(dataset: str, *, workers: int | None, **request: Any) -> dict[str, Any]:
    """workers: None for as many as the data is worth, counted only where the step runs."""
    from genpipe.perform import perform

    asked = Train.of(dataset=dataset, workers=workers_for(dataset, workers), **request)
    model = perform(asked, tell())
    if hasattr(model, "nodes"):
        return _tables(model)
    return asdict(model) | {"metrics": dict(model.metrics)}


def _tables(made: Any) -> dict[str, Any]:
    rows = {node.name: node.rows for node in made.nodes}
    return {"uri": made.uri, "name": made.name, "fingerprint": made.fingerprint, "rows": rows}


# not remembered by Prefect: whether a source has changed, only the stage can tell
@step("train-tables", hours=72)
def train_tables_step(spec: dict[str, Any], *, workers: int = 0) -> dict[str, Any]:
    """spec: of related tables; what is in it was checked before."""
    from genpipe.related.spec import trusted
    from genpipe.related.train import train_tables

    return _tables(train_tables(trusted(spec), workers=workers, progress=tell()))


@flow(name="train")
@takes(Train)
def train(
    dataset: str, *, workers: Workers | None = None, progress: Progress | None = None, **given: Any
) -> dict[str, Any]:
    """Train a recipe on the dataset at a URI, or related tables from their spec, a file beside the flow.

    By default there are as many workers as the data is worth; related tables are learnt in this process.
    """
    asked = Train.of(dataset=dataset, workers=workers or 0, **given)
    with listening(progress):
        if is_spec(dataset):
            from genpipe.related.spec import load_tables, plain

            check_for_tables(asked)
            return train_tables_step(plain(load_tables(dataset)), workers=asked.workers)
        asked, _ = meant(asked)
        data = Dataset(asked.dataset)
        chosen = {"workers": workers, "name": asked.name or data.name}
        return remembered(train_step, bundle_exists, **asked.model_dump() | chosen)
