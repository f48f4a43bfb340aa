"""Raw data -> dataset."""

from __future__ import annotations

from typing import Any

from prefect import flow

from genpipe.flows.artifacts import show_dataset
from genpipe.flows.policy import listening, step, tell
from genpipe.flows.summary import describe
from genpipe.progress import Progress
from genpipe.requests import Ingest
from genpipe.requests.signature import takes


# not remembered by Prefect: whether the source has changed, only the stage can tell
@step("ingest", hours=12)
def ingest_step(**request: Any) -> dict[str, Any]:
    from genpipe.perform import perform

    return describe(perform(Ingest.of(**request), tell()))


@flow(name="ingest")
@takes(Ingest)
def ingest(source: Any, *, progress: Progress | None = None, **given: Any) -> dict[str, Any]:
    """Ingest `source` (file, folder, glob, s3://); the same input again does no work."""
    with listening(progress):
        dataset = ingest_step(**Ingest.of(source=source, **given).model_dump())
    show_dataset(dataset)
    return dataset
