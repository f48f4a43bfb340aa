"""Generators by name: publish one as a version, move `champion` by a rule, resolve names to where they are.

A generator is a bundle, or the folder of several that `train_tables` made (package.py).

The rule: a challenger becomes `champion` if there is none, or if its fidelity *on the same holdout* is at
least MARGIN above the champion's; otherwise it is kept under the alias `challenger`. One of other columns
cannot be compared; it is of the data as they are now, and becomes champion. A person may say another. One
version per output id (a hash of name and content): what was published before finds the version it made.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.errors import DataError, GenpipeError, InfrastructureError, UsageError
from genpipe.private import close_tree
from genpipe.registry.package import (
    BUNDLE,
    BUNDLE_CODE,
    TABLES,
    Package,
    fingerprint_of,
    pack,
    unpack,
)
from genpipe.registry.promotion import CHALLENGER, CHAMPION, Promotion, by_terms, no_model
from genpipe.registry.pyfunc import save_pyfunc
from genpipe.registry.relations import FINGERPRINT, RELATIONS, holds_tables, name_of_tables
from genpipe.registry.tracking import client, experiment_id, experiment_of, reaching, track
from genpipe.settings import read_settings

PRIMARY, MARGIN, CHANGED = "fidelity", 0.002, "other columns"


@dataclass(frozen=True)
class Registered:
    """A registered version. uri: "models:/name/version", which never moves; str() is the uri."""

    name: str
    version: int
    alias: str
    uri: str
    reason: str = ""

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True)
class Resolved:
    """uri: a bundle that every worker can open. reference: what lineage says of it, without local folders.
    tables: whether it is a set of related tables (`related/train.py`), and no bundle. tags: of a
    registered version.
    """

    uri: str
    reference: str
    name: str
    tables: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


def publish(
    uri: str,
    *,
    name: str,
    metrics: Mapping[str, float],
    holdout: str,
    dataset: Dataset | None = None,
    rescore: Callable[[str], float | str | None] | None = None,
    tags: Mapping[str, Any] | None = None,
    terms: Mapping[str, str] | None = None,
    code: Path = BUNDLE_CODE,
) -> Registered:
    """Register a bundle, or a set of related tables, under a name and let it compete for `champion`.

    metrics: what evaluation measured; must hold `fidelity`. holdout: fingerprint of the data measured on.
    rescore: measures another model on this holdout, for a champion that was measured on an older one; None
    where it cannot, CHANGED where it never can, since the two are of other columns.
    terms: on which it is published (promotion.py), as tags; on other terms it is another version.
    code: the module with which MLflow serves it.
    """
    store.check_name(name)
    on = {key: value for key, value in (terms or {}).items() if value}
    score = _share(metrics.get(PRIMARY))
    if score is None:
        found = f"{PRIMARY} {metrics[PRIMARY]}" if PRIMARY in metrics else f"no {PRIMARY} among the metrics"
        expected, fix = "a number from 0 to 1", "evaluate the model first"
        raise UsageError("METRIC", where=name, found=found, expected=expected, fix=fix)
    to = client()
    with tempfile.TemporaryDirectory() as scratch, reaching():
        package = pack(uri, Path(scratch), encoders="latent" in on.get("allow", "").split(","))
        output_id = store.digest({"name": name, "bundle": package.fingerprint, **on})
        measured = {"holdout": holdout, PRIMARY: repr(score)}
        version = _version(to, name, output_id, package)
        if version is None:
            every = {**package.lineage, **{k: str(v) for k, v in (tags or {}).items()}}
            every |= {"output_id": output_id, **measured, **on}
            version = _create(to, package, code, name=name, metrics=metrics, tags=every, dataset=dataset)
        for key, value in (measured | on).items():  # who made it may have written what they liked
            to.set_model_version_tag(name, str(version), key, value)
        return _compete(to, name, version, score, holdout, rescore, package.fingerprint)


def _share(value: Any) -> float | None:
    """A score from 0 to 1; None for anything else, such as a tag that somebody wrote by hand."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and 0 <= number <= 1 else None


def _version(to: Any, name: str, output_id: str, package: Package, made: int | None = None) -> int | None:
    """The version that already holds this output, the first if a race made two. made: by this job just now.

    Anybody who may make versions may write any tag, so what the others hold is fetched and compared.
    """
    found = to.search_model_versions(f"name = '{name}' and tags.output_id = '{output_id}'")
    same = {int(v.version) for v in found if v.tags.get("bundle_fingerprint") == package.fingerprint}
    for number in sorted(same):
        if number == made or _holds(f"models:/{name}/{number}", package):
            return number
    return made


def _holds(reference: str, package: Package) -> bool:
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        try:
            where = f"{reference}/artifacts/{package.artifact}"
            folder = mlflow.artifacts.download_artifacts(artifact_uri=where, dst_path=scratch)
            return fingerprint_of(folder) == package.fingerprint
        except (GenpipeError, MlflowException, OSError):
            return False


def _create(
    to: Any,
    package: Package,
    code: Path,
    *,
    name: str,
    metrics: Mapping[str, float],
    tags: dict[str, str],
    dataset: Dataset | None,
) -> int:
    """Log the package as a pyfunc in a run of its own, then make the version in one call with its tags."""
    from mlflow.exceptions import MlflowException

    every, inputs = {**tags, "level": "register"}, [dataset] if dataset else []
    of, where = f"register {name}", experiment_of(name)
    with track(of, experiment=where, tags=every, params=package.params, datasets=inputs) as run:
        run.log(metrics)
        model = to.create_logged_model(experiment_id(to, where), name=name, source_run_id=run.id, tags=tags)
        folder = package.folder.with_name("model")
        save_pyfunc(folder, package, code, model_id=model.model_id, allow=tags.get("allow", ""))
        close_tree(folder)
        to.log_model_artifacts(model.model_id, str(folder))
        to.finalize_logged_model(model.model_id, "READY")
        try:
            to.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"models:/{model.model_id}"
        made = to.create_model_version(name, source, run.id, tags=tags, model_id=model.model_id)
    own = int(made.version)
    first = _version(to, name, tags["output_id"], package, own) or own
    if first != own:  # two jobs registered the same bundle: keep one
        to.delete_model_version(name, made.version)
    return first


def _compete(
    to: Any,
    name: str,
    version: int,
    score: float,
    holdout: str,
    rescore: Callable[[str], float | str | None] | None,
    fingerprint: str,
) -> Registered:
    uri = f"models:/{name}/{version}"
    promotion = Promotion(to, name, CHAMPION)
    if promotion.version == version:
        return Registered(name, version, CHAMPION, uri, "already champion")
    if promotion.version is None:
        reason = "the first version"
    elif (why := by_terms(to, name, version, promotion.version, fingerprint)) is not None:
        if not why[0]:
            to.set_registered_model_alias(name, CHALLENGER, str(version))
            return Registered(name, version, CHALLENGER, uri, why[1])
        reason = why[1]
    else:
        champion = to.get_model_version(name, str(promotion.version))
        theirs: float | str | None = None
        if champion.tags.get("holdout") == holdout:
            theirs = _share(champion.tags.get(PRIMARY))
        if theirs is None and rescore is not None:
            theirs = rescore(f"models:/{name}/{promotion.version}")
        old = promotion.version
        if isinstance(theirs, str):
            reason = f"version {old} is of other columns; back to it: genpipe promote {name} {old}"
        elif theirs is None:
            reason = f"version {old} was measured on another holdout: not comparable; genpipe promote decides"
        else:
            reason = f"{PRIMARY} {score:.4f} against {theirs:.4f} of version {old} on the same holdout"
        if theirs is None or (isinstance(theirs, float) and score < theirs + MARGIN):
            to.set_registered_model_alias(name, CHALLENGER, str(version))
            return Registered(name, version, CHALLENGER, uri, reason)
    promotion.move(version)
    return Registered(name, version, CHAMPION, uri, reason)


def resolve(model: str) -> Resolved:
    """A name or URI of a model -> where it is, and a concrete reference. Aliases are looked up once, here."""
    if not model.startswith("models:"):
        if holds_tables(model):
            name, fingerprint = name_of_tables(model)
            return Resolved(model.rstrip("/"), f"{name}@{fingerprint}", name, tables=True)
        bundle = Bundle.open(model)
        name = _plain(str(bundle.origin.get("name") or bundle.recipe.name))
        return Resolved(bundle.uri, f"{name}@{bundle.fingerprint}", name)
    version = _lookup(client(), model)
    reference = f"models:/{version.name}/{version.version}"
    fingerprint = version.tags.get("bundle_fingerprint", "")
    if not FINGERPRINT.fullmatch(fingerprint):
        found = f"the fingerprint {fingerprint[:40]!r}" if fingerprint else "no fingerprint"
        expected = "20 hexadecimal digits: a version that `genpipe register` made"
        raise DataError("FINGERPRINT", where=reference, found=found, expected=expected)
    kept = store.join(read_settings().store, "models", fingerprint)
    tables = version.tags.get("kind") == TABLES
    if not store.exists(store.join(kept, RELATIONS if tables else "manifest.json")):
        with reaching():
            _fetch(reference, fingerprint, kept, TABLES if tables else BUNDLE)
    elif (got := fingerprint_of(kept)) != fingerprint:
        found, fix = f"a model with fingerprint {got}", "remove this folder and run the same command again"
        raise DataError("SHA256", where=kept, found=found, expected=fingerprint, fix=fix)
    return Resolved(kept, reference, _plain(version.name), tables, dict(version.tags))


def _plain(name: str) -> str:
    """A name that may become a folder, whatever a stranger's bundle or a renamed model is called."""
    return name if store.is_name(name) else store.plain_name(name)


def _lookup(to: Any, model: str) -> Any:
    """The version that "models:/name@alias" or "models:/name/3" means now."""
    from mlflow.exceptions import MlflowException

    match = re.fullmatch(r"models:/([^/@\x00-\x1f\x7f]+)(?:@([^/@\x00-\x1f\x7f]+)|/([0-9]{1,18}))", model)
    if not match:
        expected = "models:/name@alias or models:/name/3"
        raise UsageError("MODEL", where=model, found="half a reference", expected=expected)
    name, alias, number = match.groups()
    try:
        with reaching():
            return (
                to.get_model_version(name, number) if number else to.get_model_version_by_alias(name, alias)
            )
    except InfrastructureError as error:
        cause = error.__cause__
        unknown = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
        if isinstance(cause, MlflowException) and cause.error_code in unknown:
            raise no_model(to, model, name) from None
        raise


def _fetch(reference: str, fingerprint: str, target: str, artifact: str) -> None:
    """Bring what a version holds from MLflow to the store, where every worker can open it."""
    import mlflow.artifacts

    with tempfile.TemporaryDirectory() as scratch:
        folder = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{reference}/artifacts/{artifact}", dst_path=scratch
        )
        got = fingerprint_of(folder)
        if got != fingerprint:
            found = f"a model with fingerprint {got}"
            raise DataError(
                "SHA256", where=reference, found=found, expected=fingerprint or "a version genpipe made"
            )
        unpack(folder, target)
