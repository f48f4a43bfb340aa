"""Raw data -> dataset."""

from __future__ import annotations

from typing import Any

from prefect import flow

from genpipe.dataset import Dataset
from genpipe.flows.artifacts import show_dataset
from genpipe.flows.policy import listening, step, tell
from genpipe.kinds import DataKind
from genpipe.progress import Progress


def describe(dataset: Dataset) -> dict[str, Any]:
    """A dataset as a small value that can travel between steps."""
    rows = {split: dataset.rows(split) for split in ("train", "holdout", "generated") if dataset.rows(split)}
    return {
        "uri": dataset.uri,
        "name": dataset.name,
        "kind": dataset.schema.kind,
        "fingerprint": dataset.fingerprint,
        **rows,
    }


# not remembered by Prefect: whether the source has changed, only the stage can tell
@step("ingest", hours=12)
def ingest_step(
    source: str | list[str], *, schema_file: str | None, options: dict[str, Any] | None, **common: Any
) -> dict[str, Any]:
    """common: what `genpipe.ingest` takes for every kind of data; options: of the one kind."""
    from genpipe.stages.ingest.verb import ingest

    return describe(ingest(source, schema=schema_file, progress=tell(), **(common | (options or {}))))


@flow(name="ingest")
def ingest(
    source: str | list[str],
    name: str | None = None,
    kind: DataKind | None = None,
    target: str | None = None,
    key: list[str] | None = None,
    entity: str | list[str] | None = None,
    holdout: float = 0.2,
    schema_file: str | None = None,
    options: dict[str, Any] | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ingest `source` (file, folder, glob, s3://); the same input again does no work."""
    with listening(progress):
        dataset = ingest_step(
            source,
            name=name,
            kind=kind,
            target=target,
            key=tuple(key or ()),
            entity=entity,
            holdout=holdout,
            schema_file=schema_file,
            options=options,
        )
    show_dataset(dataset)
    return dataset
