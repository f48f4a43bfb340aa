"""genpipe: learn from data you may not share, deliver data you may.

The verbs of the command line are functions of the same names here, loaded when first used, so that
`import genpipe` costs nothing:

    dataset = genpipe.ingest("people.csv")
    model = genpipe.train(dataset)
    genpipe.generate(model, rows=1000).pandas()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from genpipe.version import __version__

_VERBS = {
    "ingest": "genpipe.stages.ingest.verb",
    "train": "genpipe.verbs",
    "tune": "genpipe.stages.tune.verb",
    "evaluate": "genpipe.verbs",
    "register": "genpipe.verbs",
    "generate": "genpipe.verbs",
    "impute": "genpipe.stages.rows.verb",
    "score": "genpipe.stages.rows.verb",
    "explain": "genpipe.stages.explain",
    "run": "genpipe.flows.embedded",
    "validate": "genpipe.verbs",
    "Dataset": "genpipe.dataset",
    # names of an earlier version, for `train` and `generate`
    "train_tables": "genpipe.related.train",
    "generate_tables": "genpipe.related.generate",
}
__all__ = [
    "Dataset",
    "__version__",
    "evaluate",
    "explain",
    "generate",
    "generate_tables",
    "impute",
    "ingest",
    "register",
    "run",
    "score",
    "train",
    "train_tables",
    "tune",
    "validate",
]

if TYPE_CHECKING:
    from genpipe.dataset import Dataset
    from genpipe.flows.embedded import run
    from genpipe.related.generate import generate_tables
    from genpipe.related.train import train_tables
    from genpipe.stages.explain import explain
    from genpipe.stages.ingest.verb import ingest
    from genpipe.stages.rows.verb import impute, score
    from genpipe.stages.tune.verb import tune
    from genpipe.verbs import evaluate, generate, register, train, validate


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'genpipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
