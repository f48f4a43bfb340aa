"""After training a table's choices come in the shares of the training split, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genpipe.batch import Batch
from genpipe.draws import Draws
from genpipe.families.gan import GAN, GANConfig
from genpipe.families.vae import VAE, VAEConfig
from genpipe.spec import Span, TensorSpec

SPEC = TensorSpec(
    layout="vector",
    shape=(6,),
    dtype="float32",
    spans=(
        Span(name="a", start=0, size=1, kind="continuous"),
        Span(name="b", start=1, size=3, kind="categorical"),
        Span(name="c", start=4, size=2, kind="categorical"),
    ),
    conditions=(2,),
)
GAMES: dict[str, Any] = {"gan": (GAN, GANConfig()), "vae": (VAE, VAEConfig(prior="normal"))}
ROWS = 4000


def table() -> Batch:
    """b: .7 .3 .0, c: .95 .05, independent of one another."""
    row = torch.arange(ROWS)
    b = torch.where(row % 10 < 7, 0, 1)
    c = (row % 20 == 3).long()
    hot = torch.nn.functional.one_hot
    x = torch.cat([torch.full((ROWS, 1), 0.25), hot(b, 3).float(), hot(c, 2).float()], 1)
    return Batch(x, (row % 2).unsqueeze(1))


@pytest.mark.parametrize("name", GAMES)
def test_choices_come_as_often_as_in_training(name: str) -> None:
    kind, config = GAMES[name]
    family, batch = kind(config, SPEC), table()
    torch.manual_seed(0)
    nets = family.build()
    before = family.sample(nets, batch.condition, Draws(1, total=ROWS))
    assert (before[:, 1:].mean(0) - batch.x[:, 1:].mean(0)).abs().max() > 0.2
    assert family.finish_rows(ROWS) == ROWS and family.finish_rows(10**9) < 10**6
    family.finish(nets, batch, Draws(0, total=ROWS))
    after = family.sample(nets, batch.condition, Draws(1, total=ROWS))
    torch.testing.assert_close(after[:, 1:].mean(0), batch.x[:, 1:].mean(0), atol=0.03, rtol=0)
    assert torch.equal(after[:, 1:].sum(1), torch.full((ROWS,), 2.0))  # one choice of each span
    torch.testing.assert_close(after[:, 0], before[:, 0])  # values stay as they were
    assert after.isfinite().all()


@pytest.mark.parametrize("name", GAMES)
def test_pictures_and_series_are_left_alone(name: str) -> None:
    kind, config = GAMES[name]
    for layout, shape in (("grid", (1, 8, 8)), ("sequence", (5, 2))):
        spec = TensorSpec.model_validate({"layout": layout, "shape": shape, "dtype": "float32"})
        assert kind(config, spec).finish_rows(1000) == 0
