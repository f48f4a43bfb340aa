"""Trained generator -> judged, gated, registered, and champion if it is better."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow

from genpipe.errors import QualityError
from genpipe.flows.artifacts import show_links, show_samples, show_scores
from genpipe.flows.policy import listening, remembered, step, tell
from genpipe.flows.there import report_exists
from genpipe.perform import meant
from genpipe.pipeline import Gate
from genpipe.progress import Progress
from genpipe.requests import Evaluate, Register
from genpipe.requests.signature import takes
from genpipe.requests.types import Share


@step("evaluate", cached=True)
def evaluate_step(
    model: str, *, dataset: str | None = None, unchecked: str = "", **request: Any
) -> dict[str, Any]:
    from genpipe.perform import perform
    from genpipe.stages.checked import unless_unchecked

    asked = Evaluate.of(model=model, dataset=dataset, **request)
    return unless_unchecked(perform, asked, unchecked, tell()).model_dump(mode="json")


@step("register")
def register_step(model: str, *, report: dict[str, Any], **request: Any) -> dict[str, Any]:
    from genpipe.evaluation.report import Report
    from genpipe.perform import perform

    asked = Register.of(model=model, **request)
    return asdict(perform(asked, tell(), report=Report.model_validate(report)))


def check_gate(report: dict[str, Any], gate: Gate, *, despite: str = "") -> None:
    """Raise where the model must not be registered: collapsed, copying, or below the fidelity asked for.

    despite: why one that copies or leaks may go on.
    """
    from genpipe.evaluation.report import Report

    checked = Report.model_validate(report)
    if checked.verdict == "unchecked":  # the spec says why it goes on
        return
    if not (despite and checked.verdict in ("copies", "leaks")):
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
@takes(Evaluate, Register)
def promote(
    model: str,
    *,
    name: str,
    fidelity: Share | None = None,
    relative: Share | None = None,
    progress: Progress | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Judge a generator on its holdout, register it, and make it champion if it beats the present one.

    fidelity, relative: what it must reach (the gate of a spec).
    """
    judge, _ = meant(
        Evaluate.of(model=model, **{k: v for k, v in given.items() if k in Evaluate.model_fields})
    )
    enter = Register.of(
        model=judge.model, name=name, **{k: v for k, v in given.items() if k in Register.model_fields}
    )
    with listening(progress):
        report = remembered(evaluate_step, report_exists, **judge.model_dump(), unchecked=enter.unchecked)
        show_scores(name, report)
        show_samples(name, report)
        check_gate(report, Gate(fidelity=fidelity, relative=relative), despite=enter.despite)
        registered = register_step(**enter.model_dump(), report=report)
    show_links(name, report, registered)
    return registered
