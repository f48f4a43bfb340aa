"""Starting recipes: functions that return whole typed runs and derive from one another, and how to read a
user's.

The numbers are set for two CPU cores: a table of a thousand rows in seconds, 8 x 8 images in under half a
minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from genpipe.errors import UsageError, closest, unknown
from genpipe.families.gan import GANConfig
from genpipe.families.sequence import SequenceConfig
from genpipe.families.vae import VAEConfig
from genpipe.networks.autoregressive import AutoregressiveConfig
from genpipe.networks.convolutional import Conv1dConfig, Conv2dConfig
from genpipe.networks.mlp import MLPConfig
from genpipe.networks.recurrent import RecurrentConfig
from genpipe.networks.transformer import TransformerConfig
from genpipe.recipe import FAMILIES, NETWORKS, Recipe, Training, check_parts, layouts
from genpipe.schema import KINDS


def derived(
    recipe: Recipe, name: str, *, training: Mapping[str, Any] | None = None, **changes: Any
) -> Recipe:
    """A copy of a recipe under another name: `training` updates its fields, `changes` replace whole parts."""
    trained = recipe.training.model_copy(update=dict(training or {}))
    return recipe.model_copy(update={"name": name, "training": trained, **changes})


def tabular_autoregressive() -> Recipe:
    """Columns one after the other: the strongest starting point for a table."""
    return Recipe(
        name="tabular_autoregressive",
        kind="tabular",
        layout="tokens",
        family=SequenceConfig(model=AutoregressiveConfig()),
        training=Training(
            steps=1000,
            batch_size=256,
            learning_rate=2e-3,
            weight_decay=0.1,
            schedule="cosine",
            evaluate_every=100,
            patience=4,
        ),
    )


def tabular_gan() -> Recipe:
    """Conditional table GAN after CTGAN: Wasserstein scores with gradient penalty."""
    return Recipe(
        name="tabular_gan",
        kind="tabular",
        layout="vector",
        family=GANConfig(
            adversarial="wasserstein", penalty="gradient_penalty", penalty_weight=10.0, critic_steps=2
        ),
        training=Training(steps=1500, batch_size=256, learning_rate=5e-4, betas=(0.5, 0.9), ema=0.995),
    )


def tabular_vae() -> Recipe:
    """Table VAE after TVAE."""
    return Recipe(
        name="tabular_vae",
        kind="tabular",
        layout="vector",
        family=VAEConfig(encoder=MLPConfig(residual=False), decoder=MLPConfig(residual=False)),
        training=Training(steps=1000, batch_size=256, schedule="cosine", weight_decay=0.01),
    )


def image_gan() -> Recipe:
    """Class-conditional convolutional GAN with R1, every class on demand."""
    return Recipe(
        name="image_gan",
        kind="image",
        layout="grid",
        family=GANConfig(
            generator=Conv2dConfig(), critic=Conv2dConfig(), penalty_weight=1.0, penalty_every=4
        ),
        training=Training(steps=800, batch_size=64, learning_rate=1e-3, betas=(0.0, 0.99), ema=0.995),
    )


def image_vae() -> Recipe:
    """Class-conditional convolutional VAE: smoother, never unstable."""
    return derived(
        image_gan(),
        "image_vae",
        family=VAEConfig(encoder=Conv2dConfig(), decoder=Conv2dConfig(), latent=16),
        training={"batch_size": 128, "schedule": "cosine", "betas": (0.9, 0.99), "ema": None},
    )


def text_lstm() -> Recipe:
    """Recurrent language model over the codec's tokens."""
    return Recipe(
        name="text_lstm",
        kind="text",
        layout="tokens",
        family=SequenceConfig(model=RecurrentConfig(cell="lstm", width=192)),
        training=Training(
            steps=1500,
            batch_size=64,
            learning_rate=4e-3,
            schedule="cosine",
            warmup=20,
            clip=1.0,
            evaluate_every=250,
        ),
    )


def text_gru() -> Recipe:
    return derived(
        text_lstm(), "text_gru", family=SequenceConfig(model=RecurrentConfig(cell="gru", width=192))
    )


def text_gpt() -> Recipe:
    """A small causal transformer."""
    family = SequenceConfig(model=TransformerConfig())
    return derived(text_lstm(), "text_gpt", family=family, training={"learning_rate": 2e-3, "warmup": 100})


def series_recurrent() -> Recipe:
    """Recurrent network with a mixture density at every step."""
    return Recipe(
        name="series_recurrent",
        kind="series",
        layout="sequence",
        family=SequenceConfig(model=RecurrentConfig(cell="gru", width=128)),
        training=Training(
            steps=1500, batch_size=64, learning_rate=2e-3, schedule="cosine", warmup=20, clip=1.0
        ),
    )


def series_gan() -> Recipe:
    """Convolutional GAN over whole series."""
    return derived(
        image_gan(),
        "series_gan",
        kind="series",
        layout="sequence",
        family=GANConfig(generator=Conv1dConfig(), critic=Conv1dConfig(), penalty_every=4),
    )


def series_vae() -> Recipe:
    """Convolutional VAE over whole series."""
    family = VAEConfig(encoder=Conv1dConfig(), decoder=Conv1dConfig())
    return derived(image_vae(), "series_vae", kind="series", layout="sequence", family=family)


def audio_gan() -> Recipe:
    """The image GAN on mel spectrograms, class-conditional."""
    return derived(image_gan(), "audio_gan", kind="audio", training={"steps": 1500})


def audio_vae() -> Recipe:
    """The image VAE on mel spectrograms: blurred, but a voice within minutes."""
    return derived(image_vae(), "audio_vae", kind="audio", training={"batch_size": 64})


def audio_recurrent() -> Recipe:
    """Mel frames one after the other, each a mixture of Gaussians."""
    return derived(series_recurrent(), "audio_recurrent", kind="audio", training={"batch_size": 64})


RECIPES: dict[str, Callable[[], Recipe]] = {
    "tabular_autoregressive": tabular_autoregressive,
    "tabular_gan": tabular_gan,
    "tabular_vae": tabular_vae,
    "image_gan": image_gan,
    "image_vae": image_vae,
    "series_recurrent": series_recurrent,
    "series_gan": series_gan,
    "series_vae": series_vae,
    "text_lstm": text_lstm,
    "text_gru": text_gru,
    "text_gpt": text_gpt,
    "audio_vae": audio_vae,
    "audio_gan": audio_gan,
    "audio_recurrent": audio_recurrent,
}
# the first recipe of a kind is its default


def recipes_for(kind: str) -> dict[str, Recipe]:
    """Starting recipes of one data kind, the default first."""
    if kind not in KINDS:
        raise unknown("data kind", kind, KINDS)
    return {name: build() for name, build in RECIPES.items() if name.startswith(f"{kind}_")}


def default_recipe(kind: str) -> Recipe:
    return next(iter(recipes_for(kind).values()))


def parse_recipe(value: str | Mapping[str, Any] | Recipe | None, kind: str) -> Recipe:
    """A recipe from its name, from a mapping of changes to one (`base: name`), or from nothing: the kind's
    default.

    Raises a UsageError that names the key, what is allowed and the closest match; of several problems, all.
    """
    problems: list[UsageError] = []
    recipe = _parse(value, kind, problems)
    if len(problems) == 1:
        raise problems[0]
    if problems or recipe is None:
        raise UsageError("RECIPE", found=f"{len(problems)} problems\n  " + "\n  ".join(map(str, problems)))
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
    base = _named(name, kind) if name is not None else default_recipe(kind)
    if family in FAMILIES and base.family.family != family:
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
    owners: dict[str, type[BaseModel]] = {n: k.Config for n, k in (*FAMILIES.items(), *NETWORKS.items())}
    named = {n: f.annotation for n, f in Recipe.model_fields.items()}
    for part in reversed(location[:-1]):
        if part in owners:
            return owners[part]
        inner = named.get(str(part))
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return Recipe
