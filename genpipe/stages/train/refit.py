"""Learning all rows: a twin learns the training split and is judged by the rest, then the same is done again
on all rows.

The twin is a run like any other, and the one that `final: train` would have made. The second run has its
recipe as it was settled, its seed, and as many passes over its rows (of a recipe without `epochs`, as many
steps); its codec is fitted on all rows by the same rules. Nothing is held out from it, so nothing is chosen
by its scores: it has those of its twin, and `evaluate` says so (evaluate/refit.py).

The rows are a dataset below the one they are of, <dataset>/whole/: its parts, byte for byte, all of them to
train on. It is kept as safely as they are, and goes with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset, commit, new_attempt
from genpipe.recipe import Recipe
from genpipe.stages.train.process import TrainedModel


@dataclass(frozen=True)
class Refit:
    """What a second run is told by the twin. until, metrics: see TrainingJob. origin: what its bundle says of
    it and the run's id depends on; places: what else it says.
    """

    recipe: Recipe
    until: int
    metrics: dict[str, float]
    origin: dict[str, Any]
    places: dict[str, Any]


def whole(dataset: Dataset) -> Dataset:
    """All rows of a dataset to train on, none held out; made once."""
    uri = store.join(dataset.uri, "whole")
    if Dataset.exists(uri):
        return Dataset(uri)
    attempt, parts = new_attempt(), []
    for number, part in enumerate([*dataset.parts("train"), *dataset.parts("holdout")]):
        path = f"data/{attempt}/train-{number:05d}.parquet"
        store.write_bytes(store.join(uri, path), store.read_limited(dataset.where(part), part.bytes))
        parts.append(part.model_copy(update={"path": path, "split": "train"}))
    origin = {"stage": "train", "dataset": dataset.fingerprint}
    return commit(uri, name=dataset.name, schema=dataset.schema, parts=parts, origin=origin, in_order=True)


def refit(twin: TrainedModel, dataset: Dataset, every: Dataset) -> Refit:
    """How all rows are learnt after the twin. every: `whole` of its dataset."""
    bundle = Bundle.open(twin.uri)
    training, step = bundle.recipe.training, int(bundle.origin["step"])
    more = every.rows("train") / dataset.rows("train") if training.epochs is not None else 1.0
    steps, until = (max(1, round(more * n)) for n in (training.steps, step))
    return Refit(
        bundle.recipe.model_copy(update={"training": training.model_copy(update={"steps": steps})}),
        until,
        dict(twin.metrics),
        {"final": "all", "twin": bundle.origin["run_id"], "step": until},
        {"twin_uri": twin.uri, "judged_uri": dataset.uri, "judged_fingerprint": dataset.fingerprint},
    )
