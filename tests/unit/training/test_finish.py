"""A table GAN is finished and scored after training without the critic, which is not published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_dataset import small_dataset

from genpipe.codecs import CODECS
from genpipe.codecs.base import fit as fit_codec
from genpipe.recipe import make_family
from genpipe.recipes import parse_recipe
from genpipe.training.data import open_source
from genpipe.training.finish import finished_fit
from genpipe.training.loop import fit
from genpipe.training.score import Scorer


@pytest.mark.parametrize("base", ["tabular_gan", "tabular_vae"])
def test_what_is_published_is_calibrated_and_scored(tmp_path: Path, base: str) -> None:
    dataset = small_dataset(str(tmp_path / "people"), rows=300, parts=1)
    codec = fit_codec(CODECS["tabular"], dataset.schema, dataset.batches("train"))
    changes: dict[str, Any] = {"base": base, "training": {"steps": 4, "batch_size": 16}}
    recipe, spec = parse_recipe(changes, "tabular"), codec.spec("vector")
    family = make_family(recipe, spec)
    score = Scorer(family, dataset, codec, "vector", seed=0)
    source = open_source(dataset, codec, "vector", seed=0, batch_size=16, balance=recipe.training.balance)
    result = fit(recipe, spec, source, seed=0, evaluate=score)
    done = finished_fit(result, family, source, spec, score, seed=0, device="cpu")
    changed = {name for name, t in done.weights.items() if not t.equal(result.weights[name])}
    calibrated, fitted = {n for n in changed if n.endswith("out.bias")}, {n for n in changed if "prior." in n}
    assert len(calibrated) == 1 and changed == calibrated | fitted and bool(fitted) == (base == "tabular_vae")
    assert set(done.metrics) == set(result.metrics) and done.metrics["fidelity"] != result.metrics["fidelity"]
