"""Which weights a run keeps: none that only noise prefers, and none that know the training rows by heart."""

from __future__ import annotations

import pytest

from genpipe.recipe import Recipe, make_family
from genpipe.recipes import RECIPES
from genpipe.spec import TensorSpec
from genpipe.training.state import TrainingState

SPEC = TensorSpec(layout="tokens", shape=(2,), dtype="int32", vocabulary=(3, 4))


def kept(schedule: str, *scores: tuple[float, float]) -> int:
    """The step kept after evaluations of these (fidelity, holdout nats), at steps 1, 2, ..."""
    recipe: Recipe = RECIPES["tabular_autoregressive"]()
    training = recipe.training.model_copy(update={"schedule": schedule})
    state = TrainingState(make_family(recipe, SPEC), training, seed=0, device="cpu")
    for step, (fidelity, nats) in enumerate(scores, start=1):
        state.step = step
        state.metrics = {"fidelity": fidelity, "holdout.nats": nats, "loss": nats}
        state.judge(state.metrics)
    return state.best_step


@pytest.mark.parametrize(
    ("schedule", "scores", "step"),
    [
        ("cosine", ((0.90, 10.0), (0.95, 10.0), (0.945, 10.0)), 3),  # by less than noise: the later
        ("cosine", ((0.90, 10.0), (0.95, 10.0), (0.93, 10.0)), 2),
        ("cosine", ((0.95, 10.0), (0.945, 10.0), (0.935, 10.0)), 2),  # noise does not add up
        ("constant", ((0.90, 10.0), (0.95, 10.0), (0.945, 10.0)), 2),
        ("cosine", ((0.90, 10.0), (0.93, 10.05), (0.95, 10.3)), 2),  # by heart, whatever its fidelity
        ("cosine", ((0.90, 10.2), (0.91, 10.0), (0.92, 10.05)), 3),
        ("constant", ((0.90, 10.0), (0.93, 10.05), (0.95, 10.3)), 3),
        ("settle", ((0.90, 10.0), (0.95, 9.9), (0.92, 9.8)), 3),  # fidelity is noise
        ("settle", ((0.90, 10.0), (0.95, 9.9), (0.89, 9.8)), 2),  # but for a fall
        ("settle", ((0.90, 10.0), (0.93, 10.05), (0.95, 10.3)), 2),
    ],
)
def test_weights_kept(schedule: str, scores: tuple[tuple[float, float], ...], step: int) -> None:
    assert kept(schedule, *scores) == step
