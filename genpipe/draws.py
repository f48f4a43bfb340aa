"""The random numbers a training step or a sample may use, and the kernels that turn them into draws.

B rows · V options
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from genpipe.seeds import derive

GOLDEN = (5**0.5 - 1) / 2
LAST = 1 - 2**-24  # the greatest float below 1
SORTED = 2**16


class Draws:
    """Random numbers for rows [start, stop) of a global batch of `total` rows.

    Every rank draws the numbers of the whole batch and keeps its own rows, so that one worker and many
    see the same noise for the same row. Drawn on the CPU: the same stream on every device.
    """

    def __init__(
        self,
        seed: int,
        *path: int | str,
        total: int,
        start: int = 0,
        stop: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.generator = torch.Generator().manual_seed(derive(seed, *path))
        self.total, self.start, self.stop, self.device = total, start, total if stop is None else stop, device

    def of(self, total: int) -> Draws:
        """Numbers for a whole batch of another size, from this generator."""
        other = copy(self)
        other.total, other.start, other.stop = total, 0, total
        return other

    def _keep(self, full: Tensor) -> Tensor:
        return full[self.start : self.stop].to(self.device, non_blocking=True)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal."""
        return self._keep(torch.randn(self.total, *shape, generator=self.generator))

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) uniform in [0, 1)."""
        return self._keep(torch.rand(self.total, *shape, generator=self.generator))

    def integers(self, high: int, *shape: int) -> Tensor:
        """(B, *shape) integers in [0, high)."""
        return self._keep(torch.randint(high, (self.total, *shape), generator=self.generator))

    def categorical(self, logits: Tensor) -> Tensor:
        """(B, ...) a draw from the softmax over the last axis of `logits` (B, ..., V) (Gumbel trick)."""
        noise = self.uniform(*logits.shape[1:]).to(logits.dtype).clamp_(1e-9, 1.0)
        return (logits - torch.log(torch.log(noise).neg().clamp_min(1e-30))).argmax(-1)

    def shared(self) -> float:
        """A uniform number in [0, 1), the same on every rank."""
        return float(torch.rand(1, generator=self.generator))

    def order(self, size: int) -> Tensor:
        """(size,) a random order, the same on every rank."""
        return torch.randperm(size, generator=self.generator).to(self.device)

    def systematic(self, upto: Tensor, alike: Tensor) -> Tensor:
        """(B,) a draw for each row of `upto` (V, B), see `cumulated`, evened out over rows that are alike;
        `upto` is overwritten.

        alike: (B,) whole numbers from 0 on, near for rows of near distributions. Each row alone draws as
        `categorical` does; but in the order of `alike` the uniform numbers walk a golden-ratio lattice from a
        random start, so that neighbours complement each other and a block's shares come out nearly exact
        (systematic sampling: Madow 1949; the lattice: Weyl 1916). Equal ones come in a random order: in that
        of rows, columns drawn so would depend on each other. Whole batches only.
        """
        if (self.start, self.stop) != (0, self.total):
            raise ValueError("an evened-out draw needs all rows of the batch")
        steps = torch.arange(self.total, dtype=torch.float64) * GOLDEN
        lattice = torch.rand(1, generator=self.generator) + steps
        uniform = torch.empty_like(upto[0])
        mixed = self.order(self.total)
        uniform[mixed[in_order(alike[mixed])]] = lattice.frac().float().clamp_(max=LAST).to(upto.device)
        passed = upto.le_(uniform * upto[-1]).sum(0)  # floats are summed faster
        return passed.long().clamp_(max=len(upto) - 1)


class Middle(Draws):
    """The middle of every draw in place of chance: no noise, and uniform numbers of one half, which add the
    same to each option. So a Gaussian gives its mean and a choice its likeliest option.
    """

    def __init__(self, rows: int, *, device: torch.device | str = "cpu") -> None:
        super().__init__(0, "middle", total=rows, device=device)

    def normal(self, *shape: int) -> Tensor:
        return torch.zeros(self.total, *shape, device=self.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.full((self.total, *shape), 0.5, device=self.device)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.full((self.total, *shape), high // 2, device=self.device)


def cumulated(logits: Tensor) -> Tensor:
    """(V, B) sums of the softmax's weights over the options up to each, of logits (B, V); not divided by
    their total, the last. `logits` is overwritten. Options go first because with rows side by side in memory
    every operation takes many at once, which few options do not.
    """
    weights = logits.t().contiguous()
    weights.sub_(weights.amax(0)).exp_()
    if weights.device.type != "cpu":
        return weights.cumsum(0)
    for before, after in pairwise(weights.unbind(0)):  # on a CPU three times as fast as cumsum(0)
        after.add_(before)
    return weights


def in_order(number: Tensor) -> Tensor:
    """(B,) a stable argsort of whole numbers from 0 on, told apart only as far as 16 bits do: these are
    sorted by radix, ten times as fast.
    """
    most = int(number.max()) + 1
    if most > SORTED:
        number = number * SORTED // most
    if number.device.type != "cpu":
        return number.argsort(stable=True)
    return torch.from_numpy(number.numpy().astype(np.uint16).argsort(kind="stable"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads split sums, and floats do not add up to the same in every order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
