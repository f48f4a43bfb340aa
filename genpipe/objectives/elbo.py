"""The evidence lower bound of a variational autoencoder, in nats per row. Kingma & Welling 2014.

-ELBO = E_q[-log p(x|z)] + β · KL(q(z|x) ‖ N(0, I)); β = 1 is the bound, other β: Higgins et al. 2017 (β-VAE).
The first term comes from `likelihood`; this file holds the second.
"""

from __future__ import annotations

import math

from torch import Tensor


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ_z (μ² + σ² - 1 - log σ²), mean over rows. Kingma & Welling 2014, appendix
    B.

    mean, log_variance: (B, Z).
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def sampled_kl(z: Tensor, mean: Tensor, log_variance: Tensor, log_prior: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ p) by one draw a row: log q(z) - log p(z), mean over rows, for a p without a closed form.

    z, mean, log_variance: (B, Z), z drawn from q. log_prior: (B,) log p(z).
    """
    square = (z - mean).square() * (-log_variance).exp()
    log_posterior = -0.5 * (square + log_variance + math.log(2 * math.pi)).sum(1)
    return (log_posterior - log_prior).mean()
