"""How tokens are drawn from what a network says: hotter or colder, from fewer of them, without repeats.

B rows · V options · t tokens drawn so far
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from genpipe.families.base import FamilyConfig


class SampledConfig(FamilyConfig):
    """temperature: of sampling; 1 draws from the learnt distribution, less is safer and less varied.

    top_k: draw from the so many likeliest tokens alone (Fan et al. 2018, "Hierarchical neural story
    generation", section 5.1). top_p: from the fewest tokens that have this share together (Holtzman et al.
    2020, "The curious case of neural text degeneration", section 3.1). Both count after the temperature.
    """

    temperature: float = Field(default=1.0, gt=0, le=100)
    top_k: int | None = Field(default=None, ge=1, le=2**31, exclude_if=lambda k: k is None)
    top_p: float | None = Field(default=None, gt=0, le=1, exclude_if=lambda p: p is None)

    def shaped(self, logits: Tensor) -> Tensor:
        """(B, V) logits to draw from, float32."""
        logits = logits.float()
        if self.temperature != 1:
            logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, -1).values[..., -1:]
            logits = logits.masked_fill(logits < least, -math.inf)
        if self.top_p is not None and self.top_p < 1:
            shares, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
            beyond = shares.cumsum(-1) - shares >= self.top_p  # the likeliest is never beyond
            logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -math.inf)
        return logits


class Repeats:
    """The tokens that would make a run of `length` tokens come twice in a row (Paulus et al. 2018, "A deep
    reinforced model for abstractive summarization", section 2.5).

    same (B, t): how many tokens up to each place are as the last ones are.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.drawn: Tensor | None = None
        self.same: Tensor | None = None

    def add(self, token: Tensor) -> None:
        """token: (B,) what was drawn last."""
        new = token.unsqueeze(1)
        if self.drawn is None or self.same is None:
            self.drawn, self.same = new, torch.zeros_like(new)
            return
        before = torch.cat([torch.zeros_like(new), self.same[:, :-1]], 1)  # the last place has no other
        same = torch.where(self.drawn == new, before + 1, 0)
        self.drawn, self.same = torch.cat([self.drawn, new], 1), torch.cat([same, torch.zeros_like(new)], 1)

    def without(self, logits: Tensor) -> Tensor:
        """(B, V) logits without these tokens, unless none would be left."""
        if self.drawn is None or self.same is None or self.drawn.shape[1] < self.length:
            return logits
        rows, places = (self.same[:, :-1] >= self.length - 1).nonzero(as_tuple=True)
        if not len(rows):
            return logits
        barred = torch.zeros_like(logits, dtype=torch.bool)
        barred[rows, self.drawn[rows, places + 1]] = True
        return logits.masked_fill(barred & ~barred.all(-1, keepdim=True), -math.inf)
