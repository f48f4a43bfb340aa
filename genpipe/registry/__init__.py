"""MLflow: where runs are noted, and where finished generators get a name, a version and an alias.

`track` and `log_trial` write experiments; `publish` registers a bundle or a set of related tables; `resolve`
turns a name into what was published.
MLflow itself is imported when first used: with its database in $GENPIPE_HOME, or with MLFLOW_TRACKING_URI.
"""

from __future__ import annotations

from genpipe.registry.models import Registered, Resolved, publish, resolve
from genpipe.registry.package import holds_tables
from genpipe.registry.tracking import Run, log_trial, track

__all__ = ["Registered", "Resolved", "Run", "holds_tables", "log_trial", "publish", "resolve", "track"]
