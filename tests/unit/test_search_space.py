# ruff: noqa: E501
"""The search space: only valid points, every loss and recipe soon tried, wrong ranges refused before anything
runs.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from genpipe.errors import UsageError
from genpipe.kinds import KINDS
from genpipe.objectives import ADVERSARIAL
from genpipe.recipe import check_parts
from genpipe.recipes import recipes_for
from genpipe.search_space import Range, space
from genpipe.seeds import numpy_rng


@pytest.mark.parametrize("kind", KINDS)
def test_every_point_is_a_valid_recipe(kind: str) -> None:
    searched = space(kind)
    for number in range(60):
        point = searched.sample(numpy_rng(0, number))
        recipe = searched.recipe(json.loads(json.dumps(point)))
        check_parts(recipe)
        assert recipe.kind == kind
        family = recipe.family
        if family.family == "gan" and family.adversarial == "wasserstein":
            assert family.penalty == "gradient_penalty" and family.penalty_weight == 10
        if family.family == "gan":
            assert family.generator.network == family.critic.network


def test_first_trials_are_the_recipes_as_they_stand_then_losses_take_turns() -> None:
    searched = space("image", recipes=["image_gan", "image_vae"])
    points = [searched.sample(numpy_rng(0, n), number=n) for n in range(2 * len(ADVERSARIAL))]
    starting = recipes_for("image")
    for point in points[:2]:
        assert searched.recipe(point) == starting[point["recipe"]]
    assert [p["recipe"] for p in points] == ["image_gan", "image_vae"] * len(ADVERSARIAL)
    assert {p["family.adversarial"] for p in points[::2]} == set(ADVERSARIAL)


@pytest.mark.parametrize("kind", KINDS)
def test_every_starting_recipe_lies_in_the_ranges_its_parameters_declare(kind: str) -> None:
    searched = space(kind)
    for number, recipe in enumerate(recipes_for(kind).values()):
        point = searched.sample(numpy_rng(0, number), number=number)
        assert searched.recipe(point) == recipe


def test_same_draws_same_point() -> None:
    assert space("tabular").sample(numpy_rng(4), number=5) == space("tabular").sample(numpy_rng(4), number=5)


def test_vary_replaces_the_declared_ranges() -> None:
    vary = {
        "adversarial": ["hinge", "wasserstein"],
        "training.steps": {"low": 10, "high": 12},
        "learning_rate": {"low": 1e-4, "high": 1e-3, "log": True},
    }
    searched = space("image", recipes=["image_gan"], vary=vary)
    points = [searched.sample(numpy_rng(0, n)) for n in range(100)]
    assert {p["training.steps"] for p in points} == {10, 11, 12}
    assert {p["family.adversarial"] for p in points} == {"hinge", "wasserstein"}
    assert all(1e-4 <= p["training.learning_rate"] <= 1e-3 for p in points)
    assert all(("family.penalty" in p) == (p["family.adversarial"] == "wasserstein") for p in points)
    assert searched.describe() == {
        "image_gan": {
            "family.adversarial": "hinge | wasserstein",
            "training.steps": "10 to 12",
            "training.learning_rate": "0.0001 to 0.001 (log)",
        }
    }


def test_vary_by_name_keeps_declared_ranges() -> None:
    assert set(
        space("tabular", recipes=["tabular_vae"], vary=["beta", "latent"]).describe()["tabular_vae"]
    ) == {"family.beta", "family.latent"}


def test_what_takes_no_steps_has_none_of_their_parameters() -> None:
    searched = space("tabular", recipes=["tabular_trees"], vary={"leaf_minimum": [5, 30], "bins": [20, 50]})
    points = [searched.sample(numpy_rng(0, number)) for number in range(40)]
    assert {p["family.leaf_minimum"] for p in points} == {5, 30} and all(len(p) == 3 for p in points)
    assert set(space("tabular", recipes=["tabular_trees"]).describe()["tabular_trees"]) == {
        "family.leaf_minimum",
        "family.leaves",
        "family.smoothing",
    }


def test_networks_may_be_varied() -> None:
    searched = space(
        "text",
        recipes=["text_lstm"],
        vary={"model.network": ["recurrent", "transformer"], "model.heads": [1, 2]},
    )
    for number in range(30):
        point = searched.sample(numpy_rng(number))
        assert ("family.model.heads" in point) == (point["family.model.network"] == "transformer")
        searched.recipe(point)


def test_a_recipe_of_ones_own_is_searched_from_where_it_stands() -> None:
    mine = {"base": "tabular_gan", "family": {"critic": {"width": 48}}, "training": {"steps": 77}}
    searched = space(
        "tabular", recipes=["tabular_gan", mine, mine | {"training": {"steps": 78}}], vary=["learning_rate"]
    )
    assert list(searched.recipes) == ["tabular_gan", "tabular_gan changed", "tabular_gan changed 2"]
    for number, (steps, wide) in enumerate([(None, False), (77, True), (78, True)] * 2):
        recipe = searched.recipe(searched.sample(numpy_rng(number), number=number))
        assert steps in (None, recipe.training.steps) and (recipe.family.critic.width == 48) == wide
    other = space("tabular", recipes=[mine | {"training": {"steps": 79}}], vary=["learning_rate"])
    alone = space("tabular", recipes=[mine], vary=["learning_rate"])
    assert other.describe() != alone.describe()  # else a study of one would answer for the other


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"recipes": []}, "recipes: no recipe; expected different names of tabular_"),
    ({"recipes": ["tabular_gan", "tabular_gan"]}, "a recipe twice"),
    ({"recipes": ["tabular_ga"]}, r"unknown tabular recipe 'tabular_ga'.*did you mean 'tabular_gan'\?"),
    ({"recipes": ["image_gan"]}, "unknown tabular recipe 'image_gan'"),
    ({"recipes": [{"base": "image_gan"}]}, "unknown tabular recipe 'image_gan'"),
    ({"recipes": [{"base": "tabular_gan", "traning": {}}]}, r"recipes.traning: unknown key.*did you mean 'training'"),
    ({"recipes": ["tabular_gan", {"base": "tabular_gan"}]}, "a recipe twice"),
    ({"vary": {"lerning_rate": [1]}}, r"unknown parameter.*did you mean 'training.learning_rate'\?"),
    ({"vary": {"width": [8]}}, "name of several parameters; expected family.model.width or "),
    ({"vary": {"learning_rate": []}}, "learning_rate: an empty list; expected at least one value"),
    ({"vary": {"learning_rate": [0.1, 0.1]}}, "a value twice"),
    ({"vary": {"learning_rate": {"low": 1, "high": 0.1}}}, "low 1 > high 0.1; expected low <= high"),
    ({"vary": {"learning_rate": {"low": 0, "high": 0.1, "log": True}}}, "low 0 with log; expected a number above 0"),
    ({"vary": {"learning_rate": {"low": float("nan"), "high": 1}}}, "nan; expected a finite number"),
    ({"vary": {"learning_rate": {"low": 0.1}}}, "expected a list of values, or {low, high}"),
    ({"vary": {"learning_rate": 0.1}}, "learning_rate: 0.1; expected a list of values"),
    ({"vary": {"learning_rate": [-1.0]}}, "training.learning_rate: value -1.0 cannot be used; expected greater than 0"),
    ({"vary": {"adversarial": ["hinge", "hing"]}}, "value 'hing' cannot be used; expected one of bce, "),
    ({"vary": {"generator.network": ["conv2d"]}}, "value 'conv2d' cannot be used; expected mlp"),
    ({"vary": {"learning_rate": [0.1], "training.learning_rate": [0.2]}}, "a parameter named twice"),
    ({"recipes": ["tabular_trees"], "vary": ["learning_rate"]}, "learning_rate: unknown parameter; expected one of family.temperature"),
    ({"vary": ["training.steps"]}, "a parameter without a declared range"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_spaces_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        space("tabular", **options)


def test_ranges_draw_inside_themselves() -> None:
    rng = numpy_rng(0)
    whole, ratio = (
        Range.read({"low": 1, "high": 3}, "x"),
        Range.read({"low": 0.01, "high": 100.0, "log": True}, "x"),
    )
    assert {whole.draw(rng) for _ in range(200)} == {1, 2, 3}
    drawn = [ratio.draw(rng) for _ in range(400)]
    assert min(drawn) >= 0.01 and max(drawn) <= 100 and 150 < sum(d < 1 for d in drawn) < 250
