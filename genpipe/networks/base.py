"""What a network declares: the tensors it accepts, the roles it can play, and a plain constructor.

Roles and their calls (c is the one-hot condition, (B, S), S may be 0; Z the latent width):

| role | call | returns |
|---|---|---|
| generator, decoder | net(z: (B, Z), c) | raw output (B, *shape); `head.Head` turns it into x in [-1, 1] |
| the same, of a vector | net.bias | (D,) the last bias, which a family may shift in place |
| decoder that says `takes_x = True` | net(z, c, x) in training | the same, each position given x before it |
| critic | net(x, c) | (B,) scores |
| critic that says `compares = True` | net(x, c: (B, M, S)) | (B, M) scores of x under M conditions each |
| encoder | net(x, c) | (B, 2 * Z): mean and log-variance |
| map_encoder | net(x, c) | (B, Z, *size), size that of x after `halvings`, each rounded up |
| map_decoder | net(z: (B, Z, *size), c) | as a decoder |
| velocity | net(x, t: (B,), c) | (B, *shape): what x, noisy as at time t from 0 to 1, is to be changed by |
| model | net(x, c) | what `outlets.make_outlet` predicts of each position from those before it |

A model also samples one position at a time: `state = net.begin(c)`, then `net.step(previous, state)` returns
(B, P) for the next position, equal to what the whole call returns there. `previous` is None at the first.
One that learns any order of columns (`any_order`) takes the order and what is observed beforehand, too:
`net(x, c, order, there)` and `net.begin(c, observed)`.

A decoder that predicts one position after the other takes x while training (teacher forcing: Williams &
Zipser 1989, "A learning algorithm for continually running fully recurrent neural networks"). Its module has
the attribute `takes_x = True`; without x, as in sampling, it goes on from what it predicted itself.

What a network accepts is named by the tensors' form: the layout, except that tokens with a vocabulary of
their own at each position (a table) are `columns`, and those with one shared vocabulary (text) `tokens`.

No network uses statistics over the batch (BatchNorm): one worker and many must agree on a global batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict
from torch import nn

from genpipe.spec import TensorSpec

MAPS: tuple[str, ...] = ("map_encoder", "map_decoder")
FORMS: tuple[str, ...] = ("vector", "grid", "sequence", "tokens", "columns")


class NetworkConfig(BaseModel):
    """Subclasses set `network: Literal["x"] = "x"`, the key of NETWORKS, and add their sizes within limits,
    with search ranges beside them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    network: str

    def held(self, spec: TensorSpec, rows: int) -> int:
        """How many numbers, about, sampling so many rows holds at once beside what it is given and makes."""
        return 0


class NetworkKind(Protocol):
    """One entry of NETWORKS."""

    Config: ClassVar[type[Any]]
    accepts: ClassVar[frozenset[str]]
    roles: ClassVar[frozenset[str]]

    @staticmethod
    def build(role: str, spec: TensorSpec, config: Any, *, latent: int = 0) -> nn.Module:
        """One that can make or read maps (a role in MAPS) is told their `halvings`, too."""


def form(spec: TensorSpec) -> str:
    """The name by which `accepts` knows these tensors."""
    return "columns" if spec.layout == "tokens" and len(spec.vocabulary) == spec.shape[0] else spec.layout


def roles_on(kind: type[NetworkKind], form: str) -> frozenset[str]:
    """The roles that a network can play on tensors of this form. One that accepts fewer forms in some roles
    has `only`, role -> forms.
    """
    only: Mapping[str, frozenset[str]] = getattr(kind, "only", {})
    if form not in kind.accepts:
        return frozenset()
    return frozenset(role for role in kind.roles if form in only.get(role, kind.accepts))
