"""The road on a CUDA device: every starting recipe trains there, and what it leaves runs without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from media_files import wav
from small_dataset import small_dataset

import genpipe
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset
from genpipe.kinds import KINDS
from genpipe.progress import Event
from genpipe.recipes import RECIPES
from genpipe.stages.train.process import TrainedModel
from genpipe.verbs import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device and torch for it")
STEPS = 12


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Dataset]]:
    """A small dataset of every kind."""
    folder, rng = tmp_path_factory.mktemp("gpu"), np.random.default_rng(0)
    for k in range(40):
        clip = np.sin(np.arange(4000) * (0.05 + 0.05 * (k % 2))) * rng.uniform(0.3, 0.9)
        (folder / "clips" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "clips" / "ab"[k % 2] / f"{k}.wav").write_bytes(wav(clip, 8000))
    steps = pd.DataFrame({"id": np.repeat(np.arange(60), 24), "t": np.tile(np.arange(24), 60)})
    steps["v"] = np.sin(steps.t / 3 + steps.id) + rng.normal(0, 0.1, len(steps))
    steps.to_csv(folder / "steps.csv", index=False)
    (folder / "story.txt").write_text("".join(f"the {['cat', 'dog'][k % 2]} ate {k}.\n" for k in range(800)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPIPE_HOME", str(folder / "home"))
        patch.setenv("GENPIPE_DEVICE", "cuda")
        yield {
            "tabular": small_dataset(str(folder / "home/store/datasets/people")),
            "image": genpipe.ingest("builtin:digits"),
            "series": genpipe.ingest(str(folder / "steps.csv"), kind="series", entity="id", time="t"),
            "text": genpipe.ingest(str(folder / "story.txt")),
            "audio": genpipe.ingest(str(folder / "clips")),
        }


def short(name: str, **training: object) -> dict[str, object]:
    few = {"epochs": None, "steps": STEPS, "batch_size": 32, "evaluate_every": STEPS, "checkpoint_every": 5}
    return {"base": name, "training": few | training}


def trained(datasets: dict[str, Dataset], name: str, **training: object) -> TrainedModel:
    return train(datasets[RECIPES[name]().kind], recipe=short(name, **training))


def test_every_kind_is_here(datasets: dict[str, Dataset]) -> None:
    assert set(datasets) == set(KINDS)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_there_and_its_bundle_runs_on_either(name: str, datasets: dict[str, Dataset]) -> None:
    model = trained(datasets, name)
    assert all(np.isfinite(v) for v in model.metrics.values()), model.metrics
    there, here = (Bundle.open(model.uri, device=d).sample(20, seed=1) for d in ("cuda", "cpu"))
    assert there.schema == here.schema and there.num_rows == here.num_rows == 20


@pytest.mark.parametrize("name", ["tabular_autoregressive", "tabular_vae", "image_vae", "text_gpt"])
def test_in_full_precision_the_losses_are_those_of_the_cpu(
    name: str, datasets: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = trained(datasets, name, precision="float32")
    monkeypatch.setenv("GENPIPE_DEVICE", "cpu")
    here = train(datasets[RECIPES[name]().kind], recipe=short(name, precision="float32"), tag="cpu")
    assert there.metrics["loss"] == pytest.approx(here.metrics["loss"], rel=2e-2)


@pytest.mark.parametrize(
    "name", ["image_vae", "image_gan", "tabular_autoregressive", "text_lstm", "text_gpt"]
)
def test_a_run_resumed_there_equals_an_uninterrupted_one(name: str, datasets: dict[str, Dataset]) -> None:
    whole, dataset = trained(datasets, name), datasets[RECIPES[name]().kind]

    class Stop(Exception):
        pass

    def stop(event: Event) -> None:
        if event.stage == "train" and event.done >= 7:
            raise Stop

    with pytest.raises(Stop):
        train(dataset, recipe=short(name), tag="again", progress=stop)
    again = train(dataset, recipe=short(name), tag="again")
    a, b = ((Path(m.uri) / "weights.safetensors").read_bytes() for m in (whole, again))
    assert a == b


def test_a_ray_worker_gets_the_gpu_and_generation_too(datasets: dict[str, Dataset], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from genpipe.stages import cluster

    model = train(datasets["image"], recipe=short("image_gan"), workers=1, tag="ray")
    assert np.isfinite(model.metrics["loss"])
    made = [
        genpipe.generate(model, rows=300, seed=5, workers=n, output=str(tmp_path / f"made{n}"))
        for n in (0, 1)
    ]
    assert made[0].pandas().equals(made[1].pandas())
    cluster.disconnect()
