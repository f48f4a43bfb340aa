"""MLflow: where runs are noted, and where finished generators get a name, a version and an alias.

`track` and `log_trial` write experiments; `publish` registers a bundle or a set of related tables; `resolve`
turns a name into what was published.
MLflow itself is imported when first used: with its database in $GENPIPE_HOME, or with MLFLOW_TRACKING_URI.
What stands here is loaded when first used, too: `list` asks for names alone, which takes no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genpipe.registry.models import Registered, Resolved, publish, resolve
    from genpipe.registry.relations import holds_tables
    from genpipe.registry.tracking import Run, log_trial, track

__all__ = ["Registered", "Resolved", "Run", "holds_tables", "log_trial", "publish", "resolve", "track"]
_FROM = {
    "Registered": "models",
    "Resolved": "models",
    "publish": "models",
    "resolve": "models",
    "holds_tables": "relations",
    "Run": "tracking",
    "log_trial": "tracking",
    "track": "tracking",
}


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(import_module(f"genpipe.registry.{_FROM[name]}"), name)
    raise AttributeError(f"module 'genpipe.registry' has no attribute {name!r}")
