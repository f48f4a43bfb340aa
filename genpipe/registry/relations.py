"""The tables.json of a set of related tables: what it names, checked before it is used.

Apart from package.py, which opens bundles: whether there is a set is asked of every word a person types.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from genpipe import store
from genpipe.documents import parse_json
from genpipe.errors import DataError

RELATIONS = "tables.json"
MAX_RELATIONS, MAX_TABLES = 64 * 2**20, 1000
FINGERPRINT = re.compile(r"[0-9a-f]{20}")  # what `store.digest` makes
PLACE = re.compile(r"models/[0-9]{2,4}-[a-z0-9][a-z0-9._-]{0,62}")  # of a bundle in a published set


def holds_tables(uri: str) -> bool:
    """Whether there is a set of related tables, and not a bundle."""
    return not uri.startswith("models:") and store.exists(store.join(uri, RELATIONS))


def relations(uri: str, *, published: bool = False) -> dict[str, Any]:
    """What tables.json says, checked as far as it names things: a stranger may have written it.

    A set that was published has no place of its own, and its bundles lie in the folder, behind no link; else
    they are where `train_tables` left them, at absolute places. Raises FileNotFoundError and DataError.
    """
    where = store.join(uri, RELATIONS)
    told = parse_json(store.read_limited(where, MAX_RELATIONS), where=where)
    if not isinstance(told, dict) or not {"name", "fingerprint", "nodes", "models"} <= set(told):
        expected = "a model that `genpipe train` made of a spec of tables"
        raise DataError("TABLES", where=where, found="no relations of trained tables", expected=expected)
    models, own = told["models"], told.get("uri", "")
    places = models.values() if isinstance(models, dict) else [None]
    texts = [told["name"], told["fingerprint"], own, *places]
    if not all(isinstance(text, str) for text in texts) or not 0 < len(models) <= MAX_TABLES:
        raise wrong(where, "values of another kind", "text, and for each table the place of its bundle")
    if not store.is_name(told["name"]) or not FINGERPRINT.fullmatch(told["fingerprint"]):
        raise wrong(where, "an impossible name or fingerprint", "those that `genpipe train` gave")
    if published and own:
        raise wrong(where, "a set that lies elsewhere", "one that was published")
    for place in models.values():
        if own and not (place.startswith("/") or "://" in place):
            raise wrong(where, f"the place {place[:80]!r}", "an absolute one")
        if not own and not (PLACE.fullmatch(place) and _inside(uri, place)):
            raise wrong(where, f"the place {place[:80]!r}", "a folder such as models/00-name, and no link")
    return told


def wrong(where: str, found: str, expected: str) -> DataError:
    return DataError("TABLES", where=where, found=found, expected=expected, fix="train and register again")


def _inside(uri: str, place: str) -> bool:
    """Whether a folder below `uri` is really there: no part of its path below is a link."""
    if store.scheme_of(uri) != "file":
        return True
    root = Path(store.path_of(uri)).resolve()
    return (root / place).resolve() == root / place


def name_of_tables(uri: str) -> tuple[str, str]:
    """(name, fingerprint) of a set of tables."""
    told = relations(uri)
    return told["name"], told["fingerprint"]
