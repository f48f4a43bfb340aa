"""What nobody needs any more -> gone: after each run of a pipeline whose spec says so, or by itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prefect import flow

from genpipe.flows.policy import listening, step, tell
from genpipe.progress import Progress
from genpipe.requests import Clean
from genpipe.requests.signature import takes


@step("clean", hours=6)
def clean_step(**request: Any) -> dict[str, Any]:
    from genpipe.perform import perform

    cleaned = perform(Clean.of(**request), tell())
    return {
        "removed": cleaned.removed,
        "bytes": cleaned.bytes,
        "found": dict(Counter(each.why for each in cleaned.found)),
        "left_alone": list(cleaned.left),
    }


@step("retain", hours=6)
def retain_step(name: str, *, keep: int, older: float) -> dict[str, int]:
    """Remove of a pipeline's outputs what is none of the newest and needed by none; how many of a kind."""
    from genpipe.settings import read_settings
    from genpipe.stages.retention import retired

    gone = retired(read_settings().store, keep=keep, older=older, name=name, removing=True)
    return dict(Counter(thing.kind for thing, _ in gone))


@flow(name="clean")
@takes(Clean)
def clean(*, progress: Progress | None = None, **given: Any) -> dict[str, Any]:
    """Find what nobody needs; with `remove`, remove it. See `genpipe clean --help`."""
    with listening(progress):
        return clean_step(**Clean.of(**given).model_dump())
