"""A recipe: everything that decides a training run but the data, as one frozen, typed, JSON-able value.

Each part's config lives beside the part (families, networks, codecs); a recipe holds them and `check` knows
which
fit together: family × data kind × layout × network. Search ranges stand beside the parameters they vary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from genpipe.codecs import CODECS
from genpipe.codecs.base import CodecConfig
from genpipe.entries import entries_of
from genpipe.errors import UsageError
from genpipe.families import FAMILIES, AnyFamily, form_for
from genpipe.families.base import Family
from genpipe.kinds import DataKind
from genpipe.networks import NETWORKS, check_network
from genpipe.plugins import needed_by
from genpipe.schema import Schema
from genpipe.spec import Layout, TensorSpec

Decay = Annotated[float, Field(ge=0, lt=1)]


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
