"""A generator's codes of rows, on a schedule: each job of genpipe/stages/latent/ as a flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import Flow, flow

from genpipe import store
from genpipe.flows.artifacts import show_dataset, show_table, slug
from genpipe.flows.policy import listening, remembered, step, tell
from genpipe.flows.summary import describe
from genpipe.flows.there import dataset_exists
from genpipe.one_file import one_file
from genpipe.perform import meant
from genpipe.progress import Progress
from genpipe.requests import (
    LATENT,
    Anomaly,
    Classify,
    Cluster,
    Compress,
    Edit,
    Encode,
    Interpolate,
    Reconstruct,
    Request,
)
from genpipe.requests.signature import takes

JOBS = {job.__name__.lower(): job for job in LATENT}


@step("latent", hours=24, cached=True)
def latent_step(job: str, **request: Any) -> dict[str, Any]:
    from genpipe.perform import perform

    made = perform(JOBS[job].of(**request), tell())
    return describe(made) | {"scores": made.manifest.origin.get("scores", {})}


def _flow(job: type[Request]) -> Flow[..., dict[str, Any]]:
    """The flow of a job: its parameters are the request's, an alias is resolved once, to a version."""
    name = job.__name__.lower()

    @takes(job)
    def run(model: str, *, progress: Progress | None = None, **given: Any) -> dict[str, Any]:
        from genpipe.registry import resolve

        asked, _ = meant(job.of(model=model, **given))
        if asked.model.startswith("models:/"):
            asked = asked.model_copy(update={"model": resolve(asked.model).reference})
        with listening(progress):
            made: dict[str, Any] = remembered(latent_step, _there(asked), job=name, **asked.model_dump())
        scores = [{"score": key, "value": value} for key, value in made.pop("scores").items()]
        if scores:
            show_table(scores, key=slug(made["name"], "scores"), description=f"{name}: {made['uri']}")
        show_dataset(made)
        return made

    run.__name__, run.__doc__ = name, f"{job.__doc__}\n\n{(run.__doc__ or '').partition(chr(10) * 2)[2]}"
    return flow(name=name)(run)


def _there(asked: Any) -> Callable[[dict[str, Any]], bool]:
    """Whether all that was made is still there: the rows, the file and the strip that were asked for."""
    files = [asked.output] if one_file(asked.output) else []
    files += [asked.strip] if getattr(asked, "strip", None) else []
    return lambda made: dataset_exists(made) and all(map(store.exists, files))


encode = _flow(Encode)
reconstruct = _flow(Reconstruct)
anomaly = _flow(Anomaly)
compress = _flow(Compress)
cluster = _flow(Cluster)
classify = _flow(Classify)
edit = _flow(Edit)
interpolate = _flow(Interpolate)
