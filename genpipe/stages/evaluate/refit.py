"""evaluate of a generator that learnt all rows: its twin is judged, and then it is compared with it.

Whatever rows it is asked about, it learnt some or all of them. So it is never judged by them as if it had
not: that is its twin, of which alone the split says what it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.errors import DataError, GenpipeError
from genpipe.evaluation.refit import evaluate_refit, of_twin
from genpipe.evaluation.report import Report
from genpipe.registry.tracking import placed
from genpipe.stages.rows.likelihoods import evidence

PIECE = 65_536


def twin_of(bundle: Bundle, at_home: Callable[[Bundle, str], str]) -> Bundle | None:
    """The twin of a generator that learnt all rows; None of any other. Raises DataError where it is gone."""
    run = bundle.origin.get("twin")
    if run is None:
        return None
    where, found = placed(str(bundle.origin.get("twin_uri", ""))), "no twin there"
    try:
        twin = Bundle.open(at_home(bundle, where))
        if twin.origin.get("run_id") == run and "twin" not in twin.origin:
            return twin
        found = "another model"
    except GenpipeError as error:
        if error.code not in ("NOBUNDLE", "BUNDLE", "SHA256"):
            raise
    raise DataError(
        "NOTWIN",
        where=where,
        found=f"{found}: this model learnt all rows, and only its twin, run {run}, can be judged",
        expected="the twin's bundle, where it was trained",
        fix="put the run back, or train again with final: all (--final all)",
    )


def compared(
    bundle: Bundle,
    twin: Bundle,
    report: Report,
    dataset: Dataset,
    lineage: Mapping[str, Any],
    most: int,
    *,
    foreign: bool,
) -> tuple[Report, pa.Table, pa.Table]:
    """(the report, held-out rows, generated rows). report: of the twin. dataset: the one that was split, or
    foreign, of which nobody knows what it learnt: then it is not attacked. most: held-out rows looked at.
    """
    seed, unseen = report.seed, dataset.judging(most, report.seed)
    told = {**lineage, "learnt": bundle.learnt, "judged": f"its twin, {twin.fingerprint}"}
    rows = bundle.sample(report.rows, seed=seed)
    if foreign:
        return of_twin(report, told), unseen, rows
    both = rows, twin.sample(report.rows, seed=seed)
    known = evidence(bundle, dataset, seed), evidence(twin, dataset, seed)
    train = (pa.Table.from_batches([batch]) for batch in dataset.batches("train", rows=PIECE))
    made = evaluate_refit(report, both, known, train, unseen, bundle.schema, seed=seed, lineage=told)
    return made, unseen, rows
