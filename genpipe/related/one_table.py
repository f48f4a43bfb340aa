"""One of several related tables as it is learnt: what is given is not, and its penalty is chosen.

A row of a child is never made but given its parents and the row before. A network that learnt those, too,
would learn each parent as often as it has children: of made-up visits an entity was told by it from an unseen
one with an AUC of .76 instead of .55; see the lab notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.dataset import Dataset
from genpipe.progress import Progress
from genpipe.recipe import Recipe
from genpipe.related.nodes import Node
from genpipe.requests import Train
from genpipe.stages.prepare import prepare
from genpipe.stages.train.process import TrainedModel
from genpipe.stages.train.verb import train
from genpipe.suited import DECAY, fewness, fitted_to, penalised, slower, tied_by

TIED = 2.0  # times as strong a decay as of many rows, at most
WORTH = 0.01  # nats of a held-out row and column by which a weaker penalty must be better


def together(recipe: Recipe) -> Recipe:
    """The recipe for tables that refer to each other: their columns see all others, where it says nothing of
    `ties`. With fewer, what ties a row to whom it refers is learnt less well; see the lab notes.
    """
    left = getattr(getattr(recipe.family, "model", None), "ties", "all") is None
    return tied_by(recipe, "all") if left else recipe


def given_first(recipe: Recipe, flat: Dataset, node: Node) -> Recipe:
    """The recipe for rows of which the first columns are given whenever they are made: these are not learnt,
    and no later one decides them, as dependencies found in the data would.
    """
    if not node.link and not node.references:
        return recipe
    among = tuple(f.name for f in node.own) if recipe.codec.dependencies else False
    codec_as = {"dependencies": among, "calendar": False}  # what is given is given as it is
    recipe = recipe.model_copy(update={"codec": recipe.codec.model_copy(update=codec_as)})
    if not (node.link or node.tree) or not hasattr(recipe.family, "given"):
        return recipe
    codec = prepare(flat, recipe.codec)
    assert isinstance(codec, ColumnCodec)
    own = {f.name for f in node.own} | {f.name for r in (*node.matched, *node.late) for f in r.flat}
    given = _before(codec, own)
    by_family = node.link and hasattr(recipe.family, "shared")
    shared = {"shared": _before(codec, {"position"})} if by_family else {}
    return recipe.model_copy(update={"family": recipe.family.model_copy(update={"given": given, **shared})})


def _before(codec: ColumnCodec, names: set[str]) -> int:
    """The tokens before those of the first of these columns."""
    return min((start for c, start, _ in codec.positions if c.field.name in names), default=0)


def best_of(
    flat: Dataset, recipe: Recipe, terms: Mapping[str, Any], progress: Progress, times: float = 1.0
) -> TrainedModel:
    """A training by the recipe. Where it leaves the penalty to the data, and there are few of these, that of
    so many rows so many `times`, or a weaker one if held-out rows are clearly likelier by it (as in the "one
    standard error rule", Breiman et al. 1984): columns that hardly depend on each other lose nothing by it.
    The weaker one is a decay of weights, learnt for as long as its slower rate asks.
    """

    def trained(chosen: Recipe) -> TrainedModel:
        return train(Train.of(dataset=flat.uri, recipe=chosen, **terms), progress=progress)

    first, *weaker = _penalties(flat, recipe, times)
    best = trained(first)
    if weaker:
        given = getattr(recipe.family, "given", 0)
        learnt = prepare(flat, recipe.codec).spec(recipe.layout).shape[0] - given
    for chosen in weaker:
        made = trained(chosen)
        if best.metrics["holdout.nats"] - made.metrics["holdout.nats"] <= WORTH * learnt:
            break
        best = made
    return best


def _penalties(flat: Dataset, recipe: Recipe, times: float) -> tuple[Recipe, ...]:
    """What is to be tried of a recipe, the strongest penalty first."""
    l2 = _left_to_data(flat, recipe)
    if l2 is None:
        return (recipe,)

    training = recipe.training
    longer = min(1e6, (training.epochs or 1) / slower(training, flat.rows("train")))

    def of(changes: dict[str, float]) -> Recipe:
        return recipe.model_copy(update={"training": training.model_copy(update=changes)})

    decay = DECAY * fewness(flat.rows("train"), most=TIED)
    return of({"l2": l2 * times}), of({"l2": 0.0, "weight_decay": decay, "epochs": longer})


def _left_to_data(flat: Dataset, recipe: Recipe) -> float | None:
    """The penalty of so many rows, where the recipe gives none and there is one."""
    if recipe.training.l2 is not None or recipe.training.weight_decay is not None:
        return None
    rows = flat.rows("train")
    spec = prepare(flat, recipe.codec).spec(recipe.layout)
    return penalised(fitted_to(recipe, rows), rows, spec).training.l2 or None
