"""The verbs around a house in use: doctor, clean, forget, list, show, env."""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from typing import Annotated, Any

import typer

from genpipe.cli.app import app
from genpipe.cli.models import perform
from genpipe.cli.options import asked, options
from genpipe.cli.output import echo
from genpipe.errors import InfrastructureError
from genpipe.requests import Clean, Doctor, Forget

MOST_LINES = 40


@app.command()
@options(Clean)
def clean(**given: Any) -> None:
    """Find what twins, killed runs and ended ones left behind; with --remove, remove it.

    What a manifest names and what is written to are not touched, nor is the registry. With --keep or --older
    what is whole goes, too, versions of this store in the registry among it: but for the newest, what an
    alias of the registry names, and what these need.

    \b
    genpipe clean
    genpipe clean --remove
    genpipe clean --keep 30 --older 90d
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
@options(Forget)
def forget(dataset: str, **given: Any) -> None:
    """Find a dataset and all that was learnt and made from it; with --remove, unpublish and remove it.

    Versions in the registry go first, deliveries in the store next, the rows last. A receipt says what went.
    What was delivered elsewhere, or loaded by consumers, is not known here.

    \b
    genpipe forget people
    genpipe forget people --remove
    """
    from genpipe.stages.inventory import WORDS

    forgotten = perform(asked(Forget, {"dataset": dataset, **given}))
    for each in forgotten.found:
        by = f", {', '.join(each.aliases)}" if each.aliases else ""
        size = f", {each.bytes / 1e6:,.1f} MB" if each.bytes else ""
        echo(f"{WORDS[each.kind]}{by}{size}: {each.place}")
    done = "removed" if forgotten.removed else "found; nothing was removed, --remove does it"
    echo(f"{len(forgotten.found)} outputs, {forgotten.bytes / 1e6:,.1f} MB: {done}")
    if forgotten.receipt:
        echo(f"receipt {forgotten.receipt}")


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


@app.command()
def env() -> None:
    """Print the variables by which a shell, and MLflow's own commands, find this home and its registry.

    \b
    eval "$(genpipe env)"
    """
    from genpipe.settings import registry_variables

    for name, value in registry_variables().items():
        echo(f"export {name}={shlex.quote(value)}")


@app.command("list")
def list_all() -> None:
    """List the datasets, models and registered versions of this home; of a name the newest model first.

    \b
    genpipe list
    """
    from genpipe.settings import read_settings
    from genpipe.stages.named_data import datasets_in_store, latest_of
    from genpipe.stages.named_models import models_in_store, registered

    settings = read_settings()
    rows = list[tuple[str, str, str]]()
    for name in datasets_in_store():
        data, at = latest_of(name)
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
        told = f"{data.schema.kind}, {data.rows('train'):,} + {data.rows('holdout'):,} rows, {when}"
        rows.append(("dataset", name, told))
    for name, runs in models_in_store().items():
        rows += [("model", name, uri) for uri in runs]
    for name, aliases in registered().items():
        told = ", ".join(f"{alias} is version {version}" for alias, version in aliases.items())
        rows.append(("registered", name, told or "no alias"))
    if not rows:
        return echo(f"nothing yet in {settings.home} (GENPIPE_HOME); begin with: genpipe ingest FILE")
    echo(f"home        {settings.home}")
    width = max(len(name) for _, name, _ in rows)
    for kind, name, told in rows:
        echo(f"{kind:<10}  {name:<{width}}  {told}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Of a dataset, model or search; by default all.")] = "",
) -> None:
    """Show what lies in the store and the registry: how large, how old, how many use it.

    Of one name, the newest first, also what each was made of and what was made of it.

    \b
    genpipe show
    genpipe show people
    """
    from genpipe.errors import unknown
    from genpipe.settings import read_settings
    from genpipe.stages.inventory import take_inventory

    store = str(read_settings().store)
    found = take_inventory(store)
    names = {thing.name for thing in found.things.values() if thing.kind != "copy"}
    if name and name not in names:
        raise unknown("name", name, sorted(names), where=store)
    users = found.users()

    def called(place: str) -> str:
        return place.removeprefix(f"{store}/")

    for thing in sorted(found.things.values(), key=lambda t: (t.name, -t.at)):
        if name not in ("", thing.name):
            continue
        used = sorted(map(called, users.get(thing.place, ())))
        marks = [*thing.aliases, *(["the last ingested"] if thing.latest else [])]
        marks += [] if thing.whole else ["not finished"]
        marks += [f"used by {len(used)}"] if used else []
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(thing.at))
        size = f"{thing.bytes / 1e6:10,.3f} MB" if thing.bytes else " " * 13
        echo(f"{when}  {size}  {thing.kind:<8}  {called(thing.place)}  {', '.join(marks)}".rstrip())
        if name:
            made = sorted(map(called, found.named_by(thing)))
            for line in [
                *(f"made of   {place}" for place in made),
                *(f"used by   {place}" for place in used),
            ]:
                echo(f"{'':31}  {line}")
    total = sum(thing.bytes for thing in found.things.values())
    echo(f"{len(found.things)} outputs, {total / 1e6:,.1f} MB, in {store}")
