"""The verbs of a house in use: promote a version, clean up, forget a dataset, look whether all is well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genpipe.perform import perform, request
from genpipe.progress import Progress, silent
from genpipe.requests import Clean, Doctor, Forget, Promote
from genpipe.requests.signature import documented

if TYPE_CHECKING:
    from genpipe.registry import Registered
    from genpipe.stages.clean import Cleaned
    from genpipe.stages.doctor import Finding
    from genpipe.stages.forget import Forgotten


@documented(Promote)
def promote(name: str, version: int | str, *, reason: str = "", progress: Progress = silent) -> Registered:
    """Make a version of a registered model its champion, or "previous": back to the one before.

    What consumers load as models:/NAME@champion is that version from then on.
    """
    return perform(request(Promote, locals()), progress)


@documented(Clean)
def clean(
    *,
    place: str | None = None,
    remove: bool = False,
    hours: float = 24,
    days: float = 30,
    keep: int | None = None,
    older: float | str | None = None,
    progress: Progress = silent,
) -> Cleaned:
    """Find, and with `remove` remove, what twins of a request, killed runs and ended ones left behind.

    What a manifest names, what is written to and the registry are never touched (genpipe/stages/clean.py),
    unless `keep` or `older` ask for what is whole and no longer wanted (genpipe/stages/retention.py).
    """
    return perform(request(Clean, locals()), progress)


@documented(Forget)
def forget(dataset: str | Path, *, remove: bool = False, progress: Progress = silent) -> Forgotten:
    """Find, and with `remove` unpublish and remove, a dataset and all that was learnt and made from it.

    Versions in the registry go first, then deliveries in the store, models, and the rows. A receipt says what
    went and what was looked at afterwards (genpipe/stages/forget.py); what was delivered elsewhere is not
    known.
    """
    return perform(request(Forget, locals()), progress)


@documented(Doctor)
def doctor(*, progress: Progress = silent) -> tuple[Finding, ...]:
    """Look at everything genpipe relies on; of each, whether it is well, and else what to do."""
    return perform(request(Doctor, locals()), progress)
