"""register: give a trained generator a name and a version in MLflow, and let it compete for `champion`.

Writes a version of the model (bundle, signature, lineage tags, input dataset), and moves the alias `champion`
if the rule in genpipe/registry/models.py says so; otherwise the alias `challenger`.
"""

from __future__ import annotations

from collections.abc import Sequence

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.held import check_held
from genpipe.dataset import Dataset
from genpipe.errors import DataError, PrivacyError, UsageError, unknown
from genpipe.evaluation.report import Report
from genpipe.progress import Event, Progress, silent
from genpipe.registry import Registered, publish, resolve
from genpipe.registry.tracking import placed
from genpipe.stages.checked import unless_unchecked
from genpipe.stages.evaluate.verb import evaluate

MIN_REASON, MAX_REASON = 8, 500
ALLOWED = ("impute", "score")


def register(
    model: object,
    *,
    name: str | None = None,
    report: Report | None = None,
    despite: str = "",
    unchecked: str = "",
    allow: Sequence[str] = (),
    progress: Progress = silent,
) -> Registered:
    """Register a trained model; returns its version, alias and the reason for the alias.

    model: what `train` returned, or its URI. name: by default that of the run.
    report: what `evaluate` returned; without one the model is evaluated now. A collapsed model, or one
    that copies its training rows or knows who they are, is refused and not registered. A champion that was
    measured on another holdout is measured again on this one, so that the two are compared on the same rows.
    despite: the reason why a model that copies or leaks is registered all the same; unchecked: why one is of
    which too few entities tell nothing. Either stands in the version's tags and in the footer of all that is
    generated from it, and such a version takes no checked champion's place.
    allow: what consumers of the registry may do beside generating (`score`, `impute`; docs/privacy.md).
    """
    terms = terms_of(despite, unchecked, allow)
    bundle = Bundle.open(str(model))
    name = store.check_name(name or str(bundle.origin.get("name") or bundle.recipe.name))
    report = report or unless_unchecked(evaluate, model, unchecked=unchecked, progress=progress)
    terms = agreed(report, terms)
    check_published(bundle)
    progress(Event("register", done=0, total=1, unit="versions", note=name))
    holdout = str(report.lineage.get("dataset fingerprint") or bundle.origin.get("dataset_fingerprint", ""))
    dataset = _dataset(bundle, holdout)

    def rescore(champion: str) -> float | None:
        found = resolve(champion)
        if dataset is None or found.tables:
            return None
        try:
            return evaluate(found.uri, dataset, rows=report.rows, seed=report.seed).metrics()["fidelity"]
        except (DataError, PrivacyError) as error:
            if error.code in ("SCHEMA", "FEWHOLDOUT"):  # other columns, or too few rows: not comparable
                return None
            raise

    registered = publish(
        bundle.uri,
        name=name,
        metrics=report.metrics() or {"fidelity": 0.0, **bundle.metrics},
        holdout=holdout,
        dataset=dataset,
        rescore=rescore,
        terms=terms,
    )
    return told(registered, progress)


def terms_of(despite: str, unchecked: str, allow: Sequence[str]) -> dict[str, str]:
    for what, reason in (("despite", despite), ("unchecked", unchecked)):
        if reason and not MIN_REASON <= len(reason.strip()) <= MAX_REASON:
            found, expected = repr(reason[:80]), f"a reason, of {MIN_REASON} to {MAX_REASON} characters"
            raise UsageError("REASON", where=what, found=found, expected=expected)
    for verb in allow:
        if verb not in ALLOWED:
            raise unknown("permission", verb, ALLOWED, where="allow")
    return {"despite": despite.strip(), "unchecked": unchecked.strip(), "allow": ",".join(sorted(set(allow)))}


def agreed(report: Report, terms: dict[str, str]) -> dict[str, str]:
    """Those of the terms that are needed. Raises where the verdict forbids what none of them allows."""
    if report.verdict in ("copies", "leaks") and terms["despite"]:
        return terms | {"unchecked": "", "verdict": report.verdict}
    if report.verdict == "unchecked" and terms["unchecked"]:
        return terms | {"despite": ""}
    report.check()
    return terms | {"despite": "", "unchecked": ""}


def told(registered: Registered, progress: Progress) -> Registered:
    note = f"version {registered.version} is {registered.alias}: {registered.reason}"
    progress(Event("register", done=1, total=1, unit="versions", note=note))
    return registered


def check_published(bundle: Bundle) -> None:
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
