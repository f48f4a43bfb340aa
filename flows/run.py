"""`run`: a whole pipeline in this process, as a flow; none where nothing changed since (quiet.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genpipe.errors import UsageError
from genpipe.flows.embedded import prefect_api
from genpipe.flows.quiet import unless_quiet
from genpipe.progress import Event, Progress, silent
from genpipe.requests import Run
from genpipe.requests.signature import documented

if TYPE_CHECKING:
    from genpipe.flows.summary import Summary
    from genpipe.pipeline import PipelineSpec
    from genpipe.related.spec import TablesSpec


@documented(Run)
def run(
    spec: str | Path | Mapping[str, Any] | PipelineSpec | TablesSpec,
    *,
    tag: str = "",
    progress: Progress = silent,
) -> Summary:
    """Run a whole pipeline in this process: ingest, search, train, evaluate, register, generate.

    Everything already done is reused; a run that was killed resumes. Where nothing changed since the last,
    that is seen without a flow (quiet.py). Raises SpecError before anything is spent, QualityError where the
    gate says no.
    """
    if not isinstance(spec, str | Path | Mapping):  # a spec that was checked before: an object of ours
        return run_checked(spec, tag=tag, progress=progress)
    from genpipe.verbs import validate

    def work() -> Summary:
        return run_checked(validate(spec), tag=tag, progress=progress)

    summary, quiet = unless_quiet(spec, tag, work)
    if quiet:
        progress(Event("run", 1, 1, note="nothing changed"))
    return summary


def run_checked(checked: PipelineSpec | TablesSpec, *, tag: str = "", progress: Progress = silent) -> Summary:
    """`run` of a spec that `validate` returned, as a flow."""
    from genpipe.pipeline import PipelineSpec
    from genpipe.verbs import validate

    checked = validate(checked)
    if tag and not isinstance(checked, PipelineSpec):
        found, fix = f"the tag {tag!r} for related tables", "leave it out; another seed trains them again"
        raise UsageError("TAG", where="tag", found=found, expected="none", fix=fix)
    progress(Event("start", note="Prefect"))
    with prefect_api() as seconds:
        from genpipe.flows.pipeline import run_spec
        from genpipe.flows.tables import run_tables

        progress(Event("start", 1, 1))
        if isinstance(checked, PipelineSpec):
            return run_spec(checked, tag=tag, progress=progress, fixed=dict(seconds))
        return run_tables(checked, progress=progress, fixed=dict(seconds))
