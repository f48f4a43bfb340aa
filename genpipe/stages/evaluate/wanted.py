"""What an evaluation is asked for: the generator, the data it is judged by, and the place of the report."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.errors import DataError, PrivacyError, UsageError
from genpipe.registry import resolve
from genpipe.registry.tracking import placed
from genpipe.requests import Evaluate
from genpipe.schema import Schema
from genpipe.settings import read_settings
from genpipe.stages.evaluate.crossfit import folds_for
from genpipe.version import __version__

# part of the request: raise it when scores change meaning, so that old reports are not taken for new
FORMAT = 5
MIN_ROWS, MAX_ROWS = 500, 10_000


@dataclass(frozen=True)
class Wanted:
    """folder: of the report, by the id of the request. foreign: a warning where the model was trained on
    other data. folds: 0 where enough is held out.
    """

    bundle: Bundle
    name: str
    dataset: Dataset
    foreign: str
    rows: int
    folds: int
    run: str
    folder: str


def wanted_by(asked: Evaluate) -> Wanted:
    """Open the generator and the dataset. Raises what `evaluate` says."""
    resolved = resolve(asked.model)
    bundle = Bundle.open(resolved.uri)
    found, foreign = dataset_of(bundle, asked.dataset)
    rows = asked.rows or _rows(found)
    run = resolved.uri.rstrip("/").rsplit("/", 1)[0]
    folds = folds_for(found, asked.folds, run, foreign=bool(foreign))
    request = {"format": FORMAT, "code": __version__, "model": bundle.fingerprint}
    request |= {"dataset": found.fingerprint, **asked.identity(), "rows": rows, "folds": folds}
    if not folds:
        del request["folds"]
    folder = store.join(run, "evaluation", store.digest(request))
    return Wanted(bundle, resolved.name, found, foreign, rows, folds, run, folder)


def _rows(dataset: Dataset) -> int:
    # never more than there are training rows: the ceiling needs as many real ones
    return max(2, min(max(dataset.rows("holdout"), MIN_ROWS), MAX_ROWS, dataset.rows("train")))


def dataset_of(bundle: Bundle, given: str | None = None) -> tuple[Dataset, str]:
    """The dataset trained on, or the one to judge against, and a warning if that is another."""
    trained_on = str(bundle.origin.get("dataset_fingerprint", ""))
    where = given or bundle.origin.get("dataset_uri")
    if not where:
        raise UsageError(
            "NODATASET", where=bundle.uri, found="a model that does not name its dataset", fix="pass dataset="
        )
    dataset = Dataset(given if given else _at_home(bundle, placed(str(where))))
    if dataset.fingerprint == trained_on:
        return dataset, ""
    if given is None:
        raise PrivacyError(
            "HOLDOUT",
            where=dataset.uri,
            found=f"fingerprint {dataset.fingerprint}, so its holdout may hold rows the model was trained on",
            expected=f"the dataset trained on, {trained_on or 'unknown'}",
            fix="restore it, or pass the dataset to judge against",
        )
    _compatible(bundle.schema, dataset)
    return dataset, (
        f"judged against {dataset.fingerprint}, not the dataset trained on ({trained_on or 'unknown'}): "
        "rows seen in training may be in the holdout, and the privacy signal says little"
    )


def _at_home(bundle: Bundle, where: str) -> str:
    """The place of a dataset that a bundle names, if it was trained here or the place is in the store: a
    stranger may have named any file of this machine, or any server.
    """
    home, model, data = (
        uri if "://" in uri else os.path.abspath(uri) for uri in (read_settings().store, bundle.uri, where)
    )
    if model.startswith(f"{home}/runs/") or data.startswith(f"{home}/"):
        return where
    raise UsageError(
        "NODATASET",
        where=bundle.uri,
        found=f"a model from elsewhere that names a dataset outside this store, {where}",
        expected="one in the store",
        fix="pass dataset= (--dataset) to say that you mean it",
    )


def _compatible(schema: Schema, dataset: Dataset) -> None:
    def shape(s: Schema) -> list[Any]:
        return [s.kind, s.target, *((f.name, f.kind, str(f.arrow())) for f in s.fields)]

    ours, theirs = shape(schema), shape(dataset.schema)
    if ours != theirs:
        differ = next(
            (f"{b} instead of {a}" for a, b in zip(ours, theirs, strict=False) if a != b),
            f"{len(theirs) - 2} fields",
        )
        raise DataError(
            "SCHEMA",
            where=dataset.uri,
            found=f"another schema: {differ}",
            expected="the columns the model makes",
        )
