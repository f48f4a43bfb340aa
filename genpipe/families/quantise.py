"""Maps of numbers to maps of tokens and back: the discrete middle of an autoencoder.

B rows · Z numbers of a code · V codes · size: positions of a map, (H, W) or (T,)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from genpipe.draws import Draws

BEYOND = 1.001  # of the outermost levels, which tanh alone would never reach
REVIVAL = 0.01  # weight of drawing a code that may be dead to a row, beside 1 for the codes of the row


class Quantiser(nn.Module, ABC):
    """z (B, Z, *size) -> codes in its place, with the gradient of z (straight-through: Bengio et al. 2013,
    "Estimating or propagating gradients through stochastic neurons", arXiv:1308.3432), and their tokens.
    """

    latent: int
    codes: int

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Z, *size) codes, (B, *size) tokens."""

    @abstractmethod
    def values(self, tokens: Tensor) -> Tensor:
        """(B, *size) -> (B, Z, *size)."""

    def terms(self, z: Tensor, tokens: Tensor, rng: Draws) -> dict[str, Tensor]:
        """What learning the codes adds to the loss, each a mean over rows."""
        return {}


class FiniteScalar(Quantiser):
    """Each number of a code is rounded to one of its levels, which lie evenly in [-1, 1]. Nothing is learnt,
    and no code can die. Mentzer et al. 2023, "Finite scalar quantization: VQ-VAE made simple",
    arXiv:2309.15505, section 3 and appendix A.1.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.latent, self.codes = len(levels), math.prod(levels)
        size = torch.tensor(levels)
        reach = (size - 1) * BEYOND / 2
        offset = torch.where(size % 2 == 0, 0.5, 0.0)  # an even number of levels has none at zero
        place = torch.tensor([1, *accumulate(levels, mul)][:-1])
        numbers = {"size": size, "reach": reach, "offset": offset, "place": place}
        for name, value in (numbers | {"shift": (offset / reach).atanh()}).items():
            self.register_buffer(name, value, persistent=False)

    def _along(self, name: str, z: Tensor) -> Tensor:
        return self.get_buffer(name).view(-1, *[1] * (z.dim() - 2))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        reach, offset, shift = (self._along(name, z) for name in ("reach", "offset", "shift"))
        bounded = (z.float() + shift).tanh() * reach - offset
        level, middle = bounded.round(), self._along("size", z) // 2
        tokens = ((level.detach().long() + middle) * self._along("place", z)).sum(1)
        return (bounded + (level - bounded).detach()) / middle, tokens

    def values(self, tokens: Tensor) -> Tensor:
        tokens = tokens.unsqueeze(1)
        size, place = self._along("size", tokens), self._along("place", tokens)
        return ((tokens // place) % size - size // 2) / (size // 2)


class Codebook(Quantiser):
    """The nearest of V learnt codes: van den Oord et al. 2017, "Neural discrete representation learning"
    (VQ-VAE), arXiv:1711.00937, section 3.2, its codes by gradient (eq. 3).

    A code that no row is near would stay so. So each position draws one more code, any of them, a little to
    itself. Adam steps by the sign of a gradient more than by its size: a dead code comes at full speed, and a
    code in use hardly notices. A restart from a batch's rows would differ from worker to worker.
    """

    def __init__(self, codes: int, latent: int, commitment: float) -> None:
        super().__init__()
        self.latent, self.codes, self.commitment = latent, codes, commitment
        self.book = nn.Parameter(torch.randn(codes, latent))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.float()
        with torch.no_grad():
            each = z.movedim(1, -1)
            far = self.book.square().sum(1) - 2 * each @ self.book.t()  # + each², the same for all codes
            tokens = far.argmin(-1)
        return z + (self.values(tokens) - z).detach(), tokens

    def values(self, tokens: Tensor) -> Tensor:
        return self.book[tokens].movedim(-1, 1)

    def terms(self, z: Tensor, tokens: Tensor, rng: Draws) -> dict[str, Tensor]:
        z = z.float()
        any_code = rng.integers(self.codes, *tokens.shape[1:])
        revival = mse_loss(self.values(any_code), z.detach())
        return {
            "codebook": mse_loss(self.values(tokens), z.detach()) + REVIVAL * revival,
            "commitment": self.commitment * mse_loss(z, self.values(tokens).detach()),
        }
