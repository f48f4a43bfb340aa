"""Recipes by name, and the reading of a user's own. A new one: a function and a line in `starting`."""

from __future__ import annotations

from genpipe.recipes.parse import parse_recipe, recipe_problems
from genpipe.recipes.starting import RECIPES, default_recipe, recipes_for

__all__ = ["RECIPES", "default_recipe", "parse_recipe", "recipe_problems", "recipes_for"]
