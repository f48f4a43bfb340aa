"""Names, aliases and versions of the embedded registry, read from its database in a millisecond.

MLflow takes two seconds and 190 MB to import, which `list`, a name in a command and a night in which nothing
changed need not pay. Only a database that the installed MLflow made whole (database.py) is read so, and only
reading is done so; of all others the answer is None: ask MLflow.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from genpipe import store
from genpipe.registry.database import is_settled
from genpipe.settings import Settings, read_settings

NAMES = "SELECT name FROM registered_models WHERE workspace = 'default' ORDER BY name"
ALIASES = "SELECT name, alias, version FROM registered_model_aliases WHERE workspace = 'default'"
VERSIONS = """SELECT version, storage_location FROM model_versions
    WHERE workspace = 'default' AND name = ? AND status = 'READY' AND current_stage != 'Deleted_Internal'"""
ELSEWHERE = ("MLFLOW_REGISTRY_URI", "MLFLOW_WORKSPACE")  # where one is set, MLflow knows what it means


@dataclass(frozen=True)
class Seen:
    """aliases: and their versions. versions: whose files are where the registry says; None if not asked."""

    aliases: dict[str, int] = field(default_factory=dict)
    versions: frozenset[int] = frozenset()


def glance(name: str | None = None) -> dict[str, Seen] | None:
    """Registered name -> what is seen of it; None where MLflow must be asked.

    name: of one model, whose versions are looked at, too.
    """
    settings = read_settings()
    if not _embedded(settings):
        return None
    own = settings.home / "mlflow.db"
    if not own.exists():
        return {}
    if not is_settled(own):
        return None
    try:
        return _read(own, name)
    except (sqlite3.Error, ValueError):  # in use, damaged, or of other tables
        return None


def _embedded(settings: Settings) -> bool:
    own = settings.tracking_uri == f"sqlite:///{settings.home / 'mlflow.db'}"
    return own and not any(os.environ.get(name) for name in ELSEWHERE)


def _read(path: Path, name: str | None) -> dict[str, Seen]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
        aliases: dict[str, dict[str, int]] = {each: {} for (each,) in database.execute(NAMES)}
        for each, alias, version in database.execute(ALIASES):
            aliases.setdefault(each, {})[alias] = int(version)
        if name is None:
            return {each: Seen(some) for each, some in aliases.items()}
        if name not in aliases:
            return {}
        found = database.execute(VERSIONS, (name,)).fetchall()
    there = {int(number) for number, place in found if place and store.exists(f"{place}/MLmodel")}
    return {name: Seen(aliases[name], frozenset(there))}
