"""register of related tables: all tables as one version, which competes for `champion` like any other."""

from __future__ import annotations

from pathlib import Path

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.evaluation.report import Report
from genpipe.progress import Event, Progress, silent
from genpipe.registry import Registered, publish, resolve
from genpipe.registry.models import CHANGED
from genpipe.related.evaluate import evaluate_tables
from genpipe.related.train import find_tables, open_tables
from genpipe.requests import Evaluate, Register
from genpipe.stages.checked import unless_unchecked
from genpipe.stages.register import agreed, check_published, terms_of, told


def register_tables(
    asked: Register, *, report: Report | None = None, progress: Progress = silent
) -> Registered:
    """As `register`; a champion of other tables or columns is not comparable."""
    terms = terms_of(asked)
    trained = find_tables(asked.model)[1]
    name = store.check_name(asked.name or trained.name)
    judge = Evaluate.of(model=asked.model)
    report = report or unless_unchecked(evaluate_tables, judge, asked.unchecked, progress)
    terms = agreed(report, terms)
    for uri in trained.models.values():
        check_published(Bundle.open(uri))
    progress(Event("register", done=0, total=1, unit="versions", note=name))
    families = int(report.lineage.get("families", 0))

    def rescore(champion: str) -> float | str | None:
        found = resolve(champion)
        if not found.tables or open_tables(found.uri).shape != trained.shape:
            return CHANGED
        if not families:
            return None
        if "cross-fitting" in report.lineage:  # judged by other models than either
            return None
        again = Evaluate.of(model=found.uri, dataset=trained.uri, rows=families, seed=report.seed)
        return evaluate_tables(again).metrics["fidelity"]

    registered = publish(
        trained.uri,
        name=name,
        metrics=report.metrics or {"fidelity": 0.0},
        holdout=str(report.lineage["dataset fingerprint"]),
        rescore=rescore,
        terms=terms,
        code=Path(__file__).with_name("pyfunc_tables.py"),
    )
    return told(registered, progress)
