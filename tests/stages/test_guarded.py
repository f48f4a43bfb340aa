"""A hostile learning rate on real digits: what comes out is as good as the best that was seen, and told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from genpipe.dataset import Dataset
from genpipe.progress import Event
from genpipe.verbs import evaluate, ingest, train

NARROW = {"network": "conv2d", "width": 8}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("digits")
    known = load_digits()
    for number, (pixels, label) in enumerate(zip(known.images, known.target, strict=True)):
        place = folder / "pictures" / str(label) / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype(np.uint8)).save(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        return ingest(str(folder / "pictures"), name="digits")


@pytest.mark.parametrize("loss", ["least_squares", "hinge", "bce"])
def test_a_hostile_learning_rate_is_survived(
    digits: Dataset, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENPIPE_HOME", str(Path(digits.uri).parents[2]))
    game = {"family": "gan", "adversarial": loss, "penalty": "none", "generator": NARROW, "critic": NARROW}
    training = {"steps": 200, "evaluate_every": 25, "learning_rate": 0.3, "batch_size": 32}
    events: list[Event] = []
    recipe = {"base": "image_gan", "name": f"hostile-{loss}", "family": game, "training": training}
    model = train(digits, recipe=recipe, seed=0, progress=events.append)
    history = json.loads((Path(model.run) / "history.json").read_text())
    assert model.incidents and all("of the learning rate" in text for text in model.incidents)
    assert {e.note for e in events} >= set(model.incidents)
    assert all(text in events[-1].note for text in model.incidents)
    assert model.metrics["fidelity"] >= 0.9 * max(row["fidelity"] for row in history)
    assert model.metrics["fidelity"] > 0.4
    if loss == "hinge":
        report = evaluate(model)
        assert report.lineage["training incidents"] == "; ".join(model.incidents)
