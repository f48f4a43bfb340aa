"""Trained generator -> judged, gated, registered, and champion if it is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from genpipe import store
from genpipe.errors import QualityError
from genpipe.flows.artifacts import show_links, show_samples, show_scores
from genpipe.flows.policy import listening, remembered, step, tell
from genpipe.pipeline import Gate
from genpipe.progress import Progress


@step("evaluate", cached=True)
def evaluate_step(
    model: str, *, dataset: str | None, seed: int, real_examples: bool = False, unchecked: str = ""
) -> dict[str, Any]:
    from genpipe.verbs import evaluate_or_say

    report = evaluate_or_say(
        model, dataset, unchecked=unchecked, seed=seed, real_examples=real_examples, progress=tell()
    )
    return report.model_dump(mode="json")


@step("register")
def register_step(
    model: str, *, name: str, report: dict[str, Any], unchecked: str = "", allow: Sequence[str] = ()
) -> dict[str, Any]:
    from genpipe.evaluation.report import Report
    from genpipe.verbs import register

    judged = Report.model_validate(report)
    made = register(model, name=name, report=judged, unchecked=unchecked, allow=allow, progress=tell())
    return asdict(made)


def report_exists(report: dict[str, Any]) -> bool:
    return report["verdict"] == "unchecked" or store.exists(report["uri"])


def check_gate(report: dict[str, Any], gate: Gate) -> None:
    """Raise where the model must not be registered: collapsed, copying, or below the fidelity asked for."""
    from genpipe.evaluation.report import Report

    checked = Report.model_validate(report)
    if checked.verdict == "unchecked":  # the spec says why it goes on
        return
    checked.check()
    fidelity = checked.score("fidelity")
    reached, best = fidelity.value or 0.0, fidelity.ceiling
    wanted = max(gate.fidelity or 0.0, (gate.relative or 0.0) * (best or 1.0))
    if reached < wanted:
        raise QualityError(
            "GATE",
            where="gate",
            found=f"fidelity {reached:.3f}",
            expected=f"at least {wanted:.3f} (real held-out rows reach {best or 1.0:.3f})",
            fix=f"train longer, search more trials, or lower the gate; the report is {report['page']}",
        )


@flow(name="promote")
def promote(
    model: str,
    name: str,
    dataset: str | None = None,
    fidelity: Annotated[float, Field(ge=0, le=1)] | None = None,
    relative: Annotated[float, Field(ge=0, le=1)] | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    unchecked: str = "",
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a bundle on its holdout, register it, and make it champion if it beats the present one.

    unchecked: why it goes on where too few entities tell nothing.
    """
    with listening(progress):
        report = remembered(
            evaluate_step, report_exists, model=model, dataset=dataset, seed=seed, unchecked=unchecked
        )
        show_scores(name, report)
        show_samples(name, report)
        check_gate(report, Gate(fidelity=fidelity, relative=relative))
        registered = register_step(model, name=name, report=report, unchecked=unchecked)
    show_links(name, report, registered)
    return registered
