"""The whole road as one flow: ingest, search, train, evaluate, register, generate, from one spec."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prefect import flow

from genpipe.flows.artifacts import show_dataset, show_links, show_samples, show_scores
from genpipe.flows.clean import retain_step
from genpipe.flows.generate import deliver
from genpipe.flows.ingest import ingest_step
from genpipe.flows.policy import listening, remembered, tell
from genpipe.flows.promote import check_gate, evaluate_step, register_step
from genpipe.flows.summary import Summary
from genpipe.flows.there import bundle_exists, report_exists, study_exists
from genpipe.flows.train import train_step
from genpipe.flows.tune import show_trials, tune_step
from genpipe.perform import NOT_FOR_TABLES
from genpipe.pipeline import PipelineSpec, load_spec
from genpipe.progress import Event, Progress
from genpipe.requests import Generate, Ingest, Train, Tune

__all__ = ["pipeline", "run_spec"]


class Clock:
    """Announces the beginning and the end of each stage and keeps its seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, work: Callable[..., Any], *args: Any, **parameters: Any) -> Any:
        tell()(Event(stage))
        began = time.monotonic()
        result = work(*args, **parameters)
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - began
        tell()(Event(stage, 1, 1))
        return result


@flow(name="pipeline")
def pipeline(spec: str | PipelineSpec, tag: str = "") -> dict[str, Any]:
    """spec: a YAML file beside the flow, or the spec itself. Finished steps are reused."""
    checked, clock = load_spec(spec), Clock()
    dataset = clock("ingest", _ingest, checked)
    study, recipe = None, checked.recipe
    if checked.search is not None:
        study = clock("tune", _tune, checked, dataset["uri"])
        recipe = study["best"]
    model = clock("train", _train, checked, dataset["uri"], recipe, tag)
    report = clock(
        "evaluate",
        remembered,
        evaluate_step,
        report_exists,
        model=model["uri"],
        dataset=dataset["uri"],
        seed=checked.train.seed,
        real_examples=checked.real_examples,
        unchecked=checked.unchecked or "",
    )
    show_scores(checked.name, report)
    show_samples(checked.name, report)
    check_gate(report, checked.gate)
    terms = {"unchecked": checked.unchecked or "", "allow": checked.allow}
    registered = clock("register", register_step, model["uri"], name=checked.name, report=report, **terms)
    show_links(checked.name, report, registered)
    made = clock("generate", _generate, checked, registered["uri"], tag) if checked.generate else None
    if (kept := checked.retention) is not None:
        clock("retain", retain_step, checked.name, keep=kept.keep, older=kept.older or 0)
    return Summary(
        name=checked.name,
        dataset=dataset,
        study=study,
        model=model,
        report=report,
        registered=registered,
        generated=made,
        seconds=clock.seconds,
    ).model_dump(mode="json")


def run_spec(
    spec: PipelineSpec, *, tag: str = "", progress: Progress, fixed: dict[str, float] | None = None
) -> Summary:
    """Run the flow in this process and tell `progress` about it; Prefect's API must be there (`embedded`)."""
    with listening(progress):
        return Summary.model_validate(pipeline(spec, tag) | {"fixed": fixed or {}})


def _ingest(spec: PipelineSpec) -> dict[str, Any]:
    given = {"source": spec.source.path, "name": spec.name, **spec.source.model_dump(exclude={"path"})}
    dataset = ingest_step(**Ingest.of(**given).model_dump())
    show_dataset(dataset)
    return dataset


def _tune(spec: PipelineSpec, dataset: str) -> dict[str, Any]:
    assert spec.search is not None
    given = {"dataset": dataset, "seed": spec.train.seed, "name": spec.name, **spec.search.model_dump()}
    study = remembered(tune_step, study_exists, **Tune.of(**given).model_dump())
    show_trials(spec.name, study)
    return study


def _train(spec: PipelineSpec, dataset: str, recipe: Any, tag: str) -> dict[str, Any]:
    if spec.train.steps:
        base: dict[str, Any] = {"base": recipe} if isinstance(recipe, str) else dict(recipe or {})
        recipe = base | {"training": {**base.get("training", {}), "steps": spec.train.steps}}
    delivery = spec.generate  # which an entity can take no conditions from
    by_row = delivery is not None and any(getattr(delivery, name) for name in NOT_FOR_TABLES[Generate])
    asked = Train.of(
        dataset=dataset,
        recipe=recipe,
        name=spec.name,
        tag=tag,
        by=spec.train.by or ("row" if by_row else None),
        **spec.train.model_dump(exclude={"workers", "steps", "by"}),
    )
    given = asked.model_dump() | {"workers": spec.train.workers}
    return remembered(train_step, bundle_exists, **given)


def _generate(spec: PipelineSpec, model: str, tag: str) -> dict[str, Any]:
    assert spec.generate is not None
    asked = Generate.of(model=model, name=spec.name, tag=tag, **spec.generate.model_dump())
    return deliver(asked, tables=False, name=spec.name)
