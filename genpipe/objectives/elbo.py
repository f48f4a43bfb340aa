"""The evidence lower bound of a variational autoencoder, in nats per row. Kingma & Welling 2014.

-ELBO = E_q[-log p(x|z)] + β · KL(q(z|x) ‖ N(0, I)); β = 1 is the bound, other β: Higgins et al. 2017 (β-VAE).
The first term comes from `likelihood`; this file holds the second.
"""

from __future__ import annotations

from torch import Tensor


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ_z (μ² + σ² - 1 - log σ²), mean over rows. Kingma & Welling 2014, appendix
    B.

    mean, log_variance: (B, Z).
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
