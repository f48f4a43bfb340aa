"""Adversarial losses: pure pairs of functions of critic scores; lower is better for whoever is trained.

D(x) is the critic's raw score (no sigmoid), r = D(real), f = D(G(z)), each (B,). Every function returns a
mean over its rows, so averaging over equal shards of a batch gives the loss of the whole batch.

| name | critic minimises | generator minimises |
|---|---|---|
| bce | softplus(-r) + softplus(f) | -softplus(f) |
| non_saturating | the same | softplus(-f) |
| least_squares | ((r - 1)² + f²) / 2 | (f - 1)² / 2 |
| hinge | relu(1 - r) + relu(1 + f) | -f |
| wasserstein | f - r | -f |
| relativistic | softplus(-(r - f)) | softplus(-(f - r)) |

Relativistic losses pair row i of the real with row i of the generated rows, of the same condition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any

from torch import Tensor
from torch.nn.functional import relu, softplus


@dataclass(frozen=True)
class Adversarial:
    """critic(real_scores, fake_scores) and generator(fake_scores) or, where it compares both, as relativistic
    losses do, generator(real_scores, fake_scores); all to be minimised.

    needs_penalty: it means nothing unless a penalty bounds the critic's slope.
    settings: what a search sets together with this loss: a field of GANConfig -> its value in the paper.
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[..., Tensor]
    needs_penalty: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.needs_penalty and "penalty" not in self.settings:
            raise ValueError("a loss that needs a penalty must name one in its settings")

    @cached_property
    def sees_real(self) -> bool:
        """Whether the generator's side takes real scores, too; only then is the critic asked for them."""
        return len(signature(self.generator).parameters) == 2


def bce_critic(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross-entropy of telling real from fake: -log σ(r) - log(1 - σ(f)). Goodfellow et al. 2014, eq.
    1.
    """
    return softplus(-real).mean() + softplus(fake).mean()


def minimax_generator(fake: Tensor) -> Tensor:
    """The generator's side of the same game: log(1 - σ(f)). Goodfellow et al. 2014, eq. 1."""
    return -softplus(fake).mean()


def non_saturating_generator(fake: Tensor) -> Tensor:
    """-log σ(f): same fixed point, strong gradient where the critic wins. Goodfellow et al. 2014, §3."""
    return softplus(-fake).mean()


def least_squares_critic(real: Tensor, fake: Tensor) -> Tensor:
    """Regression of real to 1 and fake to 0. Mao et al. 2017 (LSGAN), eq. 9."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def least_squares_generator(fake: Tensor) -> Tensor:
    """Pull fake scores to 1. Mao et al. 2017 (LSGAN), eq. 9."""
    return 0.5 * (fake - 1).square().mean()


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """Only scores inside the margin count: max(0, 1 - r) + max(0, 1 + f). Lim & Ye 2017 (Geometric GAN)."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """Minus the dual of the earth mover's distance, for a 1-Lipschitz critic. Arjovsky et al. 2017, eq. 2."""
    return fake.mean() - real.mean()


def raise_scores(fake: Tensor) -> Tensor:
    """-f: the generator of the hinge and of the Wasserstein game. Lim & Ye 2017; Arjovsky et al. 2017."""
    return -fake.mean()


def relativistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    """-log σ(r - f): a real row looks more real than a generated one. Jolicoeur-Martineau 2018 ("The
    relativistic discriminator", arXiv:1807.00734; RSGAN, also RpGAN); why modes stay: Sun et al. 2020.
    """
    return softplus(fake - real).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-log σ(f - r): the same game from the other side. Jolicoeur-Martineau 2018."""
    return softplus(real - fake).mean()
