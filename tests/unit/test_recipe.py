# ruff: noqa: E501
"""Recipes: what fits together, what a user may change, and what a wrong key is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from genpipe.errors import UsageError
from genpipe.families.trees import TreesConfig
from genpipe.fields import Category, Number
from genpipe.kinds import KINDS
from genpipe.recipe import Recipe, check, make_family
from genpipe.recipes import RECIPES, default_recipe, parse_recipe, recipe_problems, recipes_for
from genpipe.schema import Schema
from genpipe.spec import TensorSpec
from genpipe.suited import L2, MANY, MOST_L2, fitted_to, for_length, penalised, shortened

TABLE = Schema(kind="tabular", fields=(Number(name="a"), Category(name="b")), target="b")
TOKENS = TensorSpec(layout="tokens", shape=(2,), dtype="int32", vocabulary=(100, 200))


@pytest.mark.parametrize("name", RECIPES)
def test_starting_recipes_are_whole_and_survive_json(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.name == name and name.startswith(recipe.kind)
    assert not recipe_problems(recipe, recipe.kind)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_default(kind: str) -> None:
    assert default_recipe(kind).kind == kind
    assert parse_recipe(None, kind) == default_recipe(kind)
    assert set(recipes_for(kind)) <= set(RECIPES)


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        default_recipe("tabular").training.steps = 3  # type: ignore[misc]


def test_changes_are_laid_over_the_base() -> None:
    changes = {
        "base": "tabular_gan",
        "family": {"adversarial": "hinge", "generator": {"width": 64}},
        "training": {"steps": 7},
    }
    recipe, base = parse_recipe(changes, "tabular"), RECIPES["tabular_gan"]()
    assert recipe.family.adversarial == "hinge" and recipe.family.generator.width == 64  # type: ignore[union-attr]
    assert recipe.family.critic == base.family.critic  # type: ignore[union-attr]
    assert recipe.training == base.training.model_copy(update={"steps": 7})


def test_another_family_starts_from_its_own_recipe() -> None:
    recipe = parse_recipe({"family": "vae", "training": {"steps": 9}}, "tabular")
    assert recipe.layout == "vector" and recipe.family == RECIPES["tabular_vae"]().family
    assert recipe.training.steps == 9


def test_another_network_brings_its_own_sizes() -> None:
    recipe = parse_recipe(
        {"base": "image_gan", "family": {"generator": {"network": "mlp", "depth": 3}}}, "image"
    )
    assert recipe.family.generator.network == "mlp" and recipe.family.generator.depth == 3  # type: ignore[union-attr]
    short = parse_recipe({"base": "image_gan", "family": {"generator": "mlp"}}, "image").family
    assert short.generator.network == "mlp"  # type: ignore[union-attr]


WRONG: list[tuple[Any, str, str]] = [
    ("tabular_gam", "tabular", r"unknown recipe 'tabular_gam'; expected one of .*; did you mean 'tabular_gan'\?"),
    ({"base": "tabular_gam"}, "tabular", r"did you mean 'tabular_gan'\?"),
    (None, "tabulr", r"unknown data kind 'tabulr'; .*did you mean 'tabular'\?"),
    (3, "tabular", r"recipe of type int; expected a recipe's name or a mapping"),
    ({"trainin": {}}, "tabular", r"^trainin: unknown key; expected one of base, .*; did you mean 'training'\?"),
    ({"training": {"stepz": 1}}, "tabular", r"^training.stepz: unknown key; .*; did you mean 'steps'\?"),
    ({"training": {"steps": 0}}, "tabular", r"^training.steps: 0; expected greater than or equal to 1"),
    ({"family": {"model": {"widht": 1}}}, "tabular", r"^family.model.widht: unknown key; .*did you mean 'width'\?"),
    ({"family": "gann"}, "tabular", r"^family.family: 'gann'; expected one of gan, vae, vq, flow, sequence, trees; did you mean 'gan'\?"),
    ({"base": "tabular_gan", "family": {"adversarial": "hing"}}, "tabular", r"^family.adversarial: 'hing'; .*did you mean 'hinge'\?"),
    ({"base": "tabular_gan", "family": {"generator": "conv3d"}}, "tabular", r"^family.generator.network: 'conv3d'; .*did you mean 'conv2d'\?"),
    ({"base": "tabular_gan", "family": {"generator": "conv2d"}}, "tabular", "^family.generator.network: network 'conv2d' as generator of vector tensors; expected mlp"),
    ({"base": "tabular_gan", "family": {"penalty": "none"}}, "tabular", "'wasserstein' needs a penalty"),
    ({"layout": "vector"}, "tabular", "^layout: layout 'vector' with family 'sequence' and tabular data; expected tokens"),
    ({"family": {"model": "autoregressive"}}, "text", "network 'autoregressive' as model of tokens tensors; expected recurrent or transformer"),
    ({"base": "tabular_trees", "family": {"leaf_minimum": 1}}, "tabular", "^family.leaf_minimum: 1; expected greater than or equal to 2"),
    ({"base": "tabular_trees", "layout": "vector"}, "tabular", "^layout: layout 'vector' with family 'trees' and tabular data; expected tokens"),
    ({"family": "trees"}, "text", "family 'trees' for text data; expected one of sequence"),
    ({"family": "gan"}, "text", "family 'gan' for text data; expected one of sequence"),
    ({"family": {"model": {"network": "transformer", "width": 30}}}, "text", "width 30 must be a multiple of heads 4"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kind", "message"), WRONG)
def test_wrong_recipes_are_refused_in_one_clear_line(value: Any, kind: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_recipe(value, kind)


def test_all_problems_are_named_at_once() -> None:
    wrong = {"training": {"steps": 0, "stepz": 1}, "foo": 1}
    assert sorted(p.where for p in recipe_problems(wrong, "tabular")) == [
        "foo",
        "training.steps",
        "training.stepz",
    ]
    with pytest.raises(UsageError, match=r"3 problems\n  .*steps"):
        parse_recipe(wrong, "tabular")


def test_check_compares_with_the_data() -> None:
    check(default_recipe("tabular"), TABLE)
    with pytest.raises(UsageError, match="'image_gan' is for image data, the dataset is tabular"):
        check(default_recipe("image"), TABLE)


def test_make_family_builds_the_recipes_game() -> None:
    spec = TensorSpec(layout="tokens", shape=(2,), dtype="int32", vocabulary=(3, 4))
    assert set(make_family(default_recipe("tabular"), spec).build()) == {"model"}


@pytest.mark.parametrize(
    ("rows", "batch", "steps"), [(100_000, 512, 1172), (24_745, 512, 290), (1_071, 32, 201), (20, 8, 15)]
)
def test_epochs_become_steps_when_the_rows_are_known(rows: int, batch: int, steps: int) -> None:
    training = fitted_to(RECIPES["tabular_autoregressive"](), rows).training
    assert (training.batch_size, training.steps) == (batch, steps)
    assert training.evaluate_every == -(-steps // 3)
    assert training.learning_rate == pytest.approx(0.01 * (batch / 512) ** 0.25)
    decayed = parse_recipe({"base": "tabular_autoregressive", "training": {"weight_decay": 1.0}}, "tabular")
    assert fitted_to(decayed, rows).training.learning_rate == pytest.approx(0.01 * (batch / 512) ** 0.5)


@pytest.mark.parametrize(("steps", "batch"), [(24, 64), (64, 64), (512, 8), (10_000, 4)])
def test_long_series_come_in_small_batches(steps: int, batch: int) -> None:
    recipe = fitted_to(RECIPES["series_in_turn"](), 100_000)
    spec = TensorSpec(layout="sequence", shape=(steps, 3), dtype="float32")
    training = shortened(recipe, spec).training
    assert training == recipe.training.model_copy(update={"batch_size": batch})
    asked = parse_recipe({"base": "series_in_turn", "training": {"epochs": None}}, "series")
    assert shortened(asked, spec) == asked and shortened(recipe, TOKENS) == recipe


def test_what_a_user_asks_of_steps_is_an_upper_limit() -> None:
    changes = {"base": "tabular_autoregressive", "training": {"steps": 40, "evaluate_every": 10}}
    training = fitted_to(parse_recipe(changes, "tabular"), 100_000).training
    assert (training.steps, training.evaluate_every) == (40, 10)
    fixed = RECIPES["tabular_vae"]()
    assert fitted_to(fixed, 100_000) == fixed


@pytest.mark.parametrize("rows", [100, 1_600, 6_000, MANY, 10 * MANY])
def test_few_rows_get_a_penalty_and_leaves_that_tell_less(rows: int) -> None:
    network, trees = RECIPES["tabular_autoregressive"](), RECIPES["tabular_trees"]()
    leaves, learnt = fitted_to(trees, rows).family, penalised(fitted_to(network, rows), rows, TOKENS).training
    assert isinstance(leaves, TreesConfig) and learnt.l2 is not None
    many = rows >= MANY
    assert (leaves.code_minimum, leaves.prune) == (7, not many)
    assert (learnt.weight_decay, learnt.l2) == (
        (0.5, 0.0) if many else (0.0, pytest.approx(min(MOST_L2, L2 * 300 / rows)))
    )


def test_what_a_recipe_says_of_decay_and_leaves_is_never_changed() -> None:
    family = {"leaf_minimum": 7, "smoothing": 3.0, "code_minimum": 2}
    asked = parse_recipe({"base": "tabular_trees", "family": family}, "tabular")
    kept = fitted_to(asked, 300).family.model_dump()
    assert {name: kept[name] for name in family} == family
    one = parse_recipe({"base": "tabular_trees", "family": {"smoothing": 0.0}}, "tabular")
    older = {"base": "tabular_trees", "family": {"smoothing": None, "leaf_minimum": None}}
    assert parse_recipe(older, "tabular") == RECIPES["tabular_trees"]()
    told = fitted_to(one, 300).family
    assert isinstance(told, TreesConfig) and told.smoothing == 0 and told.code_minimum == 7 and told.prune
    written = parse_recipe({"base": "tabular_autoregressive", "training": {"weight_decay": 0.25}}, "tabular")
    again = Recipe.model_validate_json(written.model_dump_json())
    fitted = fitted_to(again, 300)
    assert (fitted.training.weight_decay, fitted.training.l2) == (0.25, 0.0)
    assert penalised(fitted, 300, TOKENS) == fitted
    mine = parse_recipe({"base": "tabular_autoregressive", "training": {"l2": 0.25}}, "tabular")
    assert penalised(fitted_to(mine, 300), 300, TOKENS).training.l2 == 0.25


@pytest.mark.parametrize(
    ("length", "size", "steps", "every"), [(64, 16, 500, 167), (128, 16, 500, 167), (1024, 2, 4000, 1336)]
)
def test_longer_texts_are_learnt_in_smaller_batches_and_more_steps(
    length: int, size: int, steps: int, every: int
) -> None:
    """1,000 records, eight epochs in batches of 16: 500 steps, scored three times."""
    spec = TensorSpec(layout="tokens", shape=(length,), dtype="int32", vocabulary=(9,))
    found = for_length(fitted_to(RECIPES["text_lstm"](), 1000), spec).training
    assert (found.batch_size, found.steps, found.evaluate_every) == (size, steps, every)
    longest = spec.model_copy(update={"shape": (4096,)})
    assert for_length(fitted_to(RECIPES["text_lstm"](), 10**6), longest).training.steps == 4000
