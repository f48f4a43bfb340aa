"""Do the columns that a spec names stand in its files? Their headers and first rows are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from genpipe.errors import GenpipeError, closest, few
from genpipe.yaml_file import Path_

SHOWN = 20  # columns


def column_problems(opened: Any, asked: Mapping[Path_, Any]) -> list[tuple[Path_, str]]:
    """asked: key of the spec -> the column, or columns, that it names. opened: the source; of one that is no
    table of files nothing is known before it is ingested.
    """
    from genpipe.sources.tabular.source import TableSource

    if type(opened) is not TableSource:
        return []
    wanted = [(path, name) for path, value in asked.items() for name in _names(value)]
    if not wanted:
        return []
    try:
        names = list(opened.names())
    except (GenpipeError, StopIteration):
        return []  # whoever ingests it is told which file, and what is wrong with it
    return [(path, _told(name, names)) for path, name in wanted if name not in names]


def _names(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else ()


def _told(name: str, names: list[str]) -> str:
    like = closest(name, sorted(names, key=lambda n: n.lower() != name.lower()))
    text = f"found {name!r}, which is no column; expected one of {few(names, SHOWN)}"
    return f"{text}; {like}" if like else text
