"""register: give a trained generator a name and a version in MLflow, and let it compete for `champion`.

Writes a version of the model (bundle, signature, lineage tags, input dataset), and moves the alias `champion`
if the rule in genpipe/registry/models.py says so; otherwise the alias `challenger`.
"""

from __future__ import annotations

from pathlib import Path

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.held import check_held
from genpipe.dataset import Dataset
from genpipe.errors import DataError
from genpipe.evaluation.report import Report
from genpipe.progress import Event, Progress, silent
from genpipe.registry import Registered, holds_tables, publish, resolve
from genpipe.registry.tracking import placed
from genpipe.stages.evaluate import evaluate
from genpipe.stages.train_tables import find_tables, open_tables


def register(
    model: object, *, name: str | None = None, report: Report | None = None, progress: Progress = silent
) -> Registered:
    """Register a trained model; returns its version, alias and the reason for the alias.

    model: what `train` or `train_tables` returned, or its URI. name: by default that of the run.
    report: what `evaluate` returned; without one the model is evaluated now. A collapsed model, or one
    that copies its training rows, is refused and not registered. A champion that was measured on another
    holdout is measured again on this one, so that the two are compared on the same rows.
    """
    if holds_tables(str(model)):
        return _register_tables(model, name, report, progress)
    bundle = Bundle.open(str(model))
    name = store.check_name(name or str(bundle.origin.get("name") or bundle.recipe.name))
    report = report or evaluate(model, progress=progress)
    report.check()
    _check_held(bundle)
    progress(Event("register", done=0, total=1, unit="versions", note=name))
    holdout = str(report.lineage.get("dataset fingerprint") or bundle.origin.get("dataset_fingerprint", ""))
    dataset = _dataset(bundle, holdout)

    def rescore(champion: str) -> float | None:
        found = resolve(champion)
        if dataset is None or found.tables:
            return None
        try:
            return evaluate(found.uri, dataset, rows=report.rows, seed=report.seed).metrics()["fidelity"]
        except DataError as error:
            if error.code == "SCHEMA":  # the columns have changed since: not comparable
                return None
            raise

    registered = publish(
        bundle.uri, name=name, metrics=report.metrics(), holdout=holdout, dataset=dataset, rescore=rescore
    )
    return _told(registered, progress)


def _told(registered: Registered, progress: Progress) -> Registered:
    note = f"version {registered.version} is {registered.alias}: {registered.reason}"
    progress(Event("register", done=1, total=1, unit="versions", note=note))
    return registered


def _register_tables(
    model: object, name: str | None, report: Report | None, progress: Progress
) -> Registered:
    """All tables as one version. A champion of other tables or columns is not comparable."""
    trained = find_tables(model)[1]
    name = store.check_name(name or trained.name)
    report = report or evaluate(model, progress=progress)
    report.check()
    for uri in trained.models.values():
        _check_held(Bundle.open(uri))
    progress(Event("register", done=0, total=1, unit="versions", note=name))
    families = int(report.lineage["families"])

    def rescore(champion: str) -> float | None:
        found = resolve(champion)
        if not found.tables or open_tables(found.uri).shape != trained.shape:
            return None
        return evaluate(found.uri, trained.uri, rows=families, seed=report.seed).metrics()["fidelity"]

    registered = publish(
        trained.uri,
        name=name,
        metrics=report.metrics(),
        holdout=str(report.lineage["dataset fingerprint"]),
        rescore=rescore,
        code=Path(__file__).with_name("pyfunc_tables.py"),
    )
    return _told(registered, progress)


def _check_held(bundle: Bundle) -> None:
    """Raise a PrivacyError where the bundle holds what only few have, a DataError where nobody can tell."""
    if bundle.recipe.codec.rare == "keep":
        return
    fingerprint = str(bundle.origin.get("dataset_fingerprint", ""))
    dataset = _dataset(bundle, fingerprint)
    if dataset is None:
        raise DataError(
            "NODATA",
            where=bundle.uri,
            found=f"no dataset {fingerprint} where it was trained",
            expected="its rows, to see that no file of the model holds what only few of them have",
            fix="put the dataset back, or train again",
        )
    check_held(bundle, dataset)


def _dataset(bundle: Bundle, fingerprint: str) -> Dataset | None:
    """The dataset the report speaks of, if it is where the model remembers it."""
    where = placed(str(bundle.origin.get("dataset_uri", "")))
    if not where or not Dataset.exists(where):
        return None
    dataset = Dataset(where)
    return dataset if dataset.fingerprint == fingerprint else None
