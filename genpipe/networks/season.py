"""Where a step lies in the day and in the week, told to the steps of a sequence model.

B batch · S width of the one-hot condition · P steps of the longest period · T steps · E width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genpipe.spec import TensorSpec


class SeasonInlet(nn.Module):
    """A learnt vector for every place of every period; the last condition says where a series begins."""

    def __init__(self, spec: TensorSpec, width: int) -> None:
        super().__init__()
        self.periods = spec.periods
        tables = [nn.Parameter(torch.randn(period, width) * 0.3) for period in spec.periods]
        self.tables = nn.ParameterList(tables)

    def split(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) -> the conditions that stay, and (B,) the place of the first step."""
        own = self.periods[0]
        return c[:, : c.shape[1] - own], c[:, c.shape[1] - own :].argmax(1)

    def forward(self, begins: Tensor, first: int, steps: int) -> Tensor:
        """(B, T, E) of the steps from `first` on of series that begin at these places, (B,)."""
        at = begins.unsqueeze(1) + torch.arange(first, first + steps, device=begins.device)
        tables = zip(self.periods, self.tables, strict=True)
        return torch.stack([table[at % period] for period, table in tables]).sum(0)


def season_inlet(spec: TensorSpec, width: int) -> SeasonInlet | None:
    return SeasonInlet(spec, width) if spec.periods else None
