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
    "ingest": "genpipe.verbs",
    "train": "genpipe.verbs",
    "tune": "genpipe.verbs",
    "evaluate": "genpipe.verbs",
    "register": "genpipe.verbs",
    "promote": "genpipe.upkeep_verbs",
    "generate": "genpipe.verbs",
    "impute": "genpipe.verbs",
    "likelihood": "genpipe.verbs",
    "anomaly": "genpipe.latent_verbs",
    "classify": "genpipe.latent_verbs",
    "cluster": "genpipe.latent_verbs",
    "compress": "genpipe.latent_verbs",
    "edit": "genpipe.latent_verbs",
    "encode": "genpipe.latent_verbs",
    "interpolate": "genpipe.latent_verbs",
    "reconstruct": "genpipe.latent_verbs",
    "clean": "genpipe.upkeep_verbs",
    "forget": "genpipe.upkeep_verbs",
    "doctor": "genpipe.upkeep_verbs",
    "explain": "genpipe.stages.explain",
    "relate": "genpipe.related.draft",
    "run": "genpipe.flows.run",
    "validate": "genpipe.verbs",
    "Dataset": "genpipe.dataset",
    "Synthesizer": "genpipe.synthesizer",
    # names of an earlier version, for `likelihood`, `train` and `generate`
    "score": "genpipe.verbs",
    "train_tables": "genpipe.verbs",
    "generate_tables": "genpipe.verbs",
}
__all__ = [
    "Dataset",
    "Synthesizer",
    "__version__",
    "anomaly",
    "classify",
    "clean",
    "cluster",
    "compress",
    "doctor",
    "edit",
    "encode",
    "evaluate",
    "explain",
    "forget",
    "generate",
    "generate_tables",
    "impute",
    "ingest",
    "interpolate",
    "likelihood",
    "promote",
    "reconstruct",
    "register",
    "relate",
    "run",
    "score",
    "train",
    "train_tables",
    "tune",
    "validate",
]

if TYPE_CHECKING:
    from genpipe.dataset import Dataset
    from genpipe.flows.run import run
    from genpipe.latent_verbs import (
        anomaly,
        classify,
        cluster,
        compress,
        edit,
        encode,
        interpolate,
        reconstruct,
    )
    from genpipe.related.draft import relate
    from genpipe.stages.explain import explain
    from genpipe.upkeep_verbs import clean, doctor, forget, promote
    from genpipe.verbs import (
        evaluate,
        generate,
        generate_tables,
        impute,
        ingest,
        likelihood,
        register,
        score,
        train,
        train_tables,
        tune,
        validate,
    )


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'genpipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
