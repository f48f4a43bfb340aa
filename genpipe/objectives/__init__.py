"""What is minimised: pure functions of tensors, one paper and formula each. A new loss is one pair and one
line.
"""

from __future__ import annotations

from genpipe.objectives.adversarial import (
    Adversarial,
    bce_critic,
    hinge_critic,
    least_squares_critic,
    least_squares_generator,
    minimax_generator,
    non_saturating_generator,
    raise_scores,
    relativistic_critic,
    relativistic_generator,
    wasserstein_critic,
)
from genpipe.objectives.penalties import Penalty, gradient_penalty, r1, r1_r2
from genpipe.plugins import Registry

ADVERSARIAL: Registry[Adversarial] = Registry(
    "losses",
    {
        "bce": Adversarial(bce_critic, minimax_generator),
        "non_saturating": Adversarial(bce_critic, non_saturating_generator),
        "least_squares": Adversarial(least_squares_critic, least_squares_generator),
        "hinge": Adversarial(hinge_critic, raise_scores),
        "wasserstein": Adversarial(
            wasserstein_critic,
            raise_scores,
            needs_penalty=True,  # its scores are a distance only under a critic of slope 1
            settings={
                "penalty": "gradient_penalty",
                "penalty_weight": 10.0,
                "penalty_every": 1,
            },  # of WGAN-GP
        ),
        "relativistic": Adversarial(
            relativistic_critic,
            relativistic_generator,
            settings={"penalty": "r1_r2"},  # of R3GAN: with one side's slope alone it need not converge
        ),
    },
)
PENALTIES: Registry[Penalty] = Registry(
    "penalties", {"gradient_penalty": gradient_penalty, "r1": r1, "r1_r2": r1_r2}
)

__all__ = ["ADVERSARIAL", "PENALTIES", "Adversarial"]
