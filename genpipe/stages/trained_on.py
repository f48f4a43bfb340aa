"""The data a model was trained on, found by what its bundle says, and data that is like it."""

from __future__ import annotations

import os
from typing import Any

from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.errors import DataError, PrivacyError, UsageError
from genpipe.registry.tracking import placed
from genpipe.schema import Schema
from genpipe.settings import read_settings


def dataset_of(bundle: Bundle, given: str | None = None, twin: Bundle | None = None) -> tuple[Dataset, str]:
    """The dataset trained on, or the one to judge against, and a warning if that is another. twin: by whose
    dataset a model is judged that learnt all rows.
    """
    whole = bundle.origin.get("dataset_fingerprint") if twin else None
    if given and whole and Dataset(given).fingerprint == whole:  # all of what its twin's is a part of
        given = None
    bundle = twin or bundle
    trained_on = str(bundle.origin.get("dataset_fingerprint", ""))
    where = given or bundle.origin.get("dataset_uri")
    if not where:
        raise UsageError(
            "NODATASET", where=bundle.uri, found="a model that does not name its dataset", fix="pass dataset="
        )
    dataset = Dataset(given if given else at_home(bundle, placed(str(where))))
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
    compatible(bundle.schema, dataset)
    return dataset, (
        f"judged against {dataset.fingerprint}, not the dataset trained on ({trained_on or 'unknown'}): "
        "rows seen in training may be in the holdout, and the privacy signal says little"
    )


def at_home(bundle: Bundle, where: str) -> str:
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


def compatible(schema: Schema, dataset: Dataset) -> None:
    """Raise a UsageError where the dataset has other columns."""

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
