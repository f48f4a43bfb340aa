"""A tiny game for the loop: fit a line, with a second role that trains every third step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genpipe.families.base import Phase
from genpipe.recipe import Training
from genpipe.spec import Span, TensorSpec
from genpipe.training.data import Resident
from genpipe.training.distributed import ALONE
from genpipe.training.loop import FitResult, Hooks, play

SPEC = TensorSpec(
    layout="vector",
    shape=(3,),
    dtype="float32",
    spans=tuple(Span(name=f"x{k}", start=k, size=1, kind="continuous") for k in range(3)),
)


class TinyFamily:
    """`model` learns x2 = x0 + x1 from noisy inputs; `extra` learns the mean of x2."""

    roles = ("model", "extra")
    sample_roles = publishes = ("model",)
    metrics = ()
    phases = (Phase("fit", ("model",)), Phase("mean", ("extra",), every=3))

    def build(self) -> dict[str, nn.Module]:
        return {"model": nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), "extra": nn.Linear(1, 1)}

    def loss(self, phase: str, nets: Any, batch: Any, rng: Any) -> dict[str, Tensor]:
        x, y = batch.x[:, :2], batch.x[:, 2:]
        if phase == "mean":
            return {"error": (nets["extra"](rng.normal(1)) - y).square().mean()}
        return {"error": (nets["model"](x + 0.1 * rng.normal(2)) - y).square().mean()}


@pytest.fixture
def source() -> Resident:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.4, (100, 3)).astype(np.float32)
    x[:, 2] = x[:, 0] + x[:, 1]
    return Resident({"x": x}, seed=0)


def run(
    source: Any, *, sink: Any = None, seed: int = 0, hooks: Hooks | None = None, **training: Any
) -> FitResult:
    """The loop on the tiny game."""
    settings = Training(**{"steps": 60, "batch_size": 16, "learning_rate": 1e-2, **training})
    with torch.random.fork_rng(devices=[]):
        return play(TinyFamily(), settings, SPEC, source, seed, ALONE, "cpu", sink, hooks or Hooks())  # type: ignore[arg-type]
