"""The data as a Gaussian a class, and how rows flow from noise to data along it: where flow matching starts.

Of a Gaussian the best velocity is known, and at high noise that of any data is nearly a Gaussian's (Wang &
Vastola 2023, "The hidden linear structure in score-based models", arXiv:2311.10892). With a covariance in
the place of one number this is the preconditioning of Karras et al. 2022 (EDM, section 5, table 1).

B rows · D numbers of a row · K directions of largest variance · M cells: combinations of classes, and all
rows as the first · S width of the one-hot condition
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

DIRECTIONS, NUMBERS = 128, 2**22  # at most; of all directions, and of all means
CELLS = 256  # at most: of more, one Gaussian is fitted to all rows
PER_DIRECTION = 20  # rows, so that no direction is a few rows' own
STRENGTH = 20.0  # rows that the mean of all counts for in a cell
LEAST = 1e-6  # variance


class Gaussian(nn.Module):
    """N(0, I) until `fit`; then a cell has its mean, its variance along its own axes in the space of the
    shared directions, and one variance for all that is not in it.
    """

    means: Tensor
    directions: Tensor
    axes: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, size: int, conditions: Sequence[int]) -> None:
        """size: D. conditions: the number of classes of each condition field."""
        super().__init__()
        cells = math.prod(conditions) if conditions else 0
        self.sizes = tuple(conditions) if cells <= min(CELLS, NUMBERS // size) else ()
        cells = 1 + (cells if self.sizes else 0)
        most = max(1, min(DIRECTIONS, size, NUMBERS // size))
        self.register_buffer("means", torch.zeros(cells, size))
        self.register_buffer("directions", torch.zeros(size, most))
        self.register_buffer("axes", torch.eye(most).repeat(cells, 1, 1))
        self.register_buffer("variances", torch.ones(cells, most))
        self.register_buffer("rest", torch.ones(cells, 1))

    def cells(self, c: Tensor) -> Tensor:
        """(B,) the cell of each row of a one-hot condition c (B, S); 0 where it is all zeros."""
        cell = torch.zeros(len(c), dtype=torch.long, device=c.device)
        if not self.sizes:
            return cell
        for part in c.split(self.sizes, 1):
            cell = cell * part.shape[1] + part.argmax(1)
        return torch.where(c.any(1), cell + 1, 0)

    @torch.no_grad()
    def fit(self, x: Tensor, c: Tensor, seed: int) -> None:
        """To training rows x (N, D) of a one-hot condition c (N, S); buffers are changed in place."""
        from threadpoolctl import threadpool_limits

        here = copy.deepcopy(self).cpu()
        with threadpool_limits(1):  # sums of several threads depend on their number
            here._fit(x.cpu(), self.cells(c).cpu(), seed)
        for own, fitted in zip(self.buffers(), here.buffers(), strict=True):
            own.copy_(fitted)

    def _fit(self, x: Tensor, cell: Tensor, seed: int) -> None:
        from sklearn.utils.extmath import randomized_svd

        self.means[:] = x.mean(0)
        for k in range(1, len(self.means)):
            own = x[cell == k]
            self.means[k] = (own.sum(0) + STRENGTH * self.means[0]) / (len(own) + STRENGTH)
        off, count = x - self.means[cell], min(self.directions.shape[1], len(x) // PER_DIRECTION)
        if count:
            found = randomized_svd(off.numpy(), count, n_iter=4, random_state=seed % 2**32)[2]
            self.directions[:, :count] = torch.from_numpy(found.T.copy())
        self._measure(x - self.means[0], off, cell)

    def _measure(self, whole: Tensor, off: Tensor, cell: Tensor) -> None:
        """Covariances of N rows, from the mean of all and from their cell's. Few rows of a cell lean on all:
        what these say counts for as many rows as there are directions.
        """
        most = self.directions.shape[1]
        first, shared = self._moments(whole), self._moments(off)
        for k in range(len(self.means)):
            own = off[cell == k]
            covariance, rest = first if k == 0 else shared
            if k and len(own):
                mine, left = self._moments(own)
                weight = len(own) / (len(own) + most)
                covariance = weight * mine + (1 - weight) * covariance
                rest = weight * left + (1 - weight) * rest
            variances, axes = torch.linalg.eigh(covariance)
            self.rest[k] = rest.clamp_min(LEAST)
            self.axes[k], self.variances[k] = axes, variances.clamp_min(LEAST)

    def _moments(self, off: Tensor) -> tuple[Tensor, Tensor]:
        """(K, K) covariance along the directions, () variance of what is outside of them."""
        along, rows = off @ self.directions, len(off)
        left = off.square().sum() - along.square().sum()
        count = int(self.directions.any(0).sum())
        rest = left / rows / max(1, off.shape[1] - count)
        idle = torch.ones(self.directions.shape[1])
        idle[:count] = 0.0  # of fewer directions, the others are outside
        return along.T @ along / rows + torch.diag(idle * rest), rest

    def velocity(self, x: Tensor, t: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) the mean of data - noise at x = t data + (1 - t) noise, and (B, 1) its standard deviation
        around that, the root of the mean square over D. x (B, D), t (B,), c (B, S).

        Where the variance is λ, x has q = t²λ + (1-t)²; x and data - noise together have tλ - (1-t); what x
        leaves open of data - noise is λ/q.
        """
        t, cell = t.unsqueeze(1), self.cells(c)
        mean, inside, outside = self.means[cell], self.variances[cell], self.rest[cell]
        q_inside, q_outside = (t.square() * v + (1 - t).square() for v in (inside, outside))
        others = (t * outside - (1 - t)) / q_outside
        slope = (t * inside - (1 - t)) / q_inside - others
        off = x - t * mean
        velocity = mean + others * off + self._stretched(off, slope, cell)
        size, count = self.directions.shape
        left = (inside / q_inside).sum(1, keepdim=True) + (size - count) * outside / q_outside
        return velocity, (left / size).sqrt()

    def moved(self, x: Tensor, begin: float, end: float, c: Tensor) -> Tensor:
        """(B, D) where a Gaussian's velocity takes x (B, D) from one time to another: what is off the mean
        grows with the root of q.
        """
        cell = self.cells(c)
        mean, inside, outside = self.means[cell], self.variances[cell], self.rest[cell]

        def growth(variance: Tensor) -> Tensor:
            return ((end**2 * variance + (1 - end) ** 2) / (begin**2 * variance + (1 - begin) ** 2)).sqrt()

        off, others = x - begin * mean, growth(outside)
        return end * mean + others * off + self._stretched(off, growth(inside) - others, cell)

    def _stretched(self, off: Tensor, by: Tensor, cell: Tensor) -> Tensor:
        """off (B, D) times `by` (B, K) along the axes of each row's cell; nothing of what is outside."""
        along = off @ self.directions
        if len(self.axes) == 1:
            along = ((along @ self.axes[0]) * by) @ self.axes[0].T
        else:
            axes = self.axes[cell]
            along = torch.einsum("bkj,bj->bk", axes, torch.einsum("bk,bkj->bj", along, axes) * by)
        return along @ self.directions.T
