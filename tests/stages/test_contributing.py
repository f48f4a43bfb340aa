"""The recipes of CONTRIBUTING.md, followed to the letter with fakes: after the lines they name, each fake is
known to `validate` and to a search, keeps its contract, trains and generates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

import genpipe
from genpipe import testing
from genpipe.bundle import Bundle
from genpipe.codecs import CODECS
from genpipe.codecs.text import TextCodec
from genpipe.dataset import Dataset
from genpipe.evaluation import JUDGES
from genpipe.evaluation.text import TextJudge
from genpipe.families import FAMILIES
from genpipe.families.vae import VAE, VAEConfig
from genpipe.kinds import KINDS
from genpipe.networks import NETWORKS
from genpipe.networks.base import NetworkConfig
from genpipe.objectives import ADVERSARIAL, PENALTIES, Adversarial
from genpipe.objectives.penalties import Critic
from genpipe.recipe import Recipe
from genpipe.recipes import RECIPES, parse_recipe
from genpipe.recipes.starting import derived, text_gru
from genpipe.schema import Schema
from genpipe.search_space import space
from genpipe.seeds import numpy_rng
from genpipe.sources import SOURCES
from genpipe.sources.text import TextOptions, TextSource
from genpipe.spec import TensorSpec

TRAINING = {"steps": 4, "batch_size": 16, "evaluate_every": 4}


@pytest.fixture(scope="module")
def titanic(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(tmp_path_factory.mktemp("data")))
        return genpipe.ingest("builtin:titanic")


def validated(data: str, recipe: dict[str, Any], search: dict[str, Any] | None = None, **source: Any) -> None:
    """A spec of it, and one that searches it."""
    for more in ({"recipe": recipe}, {"search": {"trials": 2, **(search or {})}}):
        genpipe.validate({"name": "it", "source": {"path": data, **source}, **more})


def trained(data: Dataset, recipe: dict[str, Any]) -> Bundle:
    """A few steps, opened again, and some rows of it."""
    bundle = Bundle.open(genpipe.train(data, recipe={**recipe, "training": TRAINING}).uri)
    assert genpipe.generate(bundle.uri, rows=3).pandas().shape[0] == 3
    return bundle


def drawn(kind: str, base: str, parameter: str) -> set[Any]:
    """The values of a parameter in 60 points of a search, all of them valid recipes."""
    searched = space(kind, recipes=[base])
    points = [searched.sample(numpy_rng(0, n)) for n in range(60)]
    return {searched.recipe(point) and point.get(parameter) for point in points}


def squared_critic(real: Tensor, fake: Tensor) -> Tensor:
    return (real - 2).square().mean() + (fake + 2).square().mean()


def squared_generator(fake: Tensor) -> Tensor:
    return (fake - 2).square().mean()


def slope(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    return PENALTIES["r1"](critic, fake, fake, mix)


def test_add_a_gan_loss(titanic: Dataset, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"penalty": "slope", "critic_steps": 2}
    loss = Adversarial(squared_critic, squared_generator, needs_penalty=True, settings=settings)
    monkeypatch.setitem(ADVERSARIAL, "squared", loss)
    monkeypatch.setitem(PENALTIES, "slope", slope)
    recipe = {"base": "tabular_gan", "family": {"adversarial": "squared", "penalty": "slope"}}
    validated("builtin:titanic", recipe, {"recipes": ["tabular_gan"], "vary": {"adversarial": ["squared"]}})
    assert "squared" in drawn("tabular", "tabular_gan", "family.adversarial")
    searched = space("tabular", recipes=["tabular_gan"], vary={"adversarial": ["squared"]})
    assert searched.recipe(searched.sample(numpy_rng(0))).family.penalty == "slope"  # type: ignore[attr-defined]
    for case in testing.loss_cases(["squared"]):
        case()
    assert trained(titanic, recipe).recipe.family.adversarial == "squared"  # type: ignore[attr-defined]


class WideConfig(NetworkConfig):
    network: Literal["wide"] = "wide"
    width: int = 24


class Wide(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(fan_in, width), nn.SiLU(), nn.Linear(width, fan_out))

    @property
    def bias(self) -> Tensor:
        return self.net[-1].bias  # type: ignore[return-value]

    def forward(self, first: Tensor, c: Tensor) -> Tensor:
        return self.net(torch.cat([first, c], 1)).squeeze(1)


class WideKind:
    Config: ClassVar[type[Any]] = WideConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"vector"})
    roles: ClassVar[frozenset[str]] = frozenset({"generator", "critic", "encoder", "decoder"})

    @staticmethod
    def build(role: str, spec: TensorSpec, config: WideConfig, *, latent: int = 0) -> nn.Module:
        fan_in, fan_out = {
            "critic": (spec.shape[0], 1),
            "encoder": (spec.shape[0], 2 * latent),
        }.get(role, (latent, spec.shape[0]))
        return Wide(fan_in + sum(spec.conditions), fan_out, config.width)


def test_add_an_architecture(titanic: Dataset, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "wide", WideKind)
    recipe = {
        "base": "tabular_vae",
        "family": {"encoder": "wide", "decoder": {"network": "wide", "width": 16}},
    }
    search = {"recipes": ["tabular_vae"], "vary": {"decoder.network": ["wide", "mlp"]}}
    validated("builtin:titanic", recipe, search)
    assert drawn("tabular", "tabular_vae", "family.decoder.network") == {"wide", "mlp"}
    for case in testing.network_cases(["wide"]):
        case()
    assert trained(titanic, recipe).recipe.family.decoder == WideConfig(width=16)  # type: ignore[attr-defined]


class HalfConfig(VAEConfig):
    family: Literal["half"] = "half"  # type: ignore[assignment]
    beta: float = 0.5


class Half(VAE):
    Config: ClassVar[type[Any]] = HalfConfig


def tabular_half() -> Recipe:
    return derived(RECIPES["tabular_vae"](), "tabular_half", family=HalfConfig())


def test_add_a_family(titanic: Dataset, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "half", Half)
    monkeypatch.setitem(RECIPES, "tabular_half", tabular_half)
    validated("builtin:titanic", {"base": "tabular_half"}, {"recipes": ["tabular_half"]})
    assert drawn("tabular", "tabular_half", "family.latent") == {16, 32, 64}
    for case in testing.family_cases(["half"]):
        case()
    assert isinstance(trained(titanic, {"base": "tabular_half"}).family, Half)
    assert parse_recipe({"family": "half"}, "tabular").name == "tabular_half"


class VerseSource(TextSource):
    kind = "verse"

    def schema(self, stats: Any, *, target: str | None, key: tuple[str, ...]) -> Schema:
        found = super().schema(stats, target=target, key=key)
        return Schema.model_validate({**found.model_dump(), "kind": "verse"})


class VerseCodec(TextCodec):
    kind = "verse"


class VerseJudge(TextJudge):
    kind = "verse"


def verse_gru() -> Recipe:
    return derived(text_gru(), "verse_gru", kind="verse")


@pytest.fixture
def verses(tmp_path: Path) -> str:
    lines = [f"the {a} sat on {b} {c}" for a in ("cat", "dog", "cow") for b in "abcdef" for c in "uvwxyz"]
    (tmp_path / "poem.verse").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "poem.verse")


def test_add_a_data_kind(verses: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "verse", None)
    monkeypatch.setitem(SOURCES, "verse", (VerseSource, TextOptions, (".verse",)))
    monkeypatch.setitem(CODECS, "verse", VerseCodec)
    monkeypatch.setitem(JUDGES, "verse", VerseJudge)
    monkeypatch.setitem(RECIPES, "verse_gru", verse_gru)
    short = {"base": "verse_gru", "family": {"model": {"width": 16}}}
    validated(verses, short, {"vary": {"learning_rate": [0.001, 0.002]}})
    assert drawn("verse", "verse_gru", "family.model.cell") == {"gru", "lstm"}
    data = genpipe.ingest(verses, record="lines")
    assert data.schema.kind == "verse"
    assert trained(data, short).schema.kind == "verse"


class ShoutedSource(TextSource):
    """Reads text in capitals."""

    def records(self, file: Any) -> Any:
        return (record.upper() for record in super().records(file))


def test_add_a_source(verses: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "text", (ShoutedSource, TextOptions, (".verse",)))
    short = {"base": "text_gru", "family": {"model": {"width": 16}}}
    validated(verses, short, {"recipes": ["text_gru"]})
    data = genpipe.ingest(verses, record="lines")
    assert data.table("train")["text"].to_pylist()[0].startswith("THE ")
    trained(data, short)
