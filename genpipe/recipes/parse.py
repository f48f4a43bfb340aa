"""A user's recipe, from a name or a mapping of changes; every wrong key is answered by the right one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from genpipe.errors import UsageError, closest, unknown
from genpipe.recipe import FAMILIES, NETWORKS, Recipe, check_parts, layouts
from genpipe.recipes.starting import RECIPES, default_recipe, recipes_for


def parse_recipe(value: str | Mapping[str, Any] | Recipe | None, kind: str) -> Recipe:
    """A recipe from its name, from a mapping of changes to one (`base:` is its name, or the recipe), or from
    nothing: the kind's default.

    Raises a UsageError that names the key, what is allowed and the closest match; of several problems, all.
    """
    problems: list[UsageError] = []
    recipe = _parse(value, kind, problems)
    if len(problems) == 1:
        raise problems[0]
    if problems or recipe is None:
        raise UsageError("RECIPE", found=f"{len(problems)} problems", lines=list(map(str, problems)))
    return recipe


def recipe_problems(value: str | Mapping[str, Any] | Recipe | None, kind: str) -> list[UsageError]:
    """Everything `parse_recipe` would complain of; `where` is the dotted path of the key."""
    problems: list[UsageError] = []
    _parse(value, kind, problems)
    return problems


def _parse(value: Any, kind: str, problems: list[UsageError]) -> Recipe | None:
    try:
        if isinstance(value, Recipe):
            recipe = value
        elif value is None or isinstance(value, str):
            recipe = default_recipe(kind) if value is None else _named(value, kind)
        elif isinstance(value, Mapping):
            recipe = Recipe.model_validate(_merged(value, kind))
        else:
            found = f"a recipe of type {type(value).__name__}"
            raise UsageError("RECIPE", found=found, expected="a recipe's name or a mapping")
        check_parts(recipe)
        return recipe
    except ValidationError as error:
        problems += [_problem(e) for e in error.errors()]
    except UsageError as error:
        problems.append(error)
    return None


def _named(name: str, kind: str) -> Recipe:
    if name not in RECIPES:
        raise unknown("recipe", name, recipes_for(kind))
    return RECIPES[name]()


def _merged(changes: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The base recipe as a mapping, with the changes laid over it."""
    changes = dict(changes)
    wanted = changes.get("family")
    family = wanted.get("family") if isinstance(wanted, Mapping) else wanted
    name = changes.pop("base", None)
    base = name if isinstance(name, Recipe) else default_recipe(kind) if name is None else _named(name, kind)
    if isinstance(family, str) and family in FAMILIES and base.family.family != family:
        # another family: its own starting recipe knows better values than the base of a different game
        same = (r for r in recipes_for(base.kind).values() if r.family.family == family)
        base = next(same, None) or base.model_copy(update={"family": FAMILIES[family].Config()})
    data: dict[str, Any] = _overlaid(base.model_dump(mode="json"), changes)
    possible = layouts(base.kind, data["family"]["family"]) if data["family"]["family"] in FAMILIES else ()
    if "layout" not in changes and possible and base.layout not in possible:
        data["layout"] = possible[0]
    return data


def _overlaid(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `base`, part by part. `generator: mlp` is short for `generator: {network: mlp}`."""
    out = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        tag = next((t for t in ("family", "network") if isinstance(old, dict) and t in old), None)
        if tag and isinstance(value, str):
            value = {tag: value}
        if not (isinstance(old, dict) and isinstance(value, Mapping)):
            out[key] = value
        elif tag == "network" and value.get(tag, old[tag]) != old[tag]:
            out[key] = dict(value)  # another architecture: its sizes have other meanings
        else:
            out[key] = _overlaid(old, value)
    return out


def _problem(error: Any) -> UsageError:
    """One of pydantic's complaints in our words: dotted path, what was found, what is allowed, the closest
    name.
    """
    location = error["loc"]
    # a union's tag is in pydantic's location, but is no key of the user's
    tagged = {
        i
        for i, p in enumerate(location)
        if i and p in (NETWORKS if i > 1 else FAMILIES) and location[0] == "family"
    }
    path = [str(p) for i, p in enumerate(location) if i not in tagged]
    where, kind, context = ".".join(path), error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        keys = sorted({"base", *Recipe.model_fields} if len(path) == 1 else _owner(location).model_fields)
        hint = closest(path[-1], keys)
        return UsageError(
            "KEY", where=where, found="unknown key", expected="one of " + ", ".join(keys), fix=hint
        )
    if kind in ("literal_error", "union_tag_invalid"):
        got = context.get("tag", error["input"])
        names = [
            n.strip(" '")
            for n in context.get("expected", context.get("expected_tags", "")).replace(" or ", ",").split(",")
        ]
        if kind == "union_tag_invalid":
            where = ".".join([*path, str(context["discriminator"]).strip("'")])
        return UsageError(
            "VALUE",
            where=where,
            found=repr(got),
            expected="one of " + ", ".join(names),
            fix=closest(str(got), names),
        )
    text = error["msg"].removeprefix("Value error, ").replace("Input should be ", "")
    if kind == "value_error":
        return UsageError("VALUE", where=where, found=text)
    return UsageError("VALUE", where=where, found=repr(error["input"]), expected=text)


def _owner(location: tuple[Any, ...]) -> type[BaseModel]:
    """The config class in which the last key of a pydantic location lies."""
    owners: dict[str, type[BaseModel]] = {name: kind.Config for name, kind in FAMILIES.items()}
    owners |= {name: kind.Config for name, kind in NETWORKS.items()}
    named = {n: f.annotation for n, f in Recipe.model_fields.items()}
    for part in reversed(location[:-1]):
        if part in owners:
            return owners[part]
        inner = named.get(str(part))
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return Recipe
