"""Removing a version of a registered model for good: from the registry first, then what MLflow holds of it.

Whoever is cut off in between leaves files that no version names; the same call again takes them. The run that
registered it stays, with its parameters and metrics, as long as nobody asks for it to go.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from genpipe.registry.tracking import client, experiment_of, reaching


def remove_version(name: str, version: str, *, record: bool = False) -> bool:
    """Whether it is gone: one that an alias names by now stays, unless all record of it is to go: the alias,
    and the run that registered it. Raises InfrastructureError where MLflow refuses.
    """
    from mlflow.exceptions import MlflowException

    to = client()
    with reaching():
        found = to.get_model_version(name, version)
        if found.aliases and not record:
            return False
        for alias in found.aliases:
            to.delete_registered_model_alias(name, alias)
        to.delete_model_version(name, version)
        if (logged := _logged(found)) not in {_logged(version) for version in every_version()}:
            with suppress(MlflowException):  # gone
                remove_files(to, logged)
        if record and found.run_id:
            with suppress(MlflowException):
                remove_run(to, found.run_id)
    return True


def _logged(version: Any) -> str:
    """The id of the logged model a version is of: stores may leave it empty, and name it in the source."""
    return version.model_id or str(version.source).removeprefix("models:/")


def every_version() -> Iterator[Any]:
    """Of all registered models, page by page."""
    to = client()
    with reaching():
        page = to.search_model_versions()
        yield from page
        while page.token:
            page = to.search_model_versions(page_token=page.token)
            yield from page


def remove_files(to: Any, model_id: str) -> None:
    """A logged model and its files."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    where = to.get_logged_model(model_id).artifact_location
    get_artifact_repository(where).delete_artifacts()
    to.delete_logged_model(model_id)


def remove_run(to: Any, run_id: str) -> None:
    """A run and its files: parameters, curves, sample pictures. MLflow marks it; `mlflow gc` ends it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    where = to.get_run(run_id).info.artifact_uri
    get_artifact_repository(where).delete_artifacts()
    to.delete_run(run_id)


def remove_left_files(name: str) -> int:
    """Files of a name's logged models that no version names; returns how many models. A version is made right
    after its files, so only models of a day ago or more count.
    """
    to = client()
    with reaching():
        experiment = to.get_experiment_by_name(experiment_of(name))
        if experiment is None:
            return 0
        used = {_logged(version) for version in every_version()}
        logged = to.search_logged_models(experiment_ids=[experiment.experiment_id])
        old = [m for m in logged if m.creation_timestamp < 1000 * (time.time() - 86_400)]
        left = [model for model in old if model.model_id not in used]
        for model in left:
            remove_files(to, model.model_id)
    return len(left)
