"""Fields that read a registry: what is added to the dict later is a choice at once, everywhere."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from genpipe.entries import entries_of
from genpipe.errors import UsageError
from genpipe.families import FAMILIES
from genpipe.networks import NETWORKS
from genpipe.networks.mlp import MLP, MLPConfig
from genpipe.objectives import ADVERSARIAL, PENALTIES, Adversarial
from genpipe.recipe import Recipe
from genpipe.recipes import RECIPES, parse_recipe
from genpipe.search_space import space

GAN = {"base": "tabular_gan"}


class FakeConfig(MLPConfig):
    network: Literal["fake"] = "fake"  # type: ignore[assignment]
    tilt: float = 0.5


class Fake(MLP):
    Config = FakeConfig


@pytest.fixture
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADVERSARIAL, "fake_loss", ADVERSARIAL["wasserstein"])
    monkeypatch.setitem(PENALTIES, "fake_penalty", PENALTIES["r1"])
    monkeypatch.setitem(NETWORKS, "fake", Fake)


@pytest.mark.usefixtures("_added")
def test_what_is_added_is_a_choice_in_recipes_searches_and_the_json_schema() -> None:
    family = {"adversarial": "fake_loss", "penalty": "fake_penalty", "generator": {"network": "fake"}}
    recipe = parse_recipe({**GAN, "family": family}, "tabular")
    assert recipe.family.generator == FakeConfig() and recipe.family.adversarial == "fake_loss"
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    described = space("tabular", recipes=["tabular_gan"]).describe()["tabular_gan"]
    assert "fake_loss" in described["family.adversarial"] and "fake_penalty" in described["family.penalty"]
    assert "fake" in described["family.generator.network"]
    found = Recipe.model_json_schema()["$defs"]
    assert "FakeConfig" in found and "fake_loss" in found["GANConfig"]["properties"]["adversarial"]["enum"]


@pytest.mark.usefixtures("_added")
def test_a_config_says_which_entries_it_uses() -> None:
    recipe = parse_recipe({**GAN, "family": {"adversarial": "fake_loss", "critic": "fake"}}, "tabular")
    used = [(registry, name) for registry, name in entries_of(recipe)]
    assert (FAMILIES, "gan") in used and (ADVERSARIAL, "fake_loss") in used and (NETWORKS, "fake") in used


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ({"adversarial": "fake_los"}, r"^family.adversarial: 'fake_los'; .*did you mean 'fake_loss'\?"),
        ({"adversarial": ["hinge"]}, r"^family.adversarial: \['hinge'\]"),
        ({"adversarial": "fake_loss", "penalty": "none"}, "'fake_loss' needs a penalty: 'gradient_penalty'"),
        ({"generator": "fakes"}, r"^family.generator.network: 'fakes'; .*did you mean 'fake'\?"),
        (
            {"generator": {"network": "fake", "tilr": 1}},
            r"^family.generator.tilr: unknown key; .*'tilt'\?",
        ),
        ({"generator": {"network": "fake", "width": 0}}, r"^family.generator.width: 0; expected greater"),
    ],
)
@pytest.mark.usefixtures("_added")
def test_errors_name_what_was_added(family: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_recipe({**GAN, "family": family}, "tabular")


def test_what_is_gone_is_refused_again() -> None:
    with pytest.raises(UsageError, match=r"^family\.generator\.network: 'fake'"):
        parse_recipe({**GAN, "family": {"generator": "fake"}}, "tabular")
    assert "fake" not in str(Recipe.model_json_schema())


def test_an_entry_under_another_name_than_its_config_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "fakes", Fake)
    with pytest.raises(TypeError, match=r"'fakes', must have `network: Literal\['fakes'\] = 'fakes'`"):
        parse_recipe(GAN, "tabular")


def test_a_loss_that_needs_a_penalty_names_one() -> None:
    with pytest.raises(ValueError, match="must name one"):
        Adversarial(ADVERSARIAL["hinge"].critic, ADVERSARIAL["hinge"].generator, needs_penalty=True)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_earlier_versions_are_read_as_they_were(name: str) -> None:
    recipe = RECIPES[name]()
    written = recipe.model_dump(mode="json")
    assert written["family"]["family"] == recipe.family.family
    assert Recipe.model_validate(written).model_dump(mode="json") == written
