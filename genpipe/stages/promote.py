"""promote: a version of a registered model becomes champion because a person says so, and back again."""

from __future__ import annotations

from genpipe.errors import DataError, UsageError, unknown
from genpipe.progress import Event, Progress, silent
from genpipe.registry import Registered
from genpipe.registry.promotion import CHAMPION, UNSOUND, Promotion
from genpipe.registry.tracking import client, reaching
from genpipe.requests import Promote

REASON = "promoted"  # tag of the version: why a person chose it


def promote(asked: Promote, *, progress: Progress = silent) -> Registered:
    """Move the alias `champion` to a version, or to the one that was champion before the present one.

    Raises UsageError for a model, or DataError for a version, that is not there. A version that was not
    checked or did not pass takes a reason, which stays in its tags.
    """
    to = client()
    with reaching():
        names = [m.name for m in to.search_registered_models(max_results=1000)]
        if asked.name not in names:
            raise unknown("model", asked.name, names or ["(none registered yet)"])
        promotion = Promotion(to, asked.name, CHAMPION)
        version = promotion.before() if asked.version == "previous" else int(asked.version)
        if version is None:
            found, fix = "no champion before this one", "say which version"
            raise DataError("NOVERSION", where=asked.name, found=found, fix=fix)
        known = {int(v.version): v for v in to.search_model_versions(f"name = '{asked.name}'")}
        if version not in known:
            have = ", ".join(map(str, sorted(known)))
            found = f"no version {version}"
            raise DataError("NOVERSION", where=asked.name, found=found, expected=f"one of {have}")
        if set(known[version].tags) & set(UNSOUND) and not asked.reason:
            found = f"version {version}, which was not checked or did not pass"
            fix = "say why it is to be champion: --reason (reason=)"
            raise UsageError("REASON", where=asked.name, found=found, expected="a reason", fix=fix)
        if asked.reason:
            to.set_model_version_tag(asked.name, str(version), REASON, asked.reason)
        old = promotion.version
        if old != version:
            promotion.move(version)
    reason = "already champion" if old == version else f"promoted by hand, in place of version {old}"
    reason += f": {asked.reason}" if asked.reason else ""
    progress(Event("promote", done=1, total=1, unit="versions", note=reason))
    return Registered(asked.name, version, CHAMPION, f"models:/{asked.name}/{version}", reason)
