"""evaluate: a trained or registered generator against the holdout it has never seen, as a Report.

Writes, beside the run and under an id of the request, `report.html`, `samples.png` and, last and once,
`report.json`. The same model, dataset, rows and seed is the same request: it is done once, and gives the same
report to the bit wherever it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.codecs.tabular.protect import hidden_words
from genpipe.dataset import MIN_HOLDOUT, Dataset
from genpipe.evaluation.assess import evaluate_tables, fidelity_alone
from genpipe.evaluation.page.page import withheld, write_report
from genpipe.evaluation.page.pictures import sample_grid
from genpipe.evaluation.privacy.attacks import Evidence
from genpipe.evaluation.report import Report
from genpipe.progress import Event, Progress, silent
from genpipe.requests import Evaluate
from genpipe.stages.checked import learnt_before
from genpipe.stages.evaluate.crossfit import cross_fitted
from genpipe.stages.evaluate.latent import latent_view
from genpipe.stages.evaluate.refit import compared
from genpipe.stages.evaluate.wanted import MAX_ROWS, Wanted, wanted_by
from genpipe.stages.rows.likelihoods import evidence
from genpipe.version import __version__

SIDE_ROWS, SIDE_VALUES = 50_000, 2**27  # of training rows, and of held-out rows, held in memory
PIECE_VALUES = 2**24  # of all training rows, which privacy goes through in pieces
STEPS, REPORT = 5, "report.json"


def evaluate(asked: Evaluate, *, progress: Progress = silent) -> Report:
    """Score a generator and write its report; returns the Report with the URIs of what was written.

    Of the dataset's holdout those rows count that neither early stopping nor a search looks at, where there
    are enough (`Dataset.judging`), at most 10,000 of them, for privacy 50,000. Of more than 50,000 training
    rows, which may fill much memory, only privacy looks at all: piece by piece for the nearest of 2,000
    generated rows, and for copies of any. As many rows are generated as the holdout has if none are asked
    for, at least 500 and at most 10,000. With `real_examples` the page is for the owner alone.
    Of one that learnt all rows its twin is judged, and itself only attacked (evaluate/refit.py).
    Of fewer than 50 held-out entities as many models are trained as there are `folds`, each without some of
    all entities, and each is judged by those (crossfit.py); by default where that is cheap.
    Raises PrivacyError where the holdout is too small or is not the one set aside in training.
    """
    wanted = wanted_by(asked)
    bundle, found, rows, seed = wanted.bundle, wanted.dataset, wanted.rows, asked.seed
    folder, run, folds, foreign = wanted.folder, wanted.run, wanted.folds, wanted.foreign
    if (done := _done(folder)) is not None:
        progress(Event("evaluate", done=STEPS, total=STEPS, unit="steps", note="already evaluated"))
        return done

    step = _Steps(progress)
    step(0, "reading the dataset")
    found.verify()
    lineage = _lineage(bundle, found, wanted.name)
    if wanted.twin:
        twin = evaluate(_of_twin(asked, wanted), progress=progress)
        step(2, "comparing it with its twin")
        most = _held(int(np.prod(bundle.spec.shape)), rows)
        report, holdout, synthetic = compared(
            bundle, wanted.twin, twin, found, lineage, most, foreign=bool(foreign)
        )
    elif folds:
        report, holdout, synthetic = cross_fitted(
            bundle, found, rows, seed, lineage, folds, judged, step, run
        )
    else:
        report, holdout, synthetic = judged(bundle, found, rows, seed, lineage, step, foreign=bool(foreign))
    # of a twin its own report says it
    said = (foreign if not wanted.twin else "", learnt_before(bundle.origin))
    if warnings := [text for text in said if text]:
        report = report.model_copy(update={"warnings": (*warnings, *report.warnings)})
    step(3, "drawing the report")
    _draw(
        report,
        folder,
        run,
        bundle,
        holdout,
        synthetic,
        title=wanted.name,
        real_examples=asked.real_examples,
    )
    store.create(store.join(folder, REPORT), report.model_dump_json(indent=1).encode())
    step(STEPS, report.headline, report.metrics)
    return _at(report, folder)


def fidelity(asked: Evaluate) -> float:
    """The fidelity that `evaluate` gives, and no more: nothing else is measured, drawn or written. Where it
    is cross-fitted, all is. Raises what `evaluate` raises.
    """
    wanted = wanted_by(asked)
    if wanted.twin:
        return fidelity(_of_twin(asked, wanted))
    if wanted.folds or _done(wanted.folder) is not None:
        return evaluate(asked).metrics["fidelity"]
    wanted.dataset.verify()
    bundle = wanted.bundle
    train, holdout, _ = _sides(wanted.dataset, int(np.prod(bundle.spec.shape)), wanted.rows, asked.seed)
    synthetic = bundle.sample(wanted.rows, seed=asked.seed)
    return fidelity_alone(train, holdout, synthetic, bundle.schema, seed=asked.seed)


def _of_twin(asked: Evaluate, wanted: Wanted) -> Evaluate:
    """The same of the twin of a generator that learnt all rows."""
    assert wanted.twin is not None
    return asked.model_copy(update={"model": wanted.twin.uri, "dataset": wanted.dataset.uri})


def _done(folder: str) -> Report | None:
    made = store.join(folder, REPORT)
    return _at(Report.model_validate_json(store.read_bytes(made)), folder) if store.exists(made) else None


class _Steps:
    """Tells `progress` how far it is."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __call__(self, done: int, note: str, metrics: Mapping[str, float] | None = None) -> None:
        self.progress(Event("evaluate", done, STEPS, "steps", metrics or {}, note=note))


def judged(
    bundle: Bundle,
    found: Dataset,
    rows: int,
    seed: int,
    lineage: Mapping[str, Any],
    step: Callable[[int, str], None],
    *,
    foreign: bool = False,
    fewest: int = MIN_HOLDOUT,
) -> tuple[Report, pa.Table, pa.Table]:
    """(the report, held-out rows, generated rows) of one bundle against one dataset; nothing is written."""
    train, holdout, every = _sides(found, int(np.prod(bundle.spec.shape)), rows, seed)
    step(1, f"generating {rows:,} rows")
    synthetic = bundle.sample(rows, seed=seed)
    step(2, "scoring")
    known = Evidence() if foreign else evidence(bundle, found, seed)
    known = replace(known, every=every, rows=found.rows("train"))
    report = evaluate_tables(
        train, holdout, synthetic, bundle.schema, seed=seed, lineage=lineage, evidence=known, fewest=fewest
    )
    return report, holdout, synthetic


def _at(report: Report, folder: str) -> Report:
    """The report with its places, which are left out of the file so that it may be moved."""
    places = {"uri": REPORT, "page": "report.html", "picture": "samples.png"}
    return report.model_copy(update={key: store.join(folder, name) for key, name in places.items()})


def _sides(
    dataset: Dataset, values: int, rows: int, seed: int
) -> tuple[pa.Table, pa.Table, Iterator[pa.Table] | None]:
    """Training rows, at least `rows`, and held-out rows, of so many values each, to compare with; where the
    former are not all, all in pieces, too.
    """
    most = _held(values, rows)
    train, holdout = dataset.some("train", most, seed), dataset.judging(most, seed)
    if train.num_rows == dataset.rows("train"):
        return train, holdout, None
    pieces = dataset.batches("train", rows=min(65_536, max(1, PIECE_VALUES // values)))
    return train, holdout, (pa.Table.from_batches([batch]) for batch in pieces)


def _held(values: int, rows: int) -> int:
    """How many real rows of so many values each are held in memory, at least `rows`."""
    return max(rows, min(SIDE_ROWS, max(MAX_ROWS, SIDE_VALUES // values)))


def _lineage(bundle: Bundle, dataset: Dataset, name: str) -> dict[str, Any]:
    """Names and fingerprints only: a report is handed on, a path of this machine is nobody's business."""
    known = {
        "model": name,
        "model fingerprint": bundle.fingerprint,
        "recipe": bundle.recipe.name,
        "family": bundle.recipe.family.family,
        "dataset": dataset.name,
        "dataset fingerprint": dataset.fingerprint,
        "notes of ingest": "; ".join(dataset.notices) or None,
        "training seed": bundle.origin.get("seed"),
        "training steps": bundle.origin.get("step"),
        "training incidents": bundle.origin.get("incidents"),
        "protected": hidden_words(bundle.origin.get("protected", {})) or None,
        "genpipe": __version__,
    }
    return {key: value for key, value in known.items() if value is not None}


def _draw(
    report: Report,
    folder: str,
    run: str,
    bundle: Bundle,
    holdout: pa.Table,
    synthetic: pa.Table,
    *,
    title: str,
    real_examples: bool,
) -> None:
    sample_grid(
        synthetic,
        bundle.schema,
        store.join(folder, "samples.png"),
        real=holdout,
        seed=report.seed,
        withheld="" if real_examples else withheld(report),
    )
    write_report(
        report,
        store.join(folder, "report.html"),
        holdout=holdout,
        synthetic=synthetic,
        schema=bundle.schema,
        history=_history(run),
        title=title,
        real_examples=real_examples,
        latent=latent_view(bundle, holdout, report.seed),
    )


def _history(run: str) -> Sequence[Mapping[str, float]]:
    """The run's training curve, where it left one."""
    where = store.join(run, "history.json")
    if not store.exists(where):
        return ()
    rows = store.read_json(where)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else ()
