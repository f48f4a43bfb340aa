"""evaluate_tables: a generator of related tables against the families it has never seen, as a Report.

The real rows are the flat ones `train_tables` left (related/flatten.py), put back into tables. Of families no
part is kept for early stopping alone: each table stops at rows of its own, and the report judges by all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from genpipe import store
from genpipe.bundle.folder import read_document
from genpipe.dataset import Dataset
from genpipe.errors import DataError, UsageError
from genpipe.evaluation.report import Report
from genpipe.progress import Event, Progress, silent
from genpipe.related.judge.page import write_tables_report
from genpipe.related.judged import Judge, flat_data
from genpipe.related.panel_crossfit import cross_fitted, folds_for
from genpipe.related.train import TrainedTables, find_tables
from genpipe.requests import Evaluate
from genpipe.settings import read_settings
from genpipe.training.device import resolve_device
from genpipe.version import __version__

MIN_FAMILIES, MAX_ROWS = 500, 10_000
FORMAT = 3  # part of the request: raise it when scores change meaning
STEPS = 4


def evaluate_tables(asked: Evaluate, *, progress: Progress = silent) -> Report:
    """Score generated families and write report.html and, last and once, report.json; returns the Report.

    dataset: another such model, by whose held-out families it is judged (default: its own). rows: generated
    rows without parents; by default as many as are held out, at least 500, and not so many that a table has
    much over 10,000. folds: of a flat table learnt by entity, of which fewer than 50 are held out, see
    panel_crossfit.py.
    """
    resolved, trained = find_tables(asked.model)
    if asked.folds is not None and not trained.panel:
        found, fix = f"{asked.folds} for related tables", "leave it out: related tables are not cross-fitted"
        raise UsageError("TABLES", where="folds", found=found, expected="nothing of the kind", fix=fix)
    data, foreign = _data(trained, _other(trained, asked.dataset))
    folds = folds_for(trained, data, asked, foreign=bool(foreign)) if trained.panel else 0
    rows, seed = asked.rows or _rows(trained, data), asked.seed
    request = {
        "format": FORMAT, "code": __version__, "model": trained.fingerprint, "dataset": fingerprint(data),
        "rows": rows, "seed": seed, "device": resolve_device(read_settings().device),
        **({"folds": folds} if folds else {}),
    }  # fmt: skip
    folder = store.join(resolved.uri, "evaluation", store.digest(request))
    made = store.join(folder, "report.json")
    if store.exists(made):
        progress(Event("evaluate", done=STEPS, total=STEPS, unit="steps", note="already evaluated"))
        return _at(Report.model_validate_json(store.read_bytes(made)), folder)

    def step(done: int, note: str) -> None:
        progress(Event("evaluate", done=done, total=STEPS, unit="steps", note=note))

    step(0, "reading the tables")
    for dataset in data.values():
        dataset.verify()
    lineage = _lineage(trained, data, rows, resolved.name)
    judge = Judge(rows, seed, lineage, step, foreign=bool(foreign))
    if folds:
        report, holdout, synthetic = cross_fitted(trained, asked, folds, judge)
    else:
        report, holdout, synthetic = judge(trained, data)
    if foreign:
        report = report.model_copy(update={"warnings": (foreign, *report.warnings)})
    step(3, "drawing the report")
    page = store.join(folder, "report.html")
    write_tables_report(report, page, holdout=holdout, synthetic=synthetic, title=resolved.name)
    store.create(made, report.model_dump_json(indent=1).encode())
    done = Event(
        "evaluate", done=STEPS, total=STEPS, unit="steps", metrics=report.metrics, note=report.headline
    )
    progress(done)
    return _at(report, folder)


def _at(report: Report, folder: str) -> Report:
    """The report with its places, which are left out of the file so that it may be moved."""
    places = {"uri": "report.json", "page": "report.html"}
    return report.model_copy(update={key: store.join(folder, name) for key, name in places.items()})


def _rows(trained: TrainedTables, data: Mapping[str, Dataset]) -> int:
    roots = [n for n in trained.nodes if n.parent is None]
    # of a table that refers to itself all rows hang on those at its top: there have to be some
    held = max(n.rows if n.tree else data[n.name].rows("holdout") for n in roots)
    each = max(n.rows / r.rows for r in roots for n in trained.family(r.name))
    return min(max(held, MIN_FAMILIES), max(50, int(MAX_ROWS / each)))


def fingerprint(data: Mapping[str, Dataset]) -> str:
    """Of the data of all tables, training and held-out."""
    return store.digest({name: dataset.fingerprint for name, dataset in data.items()})


def _other(trained: TrainedTables, given: str | None) -> TrainedTables | None:
    """The model by whose families it is to be judged; none where it is its own, or the flat table of it."""
    if not given:
        return None
    if trained.panel and Dataset.exists(given):
        if (found := Dataset(given).fingerprint) == trained.panel.dataset:
            return None
        raise DataError(
            "DATASET",
            where=given,
            found=f"{found}, another table than was trained on",
            expected=f"{trained.panel.dataset}, or a model of another table of these columns",
            fix="train on it, and name that model in place of the dataset",
        )
    return find_tables(given)[1]


def _data(trained: TrainedTables, other: TrainedTables | None) -> tuple[dict[str, Dataset], str]:
    """The rows to judge by, and a warning where they are not those the model was trained on."""
    if other is None or other.fingerprint == trained.fingerprint:
        return flat_data(trained), ""
    ours, theirs = trained.shape, other.shape
    if ours != theirs:
        differ = next((f"{b} in place of {a}" for a, b in zip(ours, theirs, strict=False) if a != b), "")
        raise DataError(
            "SCHEMA",
            where=other.uri,
            found=f"other tables: {differ or f'{len(theirs)} and not {len(ours)}'}",
            expected="the tables and columns the model makes",
        )
    data = flat_data(other)
    recorded = {n: read_document(u, "origin").get("dataset_fingerprint") for n, u in trained.models.items()}
    if all(recorded[name] == dataset.fingerprint for name, dataset in data.items()):
        return data, ""
    return data, (
        f"judged by the families of {other.name} ({fingerprint(data)}), not those it was trained on: some "
        "may have been seen in training, and the privacy signal says little"
    )


def _lineage(trained: TrainedTables, data: Mapping[str, Dataset], rows: int, name: str) -> dict[str, Any]:
    recipes = {n.name: read_document(trained.models[n.name], "recipe")["name"] for n in trained.nodes}
    return {
        "model": name,
        "model fingerprint": trained.fingerprint,
        "recipe": ", ".join(sorted(set(recipes.values()))),
        "dataset": trained.name,
        "dataset fingerprint": fingerprint(data),
        "families": rows,
        "rows of the data": json.dumps({n.name: n.rows for n in trained.nodes}).strip("{}").replace('"', ""),
        "genpipe": __version__,
    }
