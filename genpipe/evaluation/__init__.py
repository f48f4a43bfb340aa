"""How good, how useful and how private generated rows are: pure functions of Arrow tables.

    fidelity(real, synthetic, schema)                      one number, cheap: what training and search watch
    Fidelity(real, schema).score(synthetic)                the same, with the real side computed once
    evaluate_tables(train, holdout, synthetic, schema)     a Report: every score beside its ceiling and floor
    write_report(report, uri, ..), sample_grid(table, ..)  the page and the picture people look at

numpy, scikit-learn and scipy only: nobody here sees a model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from genpipe.evaluation.audio import AudioJudge
from genpipe.evaluation.base import Judge
from genpipe.evaluation.image import ImageJudge
from genpipe.evaluation.series import SeriesJudge
from genpipe.evaluation.tabular import TabularJudge
from genpipe.evaluation.text import TextJudge
from genpipe.plugins import Registry

if TYPE_CHECKING:
    import pyarrow as pa

    from genpipe.schema import Schema

JUDGES: Registry[type[Judge]] = Registry(
    "judges",
    {
        "tabular": TabularJudge,
        "image": ImageJudge,
        "series": SeriesJudge,
        "text": TextJudge,
        "audio": AudioJudge,
    },
)


class Fidelity:
    """Fidelity against one real table; the real side is prepared once, so every further score is cheap."""

    def __init__(self, real: pa.Table, schema: Schema, *, seed: int = 0) -> None:
        self.judge = JUDGES[schema.kind](real, schema, seed=seed)

    def score(self, synthetic: pa.Table) -> float:
        """In [0, 1], higher is better; a QualityError where the rows hold NaN."""
        return self.judge.score(synthetic)


def fidelity(real: pa.Table, synthetic: pa.Table, schema: Schema, *, seed: int = 0) -> float:
    """How alike two tables are, in [0, 1]: the mean of the kind's parts times the diversity of the rows."""
    return Fidelity(real, schema, seed=seed).score(synthetic)


_LAZY = {
    "Report": "genpipe.evaluation.report",
    "Score": "genpipe.evaluation.report",
    "evaluate_tables": "genpipe.evaluation.assess",
    "write_report": "genpipe.evaluation.page.page",
    "sample_grid": "genpipe.evaluation.page.pictures",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'genpipe.evaluation' has no attribute {name!r}")
