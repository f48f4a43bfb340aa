"""What an ingest is asked for: the source, opened, and the dataset it becomes, by the id of its request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genpipe import store
from genpipe.databases import is_database, place_of
from genpipe.requests import Ingest
from genpipe.schema import Schema
from genpipe.settings import read_settings
from genpipe.sources import Source, open_source
from genpipe.sources.schema_file import schema_from_yaml
from genpipe.stages.ingest.entity import sampled_by
from genpipe.stages.named_data import name_of_source, taken
from genpipe.version import __version__

REVISION = 5  # of the bytes ingest writes; part of every request id


@dataclass(frozen=True)
class Wanted:
    """uri: of the dataset, whether it is there or not. request: its id. schema: where it was given.
    roles: target and key. settings: of the splits and of bad files, as the dataset's origin tells them.
    """

    opened: Source
    name: str
    source: Any
    uri: str
    request: str
    schema: Schema | None
    entity: Any
    options: dict[str, Any]
    roles: dict[str, Any]
    settings: dict[str, Any]


def wanted_by(asked: Ingest, *, schema: Schema | None = None, frame: Any = None) -> Wanted:
    """Open the source and name the dataset; nothing is read in full, and nothing is written."""
    source = asked.source if isinstance(asked.source, str) else list(asked.source)
    if isinstance(source, str) and is_database(source):
        source = place_of(source, asked.options or {})
    name = store.check_name(asked.name or name_of_source(source))
    if asked.name is None:
        taken(name, source)
    options, entity = asked.options or {}, asked.entity
    if asked.kind == "series" or {"time", "window", "stride"} & set(options):
        options, entity = options | ({"entity": entity} if entity else {}), None
    options = sampled_by(options, entity)
    opened = open_source(source if frame is None else frame, kind=asked.kind, options=options)
    given = schema_from_yaml(asked.schema_file) if asked.schema_file else schema
    roles: dict[str, Any] = {"target": asked.target, "key": asked.key or ()}
    about_whom = {"entity": entity} if entity is not None else {}
    bad = [asked.on_bad_file, asked.max_bad]
    settings = {"holdout": asked.holdout, "min_rows": asked.min_rows, "bad": bad}
    request = _request(opened, given, roles | settings | about_whom)
    uri = store.join(read_settings().store, "datasets", name, request)
    return Wanted(opened, name, source, uri, request, given, entity, options, roles, settings)


def _request(source: Source, schema: Schema | None, settings: dict[str, Any]) -> str:
    """The id of a request: everything the bytes of the dataset depend on."""
    listed = [source.kind, source.identity, source.options.model_dump(), schema and schema.model_dump()]
    return store.digest([__version__, REVISION, listed, settings])
