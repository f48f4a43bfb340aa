"""What an evaluation is asked for: the generator, the data it is judged by, and the place of the report."""

from __future__ import annotations

from dataclasses import dataclass

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.registry import resolve
from genpipe.requests import Evaluate
from genpipe.stages.evaluate.crossfit import folds_for
from genpipe.stages.evaluate.refit import twin_of
from genpipe.stages.trained_on import at_home, dataset_of
from genpipe.version import __version__

# part of the request: raise it when scores change meaning, so that old reports are not taken for new
FORMAT = 5
MIN_ROWS, MAX_ROWS = 500, 10_000


@dataclass(frozen=True)
class Wanted:
    """folder: of the report, by the id of the request. foreign: a warning where the model was trained on
    other data. folds: 0 where enough is held out. twin: to judge in place of a bundle that learnt all rows.
    """

    bundle: Bundle
    name: str
    dataset: Dataset
    foreign: str
    rows: int
    folds: int
    run: str
    folder: str
    twin: Bundle | None = None


def wanted_by(asked: Evaluate) -> Wanted:
    """Open the generator and the dataset. Raises what `evaluate` says."""
    resolved = resolve(asked.model)
    bundle = Bundle.open(resolved.uri)
    twin = twin_of(bundle, at_home)
    found, foreign = dataset_of(bundle, asked.dataset, twin)
    rows = asked.rows or _rows(found)
    run = resolved.uri.rstrip("/").rsplit("/", 1)[0]
    # what an earlier model has learnt, no fold can leave out
    apart = bool(foreign) or "from" in bundle.origin
    folds = 0 if twin else folds_for(found, asked.folds, run, foreign=apart)
    request = {"format": FORMAT, "code": __version__, "model": bundle.fingerprint}
    request |= {"dataset": found.fingerprint, **asked.identity(), "rows": rows, "folds": folds}
    if not folds:
        del request["folds"]
    folder = store.join(run, "evaluation", store.digest(request))
    return Wanted(bundle, resolved.name, found, foreign, rows, folds, run, folder, twin)


def _rows(dataset: Dataset) -> int:
    # never more than there are training rows: the ceiling needs as many real ones
    return max(2, min(max(dataset.rows("holdout"), MIN_ROWS), MAX_ROWS, dataset.rows("train")))
