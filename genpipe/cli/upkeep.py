"""The verbs around a house in use: doctor, clean."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from genpipe.cli.app import app
from genpipe.cli.models import perform
from genpipe.cli.options import asked, options
from genpipe.cli.output import echo
from genpipe.errors import InfrastructureError
from genpipe.requests import Clean, Doctor

MOST_LINES = 40


@app.command()
@options(Clean)
def clean(**given: Any) -> None:
    """Find what twins, killed runs and ended ones left behind; with --remove, remove it.

    What a manifest names, what is written to, and the registry are never touched.

    \b
    genpipe clean
    genpipe clean --remove
    genpipe clean --place s3://deliver/people --remove
    """
    cleaned = perform(asked(Clean, given))
    by_reason = defaultdict(list)
    for each in cleaned.found:
        by_reason[each.why].append(each)
    for why, some in by_reason.items():
        echo(f"{why}: {len(some)}, {sum(each.bytes for each in some) / 1e6:,.1f} MB")
        for each in some[:MOST_LINES]:
            echo(f"  {each.place}")
        if len(some) > MOST_LINES:
            echo(f"  ... and {len(some) - MOST_LINES:,} more")
    for left in cleaned.left:
        echo(f"left alone: {left}")
    done = "removed" if cleaned.removed else "found; nothing was removed, --remove does it"
    echo(
        f"{len(cleaned.found)} leftovers, {cleaned.bytes / 1e6:,.1f} MB: {done}"
        if by_reason
        else "no leftovers"
    )


@app.command()
@options(Doctor)
def doctor(**given: Any) -> None:
    """Look at everything genpipe relies on, and say of each whether it is well or what to do.

    Versions, home, store with its conditional create and clock, disk, memory, MLflow, Prefect, the
    databases, Ray, GPU; as the environment names them. Exit code 4 where something is not well.

    \b
    genpipe doctor && genpipe run examples/people.yaml
    """
    found = perform(asked(Doctor, given))
    width = max(len(each.name) for each in found)
    for each in found:
        echo(f"{'ok ' if each.ok else 'BAD'}  {each.name:<{width}}  {each.found}")
        if not each.ok:
            echo(f"     {'':<{width}}  -> {each.fix}")
    if bad := [each.name for each in found if not each.ok]:
        raise InfrastructureError(
            "DOCTOR", where=", ".join(bad), found="not as it should be", fix="see the lines above"
        )
