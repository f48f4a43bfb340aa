"""Registered generator -> delivered data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import flow

from genpipe.flows.artifacts import show_dataset, show_table, slug
from genpipe.flows.policy import listening, remembered, step, tell
from genpipe.flows.summary import describe
from genpipe.flows.there import dataset_exists, file_missing, tables_exist
from genpipe.perform import meant
from genpipe.progress import Progress
from genpipe.requests import Generate
from genpipe.requests.signature import takes
from genpipe.requests.types import Rows

if TYPE_CHECKING:
    from genpipe.registry import Resolved


@step("generate", hours=24, cached=True)
def generate_step(**request: Any) -> dict[str, Any]:
    from genpipe.perform import perform

    return describe(perform(Generate.of(**request), tell()))


@step("generate-tables", hours=24, cached=True)
def generate_tables_step(**request: Any) -> dict[str, Any]:
    from genpipe.perform import perform

    made = perform(Generate.of(**request), tell())
    found = {name: describe(dataset) for name, dataset in made.items()}
    return {
        "uri": made.uri,
        "generated": sum(table.get("generated", 0) for table in found.values()),
        "tables": found,
    }


def show_tables(name: str, made: dict[str, Any]) -> None:
    rows = [
        {"table": table, "rows": about.get("generated", 0), "fingerprint": about["fingerprint"]}
        for table, about in made["tables"].items()
    ]
    show_table(rows, key=slug(name, "tables"), description=made["uri"])


def deliver(asked: Generate, *, tables: bool, name: str) -> dict[str, Any]:
    """Generate, unless it was done, and show what was made. name: of the model."""
    call, exists = (generate_tables_step, tables_exist) if tables else (generate_step, dataset_exists)
    if file_missing(asked.output):
        exists = lambda made: False  # noqa: E731 - the rows are in the store, the file is gone
    made = remembered(call, exists, **asked.model_dump())
    if tables:
        show_tables(name, made)
    else:
        show_dataset(made)
    return made


@flow(name="generate")
@takes(Generate)
def generate(model: str, *, rows: Rows, progress: Progress | None = None, **given: Any) -> dict[str, Any]:
    """Generate rows from "models:/name@champion" or a bundle, or every table of related ones.

    An alias is resolved once, to a version.
    """
    from genpipe.registry import resolve

    asked, _ = meant(Generate.of(model=model, rows=rows, **given))
    resolved = resolve(asked.model)
    if asked.model.startswith("models:/"):
        asked = asked.model_copy(update={"model": resolved.reference})
    with listening(progress):
        return deliver(asked, tables=_several(resolved), name=resolved.name)


def _several(resolved: Resolved) -> bool:
    """Whether a generator makes several tables: one of a flat table by entity makes this one again."""
    if not resolved.tables:
        return False
    from genpipe.related.train import open_tables

    return open_tables(resolved.uri).panel is None
