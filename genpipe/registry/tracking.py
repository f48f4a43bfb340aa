"""Runs: parameters, curves and inputs of a training or a search, as MLflow experiments.

Everything goes through `MlflowClient` with explicit run ids: the fluent API keeps one active run a
process and thread, and trials are many. Metrics are buffered, because a batch of a hundred costs as much
as a single one.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from genpipe.dataset import Dataset
from genpipe.errors import InfrastructureError
from genpipe.redaction import link, redact, shown
from genpipe.registry.database import settle_database
from genpipe.settings import make_folder, read_settings
from genpipe.version import __version__

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "genpipe"  # what the names of ours begin with
BUFFER, BUFFER_SECONDS, MAX_BATCH, MAX_VALUE = 200, 5.0, 1000, 500
# set before MLflow is imported: no reports home, and a server that is gone is noticed in seconds, not minutes
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the server's, with its password
    "GIT_PYTHON_REFRESH": "quiet",
}
log = logging.getLogger(__name__)


def client() -> MlflowClient:
    """A client of the tracking server or database that the environment names; the local one is made."""
    settings = read_settings()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if settings.tracking_uri.startswith("sqlite:///"):
        make_folder(settings.home)
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if mlflow.get_tracking_uri() != settings.tracking_uri:
        told = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
        mlflow.set_tracking_uri(settings.tracking_uri)
        mlflow.set_registry_uri(told["MLFLOW_REGISTRY_URI"] or settings.tracking_uri)
        for name in [n for n, value in told.items() if value is None]:
            os.environ.pop(name, None)  # MLflow exports what it is told: GENPIPE_HOME would no longer decide
    own = settings.home / "mlflow.db"
    if settings.tracking_uri == f"sqlite:///{own}":  # others are their owner's to upgrade
        settle_database(own)
    with reaching():  # of a database the client itself connects
        return mlflow.MlflowClient()


@contextmanager
def reaching() -> Iterator[None]:
    """MLflow's own errors, as ours: what to do when the server does not answer."""
    import sqlite3

    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        told = " ".join(str(error).split())[:200]
        fix = "see that the server runs and MLFLOW_TRACKING_URI is right, then run the same command again"
        if any(word in told for word in ("401", "not authenticated")):
            fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user that the server knows"
        elif any(word in told for word in ("403", "PERMISSION_DENIED", "Permission denied")):
            fix = f"ask for rights on the registered model and on its experiment, {experiment_of('NAME')}"
        raise InfrastructureError(
            "MLFLOW", where=link(read_settings().tracking_uri), found=told, fix=fix
        ) from error


def experiment_of(model: str) -> str:
    """Where a model's versions and their files are noted: one for each name, since rights are given by it."""
    return f"{EXPERIMENT}/{model}"


def experiment_of_search(study: str) -> str:
    """Trials tell more than a consumer of the winner should see, and hold no files."""
    return f"{EXPERIMENT}-search/{study}"


def experiment_id(to: MlflowClient, name: str) -> str:
    found = to.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    settings = read_settings()
    place = settings.artifacts if settings.tracking_uri.startswith("sqlite:///") else None
    try:
        return to.create_experiment(name, artifact_location=place)
    except Exception:
        found = to.get_experiment_by_name(name)  # somebody else made it in between
        if found is None:
            raise
        return found.experiment_id


class Run:
    """One MLflow run being written. `id` is its MLflow id. Logging never stops the work it describes."""

    def __init__(self, to: MlflowClient, run_id: str) -> None:
        self.client, self.id = to, run_id
        self.buffer: list[Any] = []
        self.flushed = time.monotonic()

    def log(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Note numbers at a step; sent in batches."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.buffer += [Metric(clean_key(key), float(value), now, step) for key, value in metrics.items()]
        if len(self.buffer) >= BUFFER or time.monotonic() - self.flushed > BUFFER_SECONDS:
            self.flush()

    def params(self, values: Mapping[str, Any]) -> None:
        """Note a nested mapping as dotted parameters."""
        from mlflow.entities import Param

        flat = [
            Param(clean_key(key), redact(str(value))[:MAX_VALUE]) for key, value in flatten(values).items()
        ]
        self._try(lambda: self.client.log_batch(self.id, params=flat[:100]))

    def tag(self, **tags: Any) -> None:
        from mlflow.entities import RunTag

        self._try(
            lambda: self.client.log_batch(self.id, tags=[RunTag(k, redact(str(v))) for k, v in tags.items()])
        )

    def input(self, dataset: Dataset, *, context: str = "training") -> None:
        """Note which data went in: name, fingerprint and place."""
        self._try(lambda: self.client.log_inputs(self.id, [dataset_input(dataset, context)]))

    def flush(self) -> None:
        batch, self.flushed = self.buffer[:MAX_BATCH], time.monotonic()
        if batch and self._try(lambda: self.client.log_batch(self.id, metrics=batch)):
            del self.buffer[: len(batch)]
            self.flush()

    def _try(self, call: Any) -> bool:
        try:
            call()
            return True
        except Exception as error:  # a tracking server that is away must not cost the training it describes
            log.warning("MLflow run %s: %s", self.id, shown(" ".join(str(error).split()), 200))
            return False


@contextmanager
def track(
    name: str,
    *,
    experiment: str = EXPERIMENT,
    parent: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    datasets: Sequence[Dataset] = (),
) -> Iterator[Run]:
    """A run for the length of a `with` block; FAILED if the block raises. parent: id of an enclosing run."""
    to = client()
    with reaching():
        every = {"mlflow.runName": name, "genpipe.code": __version__, **(tags or {})}
        every |= {"mlflow.parentRunId": parent} if parent else {}
        made = to.create_run(
            experiment_id(to, experiment), tags={k: redact(str(v)) for k, v in every.items()}
        )
    run, status = Run(to, made.info.run_id), "FAILED"
    try:
        if params:
            run.params(params)
        for dataset in datasets:
            run.input(dataset)
        yield run
        status = "FINISHED"
    finally:
        run.flush()
        run._try(lambda: to.set_terminated(run.id, status))


def log_trial(study: str, *, study_uri: str, trial: Mapping[str, Any]) -> None:
    """Note one ended trial as a run nested in its study's run, which is made with the first one."""
    to = client()
    with reaching():
        experiment = experiment_of_search(study)
        where = experiment_id(to, experiment)
        place = portable(study_uri)
        found = to.search_runs([where], f"tags.study = '{place}' and tags.level = 'study'", max_results=1)
        if found:
            parent = found[0].info.run_id
        else:
            tags = {"mlflow.runName": study, "study": place, "level": "study"}
            parent = to.create_run(where, tags=tags).info.run_id
            to.set_terminated(parent, "FINISHED")
    tags = {
        "study": place,
        "level": "trial",
        "trial": trial.get("number", ""),
        "state": trial.get("state", ""),
    }
    with track(
        f"{study}-{trial.get('number', '')}",
        experiment=experiment,
        parent=parent,
        tags=tags,
        params=trial.get("choices"),
    ) as run:
        for step, value in trial.get("history") or ():
            run.log({"fidelity": value}, step=int(step))
        run.log(trial.get("metrics") or {})
        run.log({"seconds": float(trial.get("seconds") or 0.0)})


def dataset_input(dataset: Dataset, context: str) -> Any:
    from mlflow.entities import Dataset as Entry
    from mlflow.entities import DatasetInput, InputTag

    kind = "s3" if dataset.uri.startswith("s3://") else "local"
    source = json.dumps({"uri": portable(dataset.uri)})
    profile = json.dumps({f"num_rows_{split}": dataset.rows(split) for split in ("train", "holdout")})
    entry = Entry(dataset.name, dataset.fingerprint, kind, source, profile=profile)
    return DatasetInput(entry, [InputTag("mlflow.data.context", context)])


def portable(uri: str) -> str:
    """A URI without this machine's folders: below the store, or its last two parts."""
    if "://" in uri:
        return uri
    root = read_settings().store + "/"
    return uri[len(root) :] if uri.startswith(root) else "/".join(uri.rstrip("/").split("/")[-2:])


def placed(uri: str) -> str:
    """Where a portable URI is on this machine, if it is below the store."""
    return uri if "://" in uri or uri.startswith("/") else f"{read_settings().store}/{uri}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            flatten(value, f"{prefix}{key}.")
            if isinstance(value, Mapping) and value
            else {f"{prefix}{key}": value}
        )
    return flat


def clean_key(key: str) -> str:
    """MLflow keys hold letters, digits and `_-. /`."""
    return "".join(c if (c.isalnum() and c.isascii()) or c in "_-. /" else "_" for c in key)[:250]
