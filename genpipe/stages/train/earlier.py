"""Fine-tuning: a training that goes on from an earlier model, with its codec and its networks.

What the earlier model learnt from counts as learnt: the new one may give it away, and no report on the new
data can see that. So origin.json, the tags of the registry and reports name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genpipe.bundle import Bundle
from genpipe.codecs.base import Codec
from genpipe.dataset import Dataset
from genpipe.errors import UsageError
from genpipe.recipe import Recipe, make_family
from genpipe.recipes import RECIPES, parse_recipe
from genpipe.registry import resolve
from genpipe.stages.trained_on import compatible
from genpipe.suited import fitted_to, for_length, tied_as
from genpipe.training.start import Weights, starting

ORIGIN = ("from", "from_fingerprint", "from_dataset", "codec_dataset_uri")
SLOWER = 0.3  # of the recipe's learning rate: weights that know something should not be thrown about


@dataclass(frozen=True)
class Earlier:
    """uri: of the bundle. origin: what a model that goes on from it says of it."""

    uri: str
    recipe: Recipe
    codec: Codec
    origin: dict[str, Any]


def earlier_model(model: str, recipe: Any, dataset: Dataset) -> Earlier:
    """The model to go on from, and the recipe to do it by: its networks and codec, and of the recipe that is
    asked for, or of its own by name at a lower learning rate, how long and how fast.

    Raises a UsageError where it is of other data, or cannot be gone on from.
    """
    resolved = resolve(model)
    if resolved.tables:
        found = "a generator of several tables"
        raise UsageError("FROM", where="from", found=found, expected="one of single rows")
    bundle = Bundle.open(resolved.uri)
    if bundle.learnt:
        found = "a model that learnt all rows, also those by which the new one would be judged"
        raise UsageError(
            "FROM", where="from", found=found, expected="one with a holdout", fix="go on from its twin"
        )
    compatible(bundle.schema, dataset)
    learnt = bundle.recipe
    if not bundle.family.phases:
        found = f"a generator of family {learnt.family.family}, which is fitted at once"
        raise UsageError("FROM", where="from", found=found, expected="one of networks", fix="train anew")
    chosen = parse_recipe(recipe, learnt.kind) if recipe else RECIPES.get(learnt.name, lambda: learnt)()
    kept: dict[str, Any] = {"codec": learnt.codec, "layout": learnt.layout}
    if not recipe:
        rate = chosen.training.learning_rate * SLOWER
        kept |= {
            "family": learnt.family,
            "training": chosen.training.model_copy(update={"learning_rate": rate}),
        }
    chosen = tied_as(fitted_to(chosen.model_copy(update=kept), dataset.rows("train")), learnt)
    if chosen.family.family != learnt.family.family:
        found = f"a model of family {learnt.family.family}"
        raise UsageError("FROM", where="from", found=found, expected=f"one of {chosen.family.family}")
    starting(make_family(chosen, bundle.spec), weights_of(bundle))
    first = bundle.origin.get("codec_dataset_uri") or bundle.origin.get("dataset_uri", "")
    data = str(bundle.origin.get("dataset_fingerprint", ""))
    told = (resolved.reference, bundle.fingerprint, data, str(first))
    origin = dict(zip(ORIGIN, told, strict=True))
    return Earlier(resolved.uri, for_length(chosen, bundle.spec), bundle.codec, origin)


def weights_of(bundle: Bundle) -> Weights:
    return {role: net.state_dict() for role, net in bundle.nets.items()}
