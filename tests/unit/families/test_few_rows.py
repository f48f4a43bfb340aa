"""What default models of few rows know of who was there: likelihood of rows they learnt, and of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from genpipe.batch import to_batch
from genpipe.draws import Draws
from genpipe.evaluation.privacy.membership import area
from genpipe.families.base import PartialConditioning
from genpipe.recipe import Recipe, make_family
from genpipe.recipes import RECIPES, parse_recipe
from genpipe.spec import TensorSpec
from genpipe.suited import fitted_to, penalised
from genpipe.training.data import Resident
from genpipe.training.loop import fit

ROWS, CODES, COLUMNS = 800, 12, 6
SEEN = {"family": {"model": {"ties": "all"}}}  # as before ties were tested


def people(seed: int) -> np.ndarray:
    """(ROWS, COLUMNS) codes, half of the columns near the one before: there is something to learn."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, CODES, (ROWS, COLUMNS))
    x[:, 1::2] = np.clip(x[:, ::2] + rng.integers(-1, 2, (ROWS, COLUMNS // 2)), 0, CODES - 1)
    return x.astype(np.int32)


def known(recipe: Recipe) -> tuple[float, float]:
    """The chance that a row of training is likelier than one never seen, and the nats of the latter."""
    spec = TensorSpec(
        layout="tokens",
        shape=(COLUMNS,),
        dtype="int32",
        vocabulary=(CODES,) * COLUMNS,
        ordered=(True,) * COLUMNS,
        frequencies=((1 / CODES,) * CODES,) * COLUMNS,
    )
    none = np.zeros((ROWS, 0), np.int64)
    shown, never = ({"x": people(seed), "condition": none} for seed in (1, 2))
    recipe = penalised(fitted_to(recipe, ROWS), ROWS, spec)
    family = make_family(recipe, spec)
    result = fit(recipe, spec, Resident(shown, seed=0), seed=0)
    nets = family.build()
    nets["model"].load_state_dict({n.removeprefix("model."): t for n, t in result.weights.items()})
    batch, other = to_batch(shown, spec, "cpu"), to_batch(never, spec, "cpu")
    family.finish(nets, batch, Draws(0, "finish", total=ROWS))
    assert isinstance(family, PartialConditioning)
    likely = [family.log_probability(nets, b.x, b.condition).sum(1).numpy() for b in (batch, other)]
    return area(*likely)[0], float(likely[1].mean())


@pytest.mark.parametrize(
    ("name", "most", "gain", "before"),
    [
        ("tabular_autoregressive", 0.57, 0.05, {"training": {"weight_decay": 0.5}, **SEEN}),
        ("tabular_any_order", 0.64, 0.02, {"training": {"weight_decay": 0.5}, **SEEN}),
        ("tabular_trees", 0.6, 0.05, {"family": {"code_minimum": 1, "prune": False}}),
    ],
)
def test_default_models_of_few_rows_hardly_know_who_was_there(
    name: str, most: float, gain: float, before: dict[str, Any]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found, without = known(RECIPES[name]()), known(parse_recipe({"base": name, **before}, "tabular"))
    assert found[0] < most
    assert found[0] < without[0] - gain
    assert found[1] > -COLUMNS * np.log(CODES) + 1  # something was learnt
