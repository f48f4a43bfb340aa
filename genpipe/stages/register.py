"""register: give a trained generator a name and a version in MLflow, and let it compete for `champion`.

Writes a version of the model (bundle, signature, lineage tags, input dataset), and moves the alias `champion`
if the rule in genpipe/registry/models.py says so; otherwise the alias `challenger`.
"""

from __future__ import annotations

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.held import check_held
from genpipe.dataset import Dataset
from genpipe.errors import DataError, PrivacyError
from genpipe.evaluation.report import Report
from genpipe.progress import Event, Progress, silent
from genpipe.registry import Registered, publish, resolve
from genpipe.registry.models import CHANGED
from genpipe.registry.tracking import placed
from genpipe.requests import Evaluate, Register
from genpipe.stages.checked import unless_unchecked
from genpipe.stages.evaluate.verb import evaluate, fidelity


def register(asked: Register, *, report: Report | None = None, progress: Progress = silent) -> Registered:
    """Register a trained model; returns its version, alias and the reason for the alias.

    report: what `evaluate` returned; without one the model is evaluated now. A collapsed model, or one
    that copies its training rows or knows who they are, is refused and not registered. A champion that was
    measured on another holdout is measured again on this one, so that the two are compared on the same rows.
    The reason of `despite` or `unchecked` stands in the version's tags and in the footer of all that is
    generated from it, and such a version takes no checked champion's place.
    What consumers may do beside generating is in docs/privacy.md.
    """
    terms = terms_of(asked)
    bundle = Bundle.open(asked.model)
    name = store.check_name(asked.name or str(bundle.origin.get("name") or bundle.recipe.name))
    report = report or unless_unchecked(evaluate, Evaluate.of(model=asked.model), asked.unchecked, progress)
    terms = agreed(report, terms)
    check_published(bundle)
    progress(Event("register", done=0, total=1, unit="versions", note=name))
    holdout = str(report.lineage.get("dataset fingerprint") or bundle.origin.get("dataset_fingerprint", ""))
    dataset = _dataset(bundle, holdout)

    def rescore(champion: str) -> float | str | None:
        found = resolve(champion)
        if found.tables or _columns(Bundle.open(found.uri)) != _columns(bundle):
            return CHANGED
        if dataset is None:
            return None
        try:
            again = Evaluate.of(model=found.uri, dataset=dataset.uri, rows=report.rows, seed=report.seed)
            return fidelity(again)
        except (DataError, PrivacyError) as error:
            if error.code in ("FEWHOLDOUT", "NOTWIN"):  # too few rows, or it learnt all: not comparable
                return None
            if error.code == "SCHEMA":
                return CHANGED
            raise

    registered = publish(
        bundle.uri,
        name=name,
        metrics=report.metrics or {"fidelity": 0.0, **bundle.metrics},
        holdout=holdout,
        dataset=dataset,
        rescore=rescore,
        terms=terms,
    )
    return told(registered, progress)


def _columns(bundle: Bundle) -> dict[str, str]:
    return {field.name: field.kind for field in bundle.schema.fields}


def terms_of(asked: Register) -> dict[str, str]:
    """Under which terms it is published: the tags of the version."""
    return {
        "despite": asked.despite,
        "unchecked": asked.unchecked,
        "allow": ",".join(sorted(set(asked.allow))),
    }


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
    if first := bundle.origin.get("codec_dataset_uri"):  # of the model it went on from, whose codec it has
        dataset = Dataset(placed(str(first))) if Dataset.exists(placed(str(first))) else None
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
    for key in ("dataset_uri", "judged_uri"):  # the latter of one that learnt all rows: its twin's
        where = placed(str(bundle.origin.get(key, "")))
        if where and Dataset.exists(where) and Dataset(where).fingerprint == fingerprint:
            return Dataset(where)
    return None
