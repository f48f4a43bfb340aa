"""A recipe suited to the data at hand: by the number of rows, by their length, by whose they are."""

from __future__ import annotations

import math
from typing import Any

from genpipe.families.sequence import STRETCH, SequenceConfig
from genpipe.families.trees import TreesConfig
from genpipe.recipe import Recipe, Training
from genpipe.schema import Schema
from genpipe.spec import TensorSpec

EVALUATIONS = 3  # of a run whose length follows from the data
WATCHES = 12  # looks at the holdout's losses alone, of a run that settles
DECAY = 0.5  # of weights, where the recipe leaves it to the data and there is much of it
# of few rows: penalty of weights an option a row; options counted at least; penalty at most
L2, FEWEST_OPTIONS, MOST_L2 = 0.005, 300, 0.002
RECORD, MOST_STEPS = 128, 4000  # tokens of a text that a recipe's batches are meant for; steps of longer ones
MANY = 16_000  # training rows from which nothing is made stronger
POSITIONS, FEWEST_SERIES = 4096, 4  # steps of a batch of series at most; series of it at least
SETTLES = 4_000  # rows; fewer are learnt by heart while the rate is high, which membership attacks see
FEWEST = 7  # rows that have a code, for a leaf of a tree to say how often it comes


def fewness(rows: int, *, most: float = math.inf) -> float:
    """How many times fewer than `MANY` rows there are: from 1 to `most`."""
    return min(most, max(1.0, MANY / max(1, rows)))


def _batch_size(training: Training, rows: int) -> int:
    return min(training.batch_size, max(8, 1 << max(0, (rows // 32).bit_length() - 1)))


def slower(training: Training, rows: int) -> float:
    """The factor of the learning rate for batches as small as so few rows get."""
    return math.sqrt(_batch_size(training, rows) / training.batch_size)


def fitted_to(recipe: Recipe, rows: int) -> Recipe:
    """The recipe with all that depends on the number of training rows as a number: epochs become steps, and
    where nothing is given, weights decay, trees are cut back and their leaves tell of codes as so many rows
    deserve. What is given stays.

    Few rows get small batches, whose noise keeps a network from learning them by heart; the rule is
    after TabularARGN (Tiwald et al. 2025): a power of two near rows / 32. The learning rate follows the
    square root of it (Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient algorithms").
    That learns slower, and there are no more epochs for it: they would teach who is there, and unseen rows
    became no likelier by them. Where `penalised` will shrink weights, which keeps them from that, the rate
    follows the fourth root instead; see the lab notes for all of it.
    """
    training, family = recipe.training, recipe.family
    if isinstance(family, TreesConfig):
        deserved = {"code_minimum": FEWEST, "prune": rows < MANY}
        missing = {name: value for name, value in deserved.items() if getattr(family, name) is None}
        return recipe.model_copy(update={"family": family.model_copy(update=missing)})
    if training.epochs is None:
        return recipe
    left = training.weight_decay is None and rows < MANY  # the data decides, and there is little of it
    size, rate = _batch_size(training, rows), slower(training, rows) ** (0.5 if left else 1.0)
    steps = min(training.steps, max(1, math.ceil(training.epochs * rows / size)))
    changes: dict[str, Any] = {
        "batch_size": size,
        "steps": steps,
        "evaluate_every": min(training.evaluate_every, max(1, math.ceil(steps / EVALUATIONS))),
        "learning_rate": training.learning_rate * rate,
    }
    if getattr(getattr(family, "model", None), "ties", "all") is None:
        recipe = tied_by(recipe, "tested" if rows < MANY else "all")
    if training.schedule == "settle" and rows < SETTLES:
        changes["schedule"] = "cosine"
    if training.weight_decay is None:
        changes["weight_decay"] = 0.0 if left else DECAY
    if training.l2 is None and not left:
        changes["l2"] = 0.0
    return recipe.model_copy(update={"training": training.model_copy(update=changes)})


def tied_as(recipe: Recipe, earlier: Recipe) -> Recipe:
    """The recipe for a network that goes on from another's weights: its columns see those that were seen."""
    return tied_by(recipe, getattr(getattr(earlier.family, "model", None), "ties", None) or "all")


def tied_by(recipe: Recipe, ties: str) -> Recipe:
    """The recipe with these `ties` of its columns, where its network has any."""
    model: Any = getattr(recipe.family, "model", None)
    if not hasattr(model, "ties"):
        return recipe
    family = recipe.family.model_copy(update={"model": model.model_copy(update={"ties": ties})})
    return recipe.model_copy(update={"family": family})


def for_length(recipe: Recipe, spec: TensorSpec) -> Recipe:
    """A recipe from `fitted_to` for texts: where records are longer than `RECORD` tokens, a batch has fewer
    and there are more steps, so that an update sees as many tokens and a training as many records.
    """
    training, length = recipe.training, spec.shape[0]
    if recipe.kind != "text" or training.epochs is None or length <= RECORD:
        return recipe
    size = max(1, training.batch_size * RECORD // length)
    more = training.batch_size / size
    steps = max(training.steps, min(MOST_STEPS, math.ceil(training.steps * more)))
    every = max(1, math.ceil(training.evaluate_every * steps / training.steps))
    changes = {"batch_size": size, "steps": steps, "evaluate_every": every}
    return recipe.model_copy(update={"training": training.model_copy(update=changes)})


def penalised(recipe: Recipe, rows: int, spec: TensorSpec) -> Recipe:
    """A recipe from `fitted_to` with a number for `l2`, where that has left it to the data.

    A network has weights for every option of every column. The more of them a training row has to itself, the
    better it is remembered, so the penalty grows with the options a row. What many rows agree on outweighs
    it: columns that decide each other stay together, which a decay does not grant; see the lab notes. Half
    of it where columns come in any order: a quarter of the steps alone then teaches a column by a later one.
    """
    training = recipe.training
    if training.l2 is not None or training.epochs is None:
        return recipe
    l2 = min(MOST_L2, L2 * max(FEWEST_OPTIONS, sum(spec.vocabulary)) / max(1, rows))
    if getattr(getattr(recipe.family, "model", None), "order", "fixed") == "any":
        l2 /= 2
    return recipe.model_copy(update={"training": training.model_copy(update={"l2": l2})})


def shortened(recipe: Recipe, spec: TensorSpec) -> Recipe:
    """The recipe with no more steps of series in a batch than `POSITIONS`, where its length follows from the
    data: memory and time of an update then do not grow with series, and a step of a long one teaches as much.
    Of series with a season an update sees stretches, so many that they are as many steps; the learning rate
    follows as in `fitted_to`.
    """
    training = recipe.training
    if spec.layout != "sequence" or training.epochs is None:
        return recipe
    if spec.periods and spec.shape[0] > STRETCH and isinstance(recipe.family, SequenceConfig):
        size = max(training.batch_size, POSITIONS // STRETCH)
        rate = training.learning_rate * math.sqrt(size / training.batch_size)
        changes = {"batch_size": size, "learning_rate": rate}
        return recipe.model_copy(update={"training": training.model_copy(update=changes)})
    size = min(training.batch_size, max(FEWEST_SERIES, POSITIONS // spec.shape[0]))
    return recipe.model_copy(update={"training": training.model_copy(update={"batch_size": size})})


def of_people(recipe: Recipe, schema: Schema) -> Recipe:
    """The recipe for rows of whom the schema tells: a cluster of codes could be one person's rows."""
    if not schema.entity or getattr(recipe.family, "prior", None) != "clusters":
        return recipe
    return recipe.model_copy(update={"family": recipe.family.model_copy(update={"prior": "mixture"})})
