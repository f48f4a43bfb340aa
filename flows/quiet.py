"""A night in which nothing changed: seen by looking, without Prefect, Ray, MLflow or torch.

A finished `run` leaves a note in $GENPIPE_HOME/nights: the spec, and what came of it. The next one of the
same spec, by the same code, is over where the source is as it was and everything that the note names is
there: the dataset, the model, the report, the champion, the delivery. What is not gives a run as ever.
With PREFECT_API_URL there is no such short cut: whoever has a server sees every night in it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from genpipe import store
from genpipe.documents import parse_json
from genpipe.errors import GenpipeError
from genpipe.flows.summary import Summary, describe
from genpipe.flows.there import bundle_exists, dataset_exists, file_missing, report_exists, study_exists
from genpipe.pipeline import PipelineSpec
from genpipe.pipeline.reading import given
from genpipe.plugins import GROUP
from genpipe.registry.glance import glance
from genpipe.registry.promotion import CHAMPION
from genpipe.requests import Ingest
from genpipe.settings import make_folder, read_settings
from genpipe.version import __version__

MOST = 2**24  # bytes of a note
log = logging.getLogger("genpipe.flows")


def unless_quiet(
    spec: str | Path | Mapping[str, Any], tag: str, work: Callable[[], Summary]
) -> tuple[Summary, bool]:
    """(What the note of an earlier run says, True) where nothing changed since, else (what `work` makes,
    False), which is noted. Raises what `work` raises, and SpecError for a file that cannot be read.
    """
    if "PREFECT_API_URL" in os.environ:
        return work(), False
    data, _, _ = given(spec)
    note = read_settings().home / "nights" / f"{_key(data, tag)}.json"
    began = time.monotonic()
    try:
        summary = _unchanged(note, data)
    except (GenpipeError, OSError, ValueError) as error:  # the run itself finds it
        log.info("not a quiet night: %s", error)
        summary = None
    if summary is not None:
        with suppress(OSError):
            os.utime(note)  # in use: `clean` removes those that are not
        return summary.model_copy(update={"seconds": {"look": time.monotonic() - began}, "fixed": {}}), True
    made = work()
    if "tables" not in data:  # of related tables every source is looked at where they are trained
        _write(note, made)
    return made, False


def _key(data: Mapping[str, Any], tag: str) -> str:
    """The same spec by the same code, with the same plug-ins, into the same places."""
    plugins = sorted(
        f"{each.name} {each.dist.name if each.dist else each.value} {each.dist.version if each.dist else ''}"
        for each in entry_points(group=GROUP)
    )
    settings = read_settings()
    places = [settings.store, settings.tracking_uri, os.getcwd()]
    # a spec from Python may hold what is no JSON; its text tells two specs apart as well
    return store.digest([__version__, plugins, places, tag, repr(data)])


def _unchanged(note: Path, data: Mapping[str, Any]) -> Summary | None:
    """The noted summary, as a run now would return it; None where anything has changed or is gone."""
    if not note.exists():
        return None
    told = parse_json(store.read_limited(str(note), MOST), where=str(note))
    if not isinstance(told, dict) or not {"summary", "champion"} <= told.keys():
        return None
    summary, spec = Summary.model_validate(told["summary"]), PipelineSpec.model_validate(data)
    registered, made = summary.registered, summary.generated
    if registered is None or (made is None) != (spec.generate is None):
        return None
    seen = (glance(spec.name) or {}).get(spec.name)  # nothing where MLflow must be asked
    if seen is None or seen.aliases.get(CHAMPION) != told["champion"]:
        return None
    if seen.aliases.get(registered["alias"]) != registered["version"]:
        return None
    if registered["version"] not in seen.versions or not bundle_exists(summary.model):
        return None
    if not report_exists(summary.report) or (summary.study and not study_exists(summary.study)):
        return None
    if spec.generate and made and (file_missing(spec.generate.output) or not dataset_exists(made)):
        return None
    return summary if _source_as_it_was(spec, summary) else None


def _source_as_it_was(spec: PipelineSpec, summary: Summary) -> bool:
    from genpipe.dataset import Dataset
    from genpipe.stages.ingest.wanted import wanted_by
    from genpipe.stages.named_data import note_ingested

    asked = Ingest.of(source=spec.source.path, name=spec.name, **spec.source.model_dump(exclude={"path"}))
    wanted = wanted_by(asked)  # lists a folder, and reads a table of a database, once
    if not Dataset.exists(wanted.uri) or describe(Dataset(wanted.uri)) != summary.dataset:
        return False
    note_ingested(wanted.name, wanted.request, wanted.source)  # as on any night
    return True


def _write(note: Path, summary: Summary) -> None:
    """Note what came of a run; one that cannot be noted is a run as any other."""
    seen = (glance(summary.name) or {}).get(summary.name)
    if seen is None or summary.registered is None:
        return
    registered = summary.registered
    if registered["alias"] == CHAMPION:
        registered = registered | {"reason": "already champion"}  # what the next run would say
    told = summary.model_copy(update={"registered": registered, "seconds": {}, "fixed": {}})
    value = {"champion": seen.aliases.get(CHAMPION), "summary": told.model_dump(mode="json")}
    with suppress(OSError, GenpipeError):
        make_folder(note.parent)
        store.write_bytes(str(note), store.canonical(value))
