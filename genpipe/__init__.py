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

__version__ = "0.1.0"

_VERBS = {
    "ingest": "genpipe.stages.ingest",
    "train": "genpipe.stages.train",
    "tune": "genpipe.stages.tune",
    "evaluate": "genpipe.stages.evaluate",
    "register": "genpipe.stages.register",
    "generate": "genpipe.stages.generate",
    "impute": "genpipe.stages.complete",
    "score": "genpipe.stages.complete",
    "train_tables": "genpipe.stages.train_tables",
    "generate_tables": "genpipe.stages.generate_tables",
    "explain": "genpipe.stages.explain",
    "run": "flows.embedded",
    "validate": "genpipe.pipeline",
    "Dataset": "genpipe.dataset",
}
__all__ = [
    "Dataset",
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
    from flows.embedded import run
    from genpipe.dataset import Dataset
    from genpipe.pipeline import validate
    from genpipe.stages.complete import impute, score
    from genpipe.stages.evaluate import evaluate
    from genpipe.stages.explain import explain
    from genpipe.stages.generate import generate
    from genpipe.stages.generate_tables import generate_tables
    from genpipe.stages.ingest import ingest
    from genpipe.stages.register import register
    from genpipe.stages.train import train
    from genpipe.stages.train_tables import train_tables
    from genpipe.stages.tune import tune


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'genpipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
