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

from genpipe.batch import Batch, Draws
from genpipe.spec import FREE, TensorSpec

Nets = Mapping[str, nn.Module]


class FamilyConfig(BaseModel):
    """Subclasses set `family: Literal["x"] = "x"`, the key of FAMILIES, and add what a user may set, with
    search ranges beside it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: str


@dataclass(frozen=True)
class Phase:
    """Train `trains` with this phase's loss every `every` steps."""

    name: str
    trains: tuple[str, ...]
    every: int = 1


class Family(Protocol):
    """config is the family's own typed config; spec the data's tensors.

    accepts: forms of tensors it can learn (`networks.base.FORMS`).
    network_roles: the config's network fields and the role each plays.
    takes_known: which tokens `sample` may be given beforehand: none, a row's first ones, or any.
    sample_roles: the roles `sample` needs: they alone go into the published bundle.
    phases: those of a training step; without any, no step is made and `finish` does it all.
    """

    Config: ClassVar[type[Any]]
    accepts: ClassVar[frozenset[str]]
    network_roles: ClassVar[Mapping[str, str]]
    roles: ClassVar[tuple[str, ...]]
    sample_roles: ClassVar[tuple[str, ...]]
    phases: tuple[Phase, ...]
    takes_known: str

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
        """Named scalars on held-out data (nats, bound, critic gap); no gradient is taken."""


@runtime_checkable
class Knowing(Protocol):
    """A family that draws table columns one after the other, and can be given some of them."""

    takes_known: str

    def sample(self, nets: Nets, condition: Tensor, rng: Draws, known: Tensor | None = None) -> Tensor:
        """known (B, T): tokens given beforehand; FREE where there is none, FREE - 1 - c to bar token c.

        What is known shapes everything drawn after it and, where the network learnt any order of columns,
        everything before it; without that the known tokens of a row must be its first ones.
        """

    def log_probability(self, nets: Nets, known: Tensor, condition: Tensor) -> Tensor:
        """(B, T) log of the probability of each token given the condition and the known tokens before it;
        zero where none is given.
        """


def barred(logits: Tensor, known: Tensor) -> Tensor:
    """logits (B, V) with the token that `known` (B,) bars, if any, at minus infinity."""
    rows = (known < FREE).nonzero().squeeze(1)
    if not len(rows):
        return logits
    return logits.index_put((rows, FREE - 1 - known[rows]), logits.new_tensor(-math.inf))
