"""What each phase of a GAN asks of its critic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.families.gan import GAN, GANConfig
from genpipe.objectives import ADVERSARIAL
from genpipe.spec import Span, TensorSpec

ROWS = 6
SPEC = TensorSpec(
    layout="vector",
    shape=(2,),
    dtype="float32",
    spans=tuple(Span(name=n, start=i, size=1, kind="continuous") for i, n in enumerate("ab")),
)


class Counting(nn.Module):
    """Scores a row by its sum, and counts the rows it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        self.rows += len(x)
        return x.sum(1)


def played(phase: str, **options: Any) -> tuple[Counting, dict[str, Tensor], dict[str, nn.Module], Batch]:
    torch.manual_seed(0)
    family = GAN(GANConfig(latent=3, penalty="none", **options), SPEC)
    nets = {"generator": family.build()["generator"], "critic": Counting()}
    batch = Batch(torch.rand(ROWS, 2), torch.zeros(ROWS, 0, dtype=torch.long))
    terms = family.loss(phase, nets, batch, Draws(1, total=ROWS))
    return nets["critic"], terms, nets, batch  # type: ignore[return-value]


@pytest.mark.parametrize("name", [n for n, loss in ADVERSARIAL.items() if not loss.needs_penalty])
def test_only_a_loss_that_compares_pays_for_real_rows_in_the_generators_phase(name: str) -> None:
    critic, _, _, _ = played("generator", adversarial=name)
    assert critic.rows == ROWS * (2 if ADVERSARIAL[name].sees_real else 1)
    assert played("critic", adversarial=name)[0].rows == 2 * ROWS
    assert ADVERSARIAL[name].sees_real == (name == "relativistic")


def test_a_relativistic_generator_is_compared_with_the_real_rows_of_its_batch() -> None:
    _, terms, nets, batch = played("generator", adversarial="relativistic")
    with torch.no_grad():
        fake = torch.tanh(nets["generator"](Draws(1, total=ROWS).normal(3), torch.zeros(ROWS, 0)))
    expected = torch.nn.functional.softplus(batch.x.sum(1) - fake.sum(1)).mean()
    torch.testing.assert_close(terms["generator"].detach(), expected)
