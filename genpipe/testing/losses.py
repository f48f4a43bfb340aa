"""What every adversarial loss must keep, see genpipe/objectives/adversarial.py."""

from __future__ import annotations

import torch
from torch import Tensor

from genpipe.families.gan import GANConfig
from genpipe.objectives import ADVERSARIAL


def check_loss(name: str) -> None:
    """Means over rows, so that shards average to the batch; where the critic is undecided, it pulls real
    scores up and generated ones down, and the generator pulls up its own; its settings are a GAN's.
    """
    loss, config = ADVERSARIAL[name], GANConfig(adversarial=name, **ADVERSARIAL[name].settings)
    assert all(getattr(config, field) == value for field, value in loss.settings.items())
    real = torch.tensor([0.1, 0.4, 0.2, 0.3], requires_grad=True)
    fake = torch.tensor([0.3, 0.2, 0.4, 0.1], requires_grad=True)

    def both(r: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        return loss.critic(r, f), loss.generator(r, f) if loss.sees_real else loss.generator(f)

    critic, generator = both(real, fake)
    for whole, *halves in zip(
        (critic, generator), both(real[:2], fake[:2]), both(real[2:], fake[2:]), strict=True
    ):
        assert whole.dim() == 0, "expected a scalar"
        torch.testing.assert_close(
            torch.stack(halves).mean(), whole, msg="two shards do not average to the batch"
        )
    up, down = torch.autograd.grad(critic, (real, fake))
    assert up.sum() < 0 < down.sum(), "the critic must raise real scores and lower generated ones"
    assert torch.autograd.grad(generator, fake)[0].sum() < 0, "the generator must raise generated scores"
