"""How a game is played: which roles take part, in which phases they train, what each phase's loss is.

The training loop knows no more of a generator than this. `loss` is handed networks, a batch and random
draws and returns named scalars; the loop sums them, steps the roles of the phase and logs them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.spec import UNOBSERVED, TensorSpec

Nets = Mapping[str, nn.Module]


class FamilyConfig(BaseModel):
    """Subclasses set `family: Literal["x"] = "x"`, the key of FAMILIES, and add what a user may set, with
    search ranges beside it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: str


@dataclass(frozen=True)
class Phase:
    """Train `trains` with this phase's loss every `every` steps, from the share `begin` of the run's steps to
    the share `end`.

    rate: factor of the run's learning rate (two time scales: Heusel et al. 2017, "TTUR", arXiv:1706.08500).
    """

    name: str
    trains: tuple[str, ...]
    every: int = 1
    begin: float = 0.0
    end: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.begin < self.end <= 1 and self.every >= 1 and self.rate > 0):
            raise ValueError(f"{self}: expected 0 <= begin < end <= 1, every >= 1 and rate > 0")

    def played(self, step: int, steps: int) -> bool:
        """Whether it is this phase's turn at a step, counted from 0, of a run of so many."""
        return step % self.every == 0 and self.begin * steps <= step < self.end * steps


class Family(Protocol):
    """config is the family's own typed config; spec the data's tensors.

    accepts: forms of tensors it can learn (`networks.base.FORMS`).
    network_roles: the config's network fields and the role each plays.
    takes_observed: which tokens `sample` may be given beforehand: none, a row's first ones, or any.
    sample_roles: the roles `sample` needs, without which no bundle opens.
    publishes: the roles that go into the bundle: those, and what else users of the generator need.
    metrics: the names of what `holdout_loss` returns; the first is the `loss` that a recipe may monitor.
        `nats` and `nats_per_position` are exact negative log-likelihoods, of a row and of a position of it.
    has_temperature: its config's `temperature` is that of sampling, which may be changed after training.
    One of which more may be changed names all of it in `controls`, which its config has (sampling.py).
    phases: those of a training step; without any, no step is made and `finish` does it all.

    One with networks of tensors that are not the data's own has `network_forms`, config field -> their form,
    and `network_specs(config, spec)`, config field -> their spec.
    A family that also has the methods of `Prepared`, `Latent` or `PartialConditioning` can do what these say.
    """

    Config: ClassVar[type[Any]]
    accepts: ClassVar[frozenset[str]]
    network_roles: ClassVar[Mapping[str, str]]
    roles: ClassVar[tuple[str, ...]]
    sample_roles: ClassVar[tuple[str, ...]]
    publishes: ClassVar[tuple[str, ...]]
    metrics: ClassVar[tuple[str, ...]]
    has_temperature: ClassVar[bool]
    phases: tuple[Phase, ...]
    takes_observed: str

    def __init__(self, config: Any, spec: TensorSpec) -> None: ...

    def build(self) -> dict[str, nn.Module]:
        """Fresh networks by role, initialised from torch's default generator (the loop seeds it)."""

    def loss(self, phase: str, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """Named scalar terms of this phase, each a mean over the batch."""

    def sample(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        """x of rng's rows, scaled as Batch.x, given condition (B, K)."""

    def finish_rows(self, rows: int) -> int:
        """How many of so many training rows `finish` is to see (beyond them, some twice); 0: no finish."""

    def finish(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """Fit or adjust what is to be published, in place, once, after the last phase; then it is scored."""

    def holdout_loss(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """The scalars named in `metrics` on held-out data; no gradient is taken."""


@runtime_checkable
class Prepared(Protocol):
    """A family that looks at training rows before the first step."""

    def begin_rows(self, rows: int) -> int:
        """How many of so many training rows `begin` is to see."""

    def begin(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """Set buffers of fresh networks by these rows, in place; a run that resumes has them already."""


@runtime_checkable
class Latent(Protocol):
    """A family with a latent code of every row: rows near a row, and rows between two, are decoded codes.

    latent: Z, the numbers of a code. `sample` decodes codes of `prior`. All need the roles in `publishes`
    alone; `prior` and `decode` need no network that plays an encoder, as consumers have none
    (registry/package.py).
    """

    latent: int

    def prior(self, nets: Nets, condition: Tensor, rng: Draws) -> Tensor:
        """(B, Z) codes of rng's rows as `sample` draws them, given condition (B, K)."""

    def encode(self, nets: Nets, batch: Batch) -> Tensor:
        """(B, Z) the code of each row; where codes are random, their mean."""

    def decode(self, nets: Nets, z: Tensor, condition: Tensor, rng: Draws) -> Tensor:
        """x of rng's rows, scaled as Batch.x, from codes z (B, Z) and condition (B, K)."""


@runtime_checkable
class PartialConditioning(Protocol):
    """A family that draws table columns one after the other, and can be given some of them."""

    takes_observed: str

    def sample(self, nets: Nets, condition: Tensor, rng: Draws, observed: Tensor | None = None) -> Tensor:
        """observed (B, T): tokens given beforehand; UNOBSERVED where there is none, UNOBSERVED - 1 - c to bar
        token c.

        What is observed shapes everything drawn after it and, where the network learnt any order of columns,
        everything before it; without that the observed tokens of a row must be its first ones.
        """

    def log_probability(self, nets: Nets, observed: Tensor, condition: Tensor) -> Tensor:
        """(B, T) log of the probability of each token given the condition and the observed tokens before it;
        zero where none is given.
        """


def without_barred(logits: Tensor, observed: Tensor) -> Tensor:
    """logits (B, V) with the token that `observed` (B,) bars, if any, at minus infinity."""
    rows = (observed < UNOBSERVED).nonzero().squeeze(1)
    if not len(rows):
        return logits
    return logits.index_put((rows, UNOBSERVED - 1 - observed[rows]), logits.new_tensor(-math.inf))
