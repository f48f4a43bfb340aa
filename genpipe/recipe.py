"""A recipe: everything that decides a training run but the data, as one frozen, typed, JSON-able value.

Each part's config lives beside the part (families, networks, codecs); a recipe holds them and `check` knows
which
fit together: family × data kind × layout × network. Search ranges stand beside the parameters they vary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from genpipe.codecs import CODECS
from genpipe.codecs.base import CodecConfig
from genpipe.entries import entries_of
from genpipe.errors import UsageError
from genpipe.families import FAMILIES, AnyFamily, form_for
from genpipe.families.base import Family
from genpipe.families.sequence import STRETCH, SequenceConfig
from genpipe.families.trees import TreesConfig
from genpipe.kinds import DataKind
from genpipe.networks import NETWORKS, check_network
from genpipe.plugins import needed_by
from genpipe.schema import Schema
from genpipe.spec import Layout, TensorSpec

Decay = Annotated[float, Field(ge=0, lt=1)]
EVALUATIONS = 3  # of a run whose length follows from the data
WATCHES = 12  # looks at the holdout's losses alone, of a run that settles
DECAY = 0.5  # of weights, where the recipe leaves it to the data and there is much of it
# of few rows: penalty of weights an option a row; options counted at least; penalty at most
L2, FEWEST_OPTIONS, MOST_L2 = 0.005, 300, 0.002


class Training(BaseModel):
    """How long and how fast. batch_size is of all workers together, so their number does not change the
    result.

    epochs: passes over the training rows. Where given, `fitted_to` sets steps, evaluations and a batch no
    larger than the rows deserve when the data is known, and the numbers here are upper limits; a batch that
    is smaller for it gets a lower learning rate.
    optimizer: adamw, or muon for the matrices inside networks of sequences (training/muon.py).
    weight_decay: of either. l2: of half the squares of weights, added to the loss. Without numbers (null)
    what so many rows deserve, where epochs are given: decay for many, l2 for few.
    balance: draw each batch over the classes of the condition by the logarithm of their frequency, so that
    rare ones are seen (CTGAN's training by sampling); for data that fits memory; no effect without classes.
    schedule: of the learning rate after its warm-up. settle: constant until the holdout's loss, looked at
    WATCHES times a run, hardly falls any more, or half of the steps are made; then for as many steps a line
    to zero. So a run of much data is shorter than its steps; a bundle's recipe has those that it made.
    warmup: steps of linear increase of the learning rate. clip: largest gradient norm of a network.
    ema: decay of the averaged weights that are evaluated and published; None publishes the last ones.
    monitor: which score on the holdout decides when to stop and which weights are kept. A likelihood knows
    memorising from learning, so text and series models monitor `loss`; a critic's loss says no such thing.
    evaluate_every: steps between two scores on the holdout. patience: scores without a new best before
    stopping.
    checkpoint_every: steps between two checkpoints. precision: auto takes bfloat16 where the device gains by
    it: large networks on a GPU, convolutions and the LSTM on a CPU that multiplies it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int = Field(default=1000, ge=1, le=10**9)
    epochs: float | None = Field(default=None, gt=0, le=1e6)
    batch_size: int = Field(
        default=128, ge=1, le=2**20, json_schema_extra={"search": {"choices": [8, 16, 32, 64, 128, 256, 512]}}
    )
    balance: bool = False
    learning_rate: float = Field(
        default=1e-3, gt=0, lt=10, json_schema_extra={"search": {"low": 2e-4, "high": 2e-2, "log": True}}
    )
    optimizer: Literal["adamw", "muon"] = Field(default="adamw", exclude_if=lambda name: name == "adamw")
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: float | None = Field(default=0.0, ge=0, le=1000)
    l2: float | None = Field(default=0.0, ge=0, le=1000, exclude_if=lambda l2: l2 == 0)
    schedule: Literal["constant", "cosine", "settle"] = "constant"
    warmup: int = Field(default=0, ge=0, le=10**9)
    clip: float | None = Field(default=None, gt=0, le=1e9)
    ema: float | None = Field(default=None, gt=0, lt=1)
    evaluate_every: int = Field(default=200, ge=1, le=10**9)
    monitor: Literal["fidelity", "loss"] = "fidelity"
    patience: int = Field(default=10, ge=1, le=10**9)
    checkpoint_every: int = Field(default=500, ge=1, le=10**9)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class Recipe(BaseModel):
    """name: what runs and models made from it are called."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    kind: DataKind
    layout: Layout
    family: AnyFamily
    training: Training = Training()
    codec: CodecConfig = CodecConfig()

    @property
    def form(self) -> str:
        """The form of the tensors it learns from (networks/base.py)."""
        return CODECS[self.kind].form(self.layout)


def derived(
    recipe: Recipe, name: str, *, training: Mapping[str, Any] | None = None, **changes: Any
) -> Recipe:
    """A copy of a recipe under another name: `training` updates its fields, `changes` replace whole parts."""
    trained = recipe.training.model_copy(update=dict(training or {}))
    return recipe.model_copy(update={"name": name, "training": trained, **changes})


def as_meant(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a bundle, with what one of an earlier version meant where a newer field is left out."""
    family = recipe.get("family") if isinstance(recipe, dict) else None
    if isinstance(family, dict) and family.get("family") == "vae":
        recipe = {**recipe, "family": {"prior": "normal", "width_rate": 1.0, **family}}
    return recipe


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


def plugins_of(recipe: Recipe) -> dict[str, dict[str, str]]:
    """The plug-ins that a recipe's parts come from, as a bundle's origin.json names them."""
    return needed_by(entries_of(recipe))


def make_family(recipe: Recipe, spec: TensorSpec) -> Family:
    """The recipe's game, for tensors of this spec."""
    return FAMILIES[recipe.family.family](recipe.family, spec)


def layouts(kind: str, family: str) -> tuple[str, ...]:
    """Layouts in which this family can learn this kind of data, the codec's favourite first."""
    accepts = FAMILIES[family].accepts
    return tuple(name for name in CODECS[kind].layouts if CODECS[kind].form(name) in accepts)


def check_parts(recipe: Recipe) -> None:
    """Raise a UsageError where family, kind, layout and networks do not fit together."""
    family = recipe.family.family
    allowed = layouts(recipe.kind, family)
    if not allowed:
        able = [name for name in FAMILIES if layouts(recipe.kind, name)]
        raise UsageError(
            "FAMILY",
            where="family.family",
            found=f"family {family!r} for {recipe.kind} data",
            expected="one of " + ", ".join(able),
        )
    if recipe.layout not in allowed:
        raise UsageError(
            "LAYOUT",
            where="layout",
            found=f"layout {recipe.layout!r} with family {family!r} and {recipe.kind} data",
            expected=" or ".join(allowed),
        )
    for field, role in FAMILIES[family].network_roles.items():
        config = getattr(recipe.family, field)
        where = f"family.{field}.network"
        check_network(config, role, form_for(family, field, recipe.form), where=where)


def check(recipe: Recipe, schema: Schema) -> None:
    """Raise a UsageError where the recipe's parts do not fit each other or the data."""
    if recipe.kind != schema.kind:
        raise UsageError(
            "KIND",
            where="kind",
            found=f"recipe {recipe.name!r} is for {recipe.kind} data, the dataset is {schema.kind}",
            fix=f"take a recipe for {schema.kind} data",
        )
    check_parts(recipe)


__all__ = ["FAMILIES", "NETWORKS", "Recipe", "Training", "check", "check_parts", "layouts", "make_family"]
