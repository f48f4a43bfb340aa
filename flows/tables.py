"""The road of related tables as one flow: ingest and train, evaluate, register, generate, from one spec."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from prefect import flow

from genpipe.flows.artifacts import show_links, show_scores
from genpipe.flows.generate import deliver, generate
from genpipe.flows.pipeline import Clock
from genpipe.flows.policy import listening, remembered
from genpipe.flows.promote import check_gate, evaluate_step, register_step
from genpipe.flows.summary import Summary
from genpipe.flows.there import report_exists
from genpipe.flows.train import train_tables_step
from genpipe.progress import Progress
from genpipe.related.spec import TablesSpec, load_tables, plain
from genpipe.requests import Generate
from genpipe.requests.types import Rows, Seed, Workers

__all__ = ["generate_tables", "run_tables", "tables"]
# the spec that `run_tables` was handed: Prefect takes its JSON alone, which need not be checked again
_checked: ContextVar[TablesSpec | None] = ContextVar("checked", default=None)


@flow(name="tables")
def tables(spec: str | dict[str, Any]) -> dict[str, Any]:
    """spec: a YAML file of related tables, or what stands in one. Finished steps are reused."""
    known, clock = _checked.get(), Clock()
    checked = load_tables(spec) if known is None or plain(known) != spec else known
    model = clock("train", train_tables_step, plain(checked))
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
    made = None
    if checked.generate:
        wanted = Generate.of(model=registered["uri"], **checked.generate.model_dump())
        made = clock("generate", deliver, wanted, tables=True, name=checked.name)
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
    mark = _checked.set(load_tables(spec))
    try:
        with listening(progress):
            return Summary.model_validate(tables(plain(spec)) | {"fixed": fixed or {}})
    finally:
        _checked.reset(mark)


@flow(name="generate-tables")
def generate_tables(
    model: str,
    rows: Rows,
    output: str | None = None,
    seed: Seed = 0,
    workers: Workers | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The earlier name of `generate` for related tables, which deployments still have."""
    return generate.fn(model, rows=rows, output=output, seed=seed, workers=workers, progress=progress)
