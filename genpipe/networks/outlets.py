"""Which outlet a sequence model has for its tensors, and how one position of it is predicted."""

from __future__ import annotations

from torch import Tensor

from genpipe.networks.base import form
from genpipe.networks.head import ColumnOutlet, Outlet
from genpipe.networks.in_turn import HIDDEN, InTurn
from genpipe.spec import TensorSpec

AnyOutlet = Outlet | ColumnOutlet | InTurn


def make_outlet(spec: TensorSpec, width: int, *, mixture: int = 1, channels: str = "together") -> AnyOutlet:
    """The outlet for these tensors: see `networks.base.form`. channels: of real values."""
    if form(spec) == "columns":
        return ColumnOutlet(spec, width)
    if spec.layout == "sequence" and channels == "in turn":
        return InTurn(spec, width, mixture=mixture)
    return Outlet(spec, width, mixture=mixture)


def density_numbers(spec: TensorSpec, mixture: int, channels: str) -> int:
    """How many numbers of a row sampling holds of one step of real values."""
    if channels == "in turn":
        return 2 * HIDDEN + 3 * mixture + 3 * spec.shape[-1]
    return mixture * (1 + 2 * spec.shape[-1])


def outlet_of_all(outlet: AnyOutlet, h: Tensor, x: Tensor) -> Tensor | list[Tensor]:
    """Of all positions, of which h (B, T, E) knows those before. x: (B, T) or (B, T, C)."""
    return outlet(h, shifted(x)) if isinstance(outlet, InTurn) else outlet(h)


def outlet_at(outlet: AnyOutlet, h: Tensor, previous: Tensor | None, position: int) -> Tensor:
    """(B, E) -> (B, P): one position's predictions. previous: the values before it, None at the first."""
    if not isinstance(outlet, InTurn):
        return outlet.at(h, position)
    return outlet(h, h.new_zeros(len(h), outlet.channels) if previous is None else previous)


def shifted(x: Tensor) -> Tensor:
    """x (B, T, C) a step later, which begins with zeros."""
    return x.roll(1, 1).index_fill(1, x.new_zeros(1).long(), 0.0)
