"""Raw data -> (Schema, Arrow batches), one file a data kind. `open_source` finds which one an input needs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from genpipe.databases import is_database
from genpipe.errors import UsageError, rule_of, unknown
from genpipe.plugins import Registry
from genpipe.sources.audio import SUFFIXES as WAVES
from genpipe.sources.audio import AudioOptions, AudioSource
from genpipe.sources.base import Options, Source
from genpipe.sources.builtin import BuiltinSource
from genpipe.sources.files import File, choose_files, suffix_of
from genpipe.sources.images import SUFFIXES as PICTURES
from genpipe.sources.images import ImageOptions, ImageSource
from genpipe.sources.labelled import SHEETS
from genpipe.sources.limits import shown
from genpipe.sources.series import SeriesOptions, SeriesSource
from genpipe.sources.tabular.database import DatabaseOptions, open_table
from genpipe.sources.tabular.frame import is_frame, open_frame
from genpipe.sources.tabular.source import SUFFIXES as TABLES
from genpipe.sources.tabular.source import TableOptions, TableSource
from genpipe.sources.text import SUFFIXES as TEXTS
from genpipe.sources.text import TextOptions, TextSource

# kind -> what reads it, what a user may set, the names it takes from a folder
SOURCES: Registry[tuple[type[Source], type[Options], tuple[str, ...]]] = Registry(
    "sources",
    {
        "tabular": (TableSource, TableOptions, TABLES),
        "image": (ImageSource, ImageOptions, PICTURES),
        "series": (SeriesSource, SeriesOptions, TABLES),
        "text": (TextSource, TextOptions, TEXTS),
        "audio": (AudioSource, AudioOptions, WAVES),
    },
)


def open_source(source: Any, *, kind: str | None = None, options: Mapping[str, Any] | None = None) -> Source:
    """List the input and choose its source; nothing but names is read yet. source: places, or a frame."""
    options = dict(options or {})
    if kind is not None and kind not in SOURCES:
        raise unknown("kind", kind, SOURCES)
    if is_frame(source):
        return open_frame(source, parse_options(TableOptions, options, "a data frame"), kind)
    if is_database(source):
        return open_table(str(source), parse_options(DatabaseOptions, options, "a database"), kind)
    if isinstance(source, str) and source.startswith("builtin:"):
        builtin = BuiltinSource(
            source.removeprefix("builtin:"), parse_options(Options, options, "a built-in source")
        )
        if kind not in (None, builtin.kind):
            raise UsageError(
                "KIND", where=source, found=f"kind {kind!r}", expected=builtin.kind, fix="leave kind= out"
            )
        return builtin
    if kind is None and "field" in options:
        kind = "text"
    files, others = choose_files(
        source, lambda name: takes(name, *([kind] if kind else SOURCES), tables=True)
    )
    kind = kind or guess_kind(files, options)
    tables = "field" in options or not any(takes(f.name, kind) for f in files)
    reader, options_type, _ = SOURCES[kind]
    wanted = {f.uri: f for f in files if not f.root or takes(f.name, kind, tables=tables)}
    opened = reader.of(tuple(wanted.values()), parse_options(options_type, options, f"{kind} data"))
    opened.others = others + Counter(f.suffix or "without a suffix" for f in files if f.uri not in wanted)
    return opened


def takes(name: str, *kinds: str, tables: bool = False) -> bool:
    """Whether one of the kinds reads files of this name. tables: of which text may be a column."""
    name = name.lower()
    return any(
        name.endswith(suffixes := SOURCES[k][2] + (TABLES if tables and k == "text" else ()))
        or suffix_of(name) in suffixes
        or name in SOURCES[k][0].sheets
        for k in kinds
    )


def guess_kind(files: Sequence[File], options: Mapping[str, Any]) -> str:
    """The kind of most bytes (a README beside pictures is no text); a series' options make a table one. A
    sheet of labels beside several pictures or sounds says nothing.
    """
    media = [f for f in files if takes(f.name, "image", "audio") and f.name.lower() not in SHEETS]
    files = [f for f in files if len(media) < 2 or f.name.lower() not in SHEETS]
    sizes = {
        kind: sum(f.size for f in files if takes(f.name, kind)) + sum(takes(f.name, kind) for f in files)
        for kind in SOURCES
    }
    found = max(sizes, key=lambda kind: sizes[kind])  # the first of equals: a table before a series
    if not sizes[found]:
        raise UsageError(
            "KIND",
            where=files[0].uri,
            found="a file type genpipe cannot tell",
            expected="kind= one of " + ", ".join(SOURCES),
            fix="say which kind= it is",
        )
    return "series" if found == "tabular" and {"time", "entity", "window", "stride"} & set(options) else found


def parse_options(model: type[Options], options: Mapping[str, Any], what: str) -> Any:
    for name in options:
        if name not in model.model_fields:
            raise unknown("option", name, model.model_fields, where=f"ingest of {what}")
    values = {k: _plain(k, v, model) for k, v in options.items()}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(
            "OPTION", where=name, found=shown(first["input"]), expected=rule_of(first["msg"])
        ) from None


def _plain(name: str, value: Any, model: type[Options]) -> Any:
    """An option's value as its model takes it: one of several texts may stand alone, and -9 be a text."""
    if name == "memory":
        return parse_bytes(value)
    if isinstance(value, list):
        return tuple(value)
    several = "tuple[str" in str(model.model_fields[name].annotation)
    if several and isinstance(value, str | bool | int | float):
        return (value if isinstance(value, str) else json.dumps(value),)
    return value


def parse_bytes(value: Any) -> int:
    """`64 MiB`, `64M`, 67108864 -> bytes."""
    if isinstance(value, int):
        return value
    text = str(value).lower().replace(" ", "").removesuffix("ib").removesuffix("b")
    scale = {"k": 2**10, "m": 2**20, "g": 2**30}.get(text[-1:], 1)
    try:
        return int(float(text.rstrip("kmg")) * scale)
    except (ValueError, OverflowError):
        raise UsageError(
            "OPTION", where="memory", found=repr(value), expected="bytes, such as 268435456 or 256MiB"
        ) from None


__all__ = ["SOURCES", "Source", "open_source"]
