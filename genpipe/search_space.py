"""The space a search walks: recipes × the ranges their parameters declare beside themselves.

A field declares `json_schema_extra={"search": {"choices": [...]}}` or `{"low", "high"[, "log"]}`; which
network plays a role is a choice among those that fit the data's form. Names are those of a spec file
(``family.adversarial``, ``training.learning_rate``); a point is a flat mapping of them, plus ``recipe``.
A field whose names are those of a registry (`NameIn`) varies over it. Every point is valid: what depends on
another choice is drawn after it. A loss brings its settings, a penalty's weight exists where there is a
penalty, a network's sizes where that network was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from pydantic import BaseModel

from genpipe.entries import name_in
from genpipe.errors import UsageError, closest, rebuild, unknown
from genpipe.families import networks_for
from genpipe.networks import NETWORKS
from genpipe.objectives import ADVERSARIAL
from genpipe.ranges import Range
from genpipe.recipe import FAMILIES, Recipe
from genpipe.recipes import parse_recipe, recipes_for


@dataclass(frozen=True)
class Parameter:
    """name: dotted path. value: of the starting recipe. declared: the range beside the field, if any."""

    name: str
    value: Any
    declared: Range | None


def _network_choice(recipe: Recipe, role_field: str) -> Parameter:
    role = FAMILIES[recipe.family.family].network_roles[role_field]
    among = networks_for(recipe.family.family, role_field, recipe.form)
    value = getattr(recipe.family, role_field).network
    # the starting recipes of the sequence family are told apart by their network: there it varies by recipe
    declared = Range(among) if len(among) > 1 and role != "model" else None
    return Parameter(f"family.{role_field}.network", value, declared)


def _leaves(config: BaseModel, path: str) -> Iterator[Parameter]:
    """The plain fields of one config; tags and nested configs apart."""
    for name, field in type(config).model_fields.items():
        value, extra, named = getattr(config, name), field.json_schema_extra, name_in(field)
        if name not in ("family", "network") and not isinstance(value, BaseModel):
            where, declared = f"{path}.{name}", extra.get("search") if isinstance(extra, dict) else None
            if named and named.searched:
                declared = list(named.registry)
            yield Parameter(where, value, Range.read(declared, where) if declared else None)


def _parameters(recipe: Recipe, point: Mapping[str, Any]) -> Iterator[Parameter]:
    """Every parameter of a recipe, given the networks that `point` has drawn by the time they are reached."""
    yield from _leaves(recipe.family, "family")
    for role_field in FAMILIES[recipe.family.family].network_roles:
        choice = _network_choice(recipe, role_field)
        yield choice
        drawn = point.get(choice.name, choice.value)
        own = getattr(recipe.family, role_field)
        yield from _leaves(own if drawn == choice.value else NETWORKS[drawn].Config(), f"family.{role_field}")
    if getattr(FAMILIES[recipe.family.family], "phases", None) != ():  # what has none takes no steps
        yield from _leaves(recipe.training, "training")
    yield from _leaves(recipe.codec, "codec")


def _settings(point: Mapping[str, Any]) -> dict[str, Any]:
    """What the loss of a point brings with it."""
    loss = ADVERSARIAL.get(str(point.get("family.adversarial")))
    return {f"family.{name}": value for name, value in loss.settings.items()} if loss else {}


def _implied(recipe: Recipe, name: str, point: Mapping[str, Any]) -> Any:
    """The value earlier choices leave for a parameter, or None where it is free."""
    if name in (settings := _settings(point)):
        return settings[name]
    first = f"family.{next(iter(FAMILIES[recipe.family.family].network_roles), '')}.network"
    if name.endswith(".network") and name != first and first in point:  # both sides of a game are built alike
        alike = point[first] in networks_for(recipe.family.family, name.split(".")[1], recipe.form)
        return point[first] if alike else None
    return None


@dataclass(frozen=True)
class SearchSpace:
    """recipes: those searched among, by name. ranges: the user's, in the place of all declared ones."""

    kind: str
    recipes: Mapping[str, Recipe]
    ranges: Mapping[str, Range] | None = None

    def _range(self, parameter: Parameter) -> Range | None:
        return parameter.declared if self.ranges is None else self.ranges.get(parameter.name)

    def sample(self, rng: np.random.Generator, *, number: int | None = None) -> dict[str, Any]:
        """A random point. number: of the trial; then recipes and losses take turns, so that few trials cover
        them, and the first trial of each recipe is the recipe as it stands, where that lies in the ranges.
        """
        names = tuple(self.recipes)
        turn = int(rng.integers(len(names))) if number is None else number % len(names)
        recipe = self.recipes[names[turn]]
        round_ = None if number is None else number // len(names)
        point: dict[str, Any] = {"recipe": names[turn]}
        for parameter in _parameters(recipe, point):
            among, name = self._range(parameter), parameter.name
            implied = _implied(recipe, name, point)
            if implied is not None:
                point[name] = implied
            elif among is None or (name == "family.penalty_weight" and point.get("family.penalty") == "none"):
                continue
            elif round_ == 0 and (parameter.value in among or (parameter.value is None and not self.ranges)):
                point[name] = parameter.value
            elif name == "family.adversarial" and round_ is not None and among.choices:
                point[name] = among.turn(round_, parameter.value)
            else:
                point[name] = among.draw(rng)
        return point

    def recipe(self, choices: Mapping[str, Any]) -> Recipe:
        """The recipe of a point; every point that `sample` draws is a valid one."""
        name = choices.get("recipe", next(iter(self.recipes)))
        if name not in self.recipes:
            raise unknown("recipe", str(name), self.recipes)
        return _changed(self.recipes[name], {k: v for k, v in choices.items() if k != "recipe"})

    def describe(self) -> dict[str, dict[str, str]]:
        """recipe -> parameter -> its range, for a study's identity; a recipe of one's own is in it whole."""
        known = recipes_for(self.kind)
        return {
            name: {p.name: str(among) for p in _parameters(recipe, {}) if (among := self._range(p))}
            | ({} if name in known else {"given": recipe.model_dump_json()})
            for name, recipe in self.recipes.items()
        }


def _changed(recipe: Recipe, choices: Mapping[str, Any]) -> Recipe:
    changes: dict[str, Any] = {"base": recipe}
    for path, value in choices.items():
        *parents, leaf = path.split(".")
        reduce(lambda part, parent: part.setdefault(parent, {}), parents, changes)[leaf] = value
    return parse_recipe(changes, recipe.kind)


def space(
    kind: str,
    recipes: Sequence[str | Mapping[str, Any]] | None = None,
    vary: Mapping[str, Any] | Sequence[str] | None = None,
) -> SearchSpace:
    """The search space of one kind of data.

    recipes: names of starting recipes, or mappings of changes to one; None = all of the kind. vary:
    parameter -> list of values or {low, high, log}, or a list of parameters with their declared ranges; None
    = every declared range. A parameter is named by its dotted path or an unambiguous end of it
    (``adversarial``). Raises UsageError ``SPACE`` or ``UNKNOWN``.
    """
    chosen = recipes_for(kind) if recipes is None else _chosen(kind, recipes)
    if vary is None:
        return SearchSpace(kind, chosen)
    ranges: dict[str, Range] = {}
    for word in vary:
        parameter = _resolve(word, chosen)
        if parameter.name in ranges:
            raise UsageError("SPACE", where=word, found="a parameter named twice", expected="one range each")
        among = Range.read(vary[word], word) if isinstance(vary, Mapping) else parameter.declared
        if among is None:
            fix = f"give one: {word}: [value, value]"
            raise UsageError("SPACE", where=word, found="a parameter without a declared range", fix=fix)
        _check_values(parameter.name, among, chosen)
        ranges[parameter.name] = among
    return SearchSpace(kind, chosen, ranges)


def _chosen(kind: str, recipes: Sequence[str | Mapping[str, Any]]) -> dict[str, Recipe]:
    """The recipes by what a study calls them: a changed one after its base, from the second on numbered."""
    known, chosen = recipes_for(kind), dict[str, Recipe]()
    for given in recipes:
        if isinstance(given, str) and given not in known:
            raise unknown(f"{kind} recipe", given, known, where="recipes")
        recipe = known[given] if isinstance(given, str) else _own(given, kind)
        if recipe in chosen.values():
            found = f"a recipe twice, of base {recipe.name!r}"
            raise UsageError("SPACE", where="recipes", found=found, expected="different recipes")
        name = recipe.name
        if recipe != known.get(name):
            of_base = sum(c.name == recipe.name and c != known.get(name) for c in chosen.values())
            name += f" changed {of_base + 1}" if of_base else " changed"
        chosen[name] = recipe
    if not chosen:
        expected = "different names of " + ", ".join(known)
        raise UsageError("SPACE", where="recipes", found="no recipe", expected=expected)
    return chosen


def _own(given: Mapping[str, Any], kind: str) -> Recipe:
    """A recipe that a search was given itself; what is wrong in it is told as of `recipes`."""
    try:
        recipe = parse_recipe(given, kind)
    except UsageError as error:
        where = f"recipes.{error.where}".rstrip(".")
        told = (error.found, error.expected, error.fix, error.lines)
        raise rebuild(UsageError, error.code, where, *told) from None
    if recipe.kind != kind:
        raise unknown(f"{kind} recipe", recipe.name, recipes_for(kind), where="recipes")
    return recipe


def _every_parameter(recipe: Recipe) -> dict[str, Parameter]:
    """Parameters of a recipe with each of the networks that fit."""
    found = {p.name: p for p in _parameters(recipe, {})}
    family = recipe.family.family
    for field in FAMILIES[family].network_roles:
        for network in networks_for(family, field, recipe.form):
            found |= {p.name: p for p in _parameters(recipe, {f"family.{field}.network": network})}
    return found


def _resolve(word: str, recipes: Mapping[str, Recipe]) -> Parameter:
    known: dict[str, Parameter] = {}
    for recipe in recipes.values():
        known |= {n: p for n, p in _every_parameter(recipe).items() if n not in known}
    found = [p for name, p in known.items() if name == word or name.endswith(f".{word}")]
    if len(found) == 1 or (found and found[0].name == word):
        return found[0]
    if found:
        expected = " or ".join(p.name for p in found)
        raise UsageError("SPACE", where=word, found="a name of several parameters", expected=expected)
    hint = closest(word, known)
    raise UsageError(
        "SPACE", where=word, found="unknown parameter", expected="one of " + ", ".join(known), fix=hint
    )


def _check_values(name: str, among: Range, recipes: Mapping[str, Recipe]) -> None:
    """Refuse a range with a value that no searched recipe can take."""
    for value in among.choices or (among.low, among.high):
        errors = [
            _refusal(recipe, name, value) for recipe in recipes.values() if name in _every_parameter(recipe)
        ]
        if all(errors):
            found, expected = f"value {value!r} cannot be used", errors[0].expected  # type: ignore[union-attr]
            raise UsageError("SPACE", where=name, found=found, expected=expected)


def _refusal(recipe: Recipe, name: str, value: Any) -> UsageError | None:
    """Why this recipe cannot take the value, with any network that has such a parameter; None if it can."""
    part, point = name.split("."), {name: value}
    point = _settings(point) | point
    points = [point]
    role = FAMILIES[recipe.family.family].network_roles.get(part[1])
    if role and part[-1] != "network":
        networks = networks_for(recipe.family.family, part[1], recipe.form)
        owners = [n for n in networks if part[-1] in NETWORKS[n].Config.model_fields]
        points = [{f"family.{part[1]}.network": n, **point} for n in owners]
    errors = []
    for candidate in points:
        try:
            _changed(recipe, candidate)
            return None
        except UsageError as error:
            errors.append(error)
    return errors[0]
