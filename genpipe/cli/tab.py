"""What a shell offers behind the tab key: datasets, models and recipes by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from genpipe.errors import GenpipeError

RUN = re.compile(r"(?P<name>.+)-[0-9a-f]{10}(?:[0-9a-f]{10})?")


def beginning(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """As typer asks for it. A shell that waits for words has no use for an error."""

    def offered(incomplete: str) -> list[str]:
        try:
            return sorted({name for name in names() if name.startswith(incomplete)})
        except (GenpipeError, OSError):
            return []

    return offered


def datasets() -> list[str]:
    from genpipe.stages.named_data import datasets_in_store

    return datasets_in_store()


def models() -> list[str]:
    """Names of runs and of related tables, read off the folders: the registry takes seconds to start."""
    from genpipe import store
    from genpipe.settings import read_settings

    root = read_settings().store
    folders = [child for place in ("runs", "tables") for child in store.names_in(store.join(root, place))]
    return [found["name"] for child in folders if (found := RUN.fullmatch(child))]


def recipes() -> list[str]:
    from genpipe.recipes import RECIPES

    return list(RECIPES)


OFFERED = {
    "dataset": beginning(datasets),
    "model": beginning(models),
    "recipe": beginning(recipes),
    "recipes": beginning(recipes),
}
