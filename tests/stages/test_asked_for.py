"""Asked for a 3, a classifier says 3: every starting recipe learns three well separated classes for a few
seconds, and logistic regression, which learnt them from real rows, must find in the generated ones what was
asked for. Chance is a third.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from media_files import png, wav

import genpipe
from genpipe.dataset import Dataset, commit, new_attempt, write_part
from genpipe.evaluation.image import decode
from genpipe.fields import AnyField, Audio, Category, Image, Number, Series, Text
from genpipe.kinds import DataKind
from genpipe.recipes import RECIPES
from genpipe.schema import Schema

CLASSES, TRAIN, HOLDOUT, ASKED = ("1", "2", "3"), 300, 60, 40
ENOUGH = 0.7
RATE, FRAMES = 4000, 1024


@dataclass(frozen=True)
class Data:
    """fields: of the schema beside the class. make: columns of rows of these classes, 0 to 2. look: (N, F)
    numbers a classifier reads in a table.
    """

    fields: tuple[AnyField, ...]
    make: Callable[[np.ndarray, np.random.Generator], dict[str, list]]
    look: Callable[[pa.Table], np.ndarray]


def people(which: np.ndarray, rng: np.random.Generator) -> dict[str, list]:
    height = rng.normal(120 + 40 * which, 4)
    return {"height": height.tolist(), "weight": (0.5 * height + rng.normal(0, 3, len(which))).tolist()}


def digits(which: np.ndarray, rng: np.random.Generator) -> dict[str, list]:
    """Real ones: written ones, twos and threes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rows = [rng.choice(np.flatnonzero(y == label + 1)) for label in which]
    pictures = (x[rows].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return {"image": [{"bytes": png(picture), "path": None} for picture in pictures]}


def slopes(which: np.ndarray, rng: np.random.Generator) -> dict[str, list]:
    """Falling, level and rising."""
    rise = np.outer(which - 1, np.linspace(-1, 1, 16)) + rng.normal(0, 0.15, (len(which), 16))
    return {"load": (rise + rng.normal(0, 0.2, (len(which), 1))).tolist()}


def words(which: np.ndarray, rng: np.random.Generator) -> dict[str, list]:
    letters = [list("abcd"), list("cdef"), list("efgh")]
    return {"text": ["".join(rng.choice(letters[k], rng.integers(6, 12))) for k in which]}


def tones(which: np.ndarray, rng: np.random.Generator) -> dict[str, list]:
    hertz = np.array([250.0, 600.0, 1300.0])[which] * rng.uniform(0.95, 1.05, len(which))
    waves = 0.5 * np.sin(2 * np.pi * np.outer(hertz, np.arange(FRAMES) / RATE))
    return {"clip": [{"bytes": wav(wave, RATE), "path": None} for wave in waves]}


def loudness(table: pa.Table) -> np.ndarray:
    """Of 32 bands of a clip, in logarithms. A WAV file's samples begin at its 44th byte."""
    clips = np.stack([np.frombuffer(clip["bytes"][44:], "<i2") for clip in table["clip"].to_pylist()]) / 2**15
    heights = np.abs(np.fft.rfft(clips))[:, :512]
    return np.log(heights.reshape(len(clips), 32, 16).mean(2) + 1e-2)


DATA: dict[DataKind, Data] = {
    "tabular": Data(
        (Number(name="height"), Number(name="weight")),
        people,
        lambda table: np.stack([table["height"].to_numpy(), table["weight"].to_numpy()], 1),
    ),
    "image": Data(
        (Image(name="image", height=8, width=8, channels=1),),
        digits,
        lambda table: decode(table["image"], 1, 8, 8).reshape(table.num_rows, -1),
    ),
    "series": Data(
        (Series(name="load", length=16),), slopes, lambda table: np.array(table["load"].to_pylist())
    ),
    "text": Data(
        (Text(name="text"),),
        words,
        lambda table: np.array([[text.count(c) for c in "abcdefgh"] for text in table["text"].to_pylist()]),
    ),
    "audio": Data((Audio(name="clip", rate=RATE, frames=FRAMES),), tones, loudness),
}


def narrow(network: str, width: int, *fields: str, **more: Any) -> dict[str, Any]:
    """Small networks in these fields of a family."""
    return {name: {"network": network, "width": width} for name in fields} | more


GAN, VAE = ("generator", "critic"), ("encoder", "decoder")
CODES, TINY = (*VAE, "critic"), {"network": "transformer", "width": 32, "depth": 1}
SMALL_FLOW = {"velocity": {"network": "unet", "width": 16, "blocks": 1, "middle": 1}}
# a recipe's changes: a few seconds of it, and what makes so few steps and rows enough
CHANGES: dict[str, dict[str, Any]] = {
    "tabular_autoregressive": {"steps": 60},
    "tabular_any_order": {"steps": 60},
    "tabular_gan": {
        "steps": 800,
        "learning_rate": 2e-3,
        "schedule": "constant",
        "ema": 0.98,
        "family": narrow("mlp", 64, *GAN, latent=8, penalty_weight=1.0),
    },
    "tabular_vae": {"steps": 500, "learning_rate": 5e-3, "family": narrow("mlp", 32, *VAE, latent=2)},
    "tabular_trees": {"family": {"smoothing": 5, "leaf_minimum": 20, "code_minimum": 1}},
    "image_gan": {"steps": 200, "family": narrow("conv2d", 16, *GAN)},
    "image_vae": {"steps": 400, "learning_rate": 3e-3, "family": narrow("conv2d", 16, *VAE)},
    "image_autoencoder": {"steps": 400, "learning_rate": 3e-3, "family": narrow("conv2d", 16, *VAE)},
    "image_vq": {
        "steps": 400,
        "family": narrow("conv2d", 16, *CODES, model=TINY),
    },
    "image_flow": {"steps": 60, "warmup": 10, "ema": 0.95, "family": SMALL_FLOW},
    "series_recurrent": {"steps": 200, "learning_rate": 4e-3, "family": narrow("recurrent", 48, "model")},
    "series_gan": {"steps": 200, "family": narrow("conv1d", 16, *GAN)},
    "series_vae": {"steps": 200},
    "series_in_turn": {"steps": 200, "learning_rate": 4e-3, "family": narrow("recurrent", 48, "model")},
    "series_transformer": {"steps": 200, "warmup": 20, "family": narrow("transformer", 32, "model")},
    "series_recurrent_gan": {"steps": 300, "family": narrow("recurrent", 32, *GAN)},
    "series_recurrent_vae": {"steps": 300, "family": narrow("recurrent", 32, *VAE)},
    "series_vq": {"steps": 400},
    "series_flow": {"steps": 60, "warmup": 10, "ema": 0.95, "family": SMALL_FLOW},
    "text_lstm": {"steps": 100, "family": {"model": {"network": "recurrent", "cell": "lstm", "width": 64}}},
    "text_gru": {"steps": 100, "family": narrow("recurrent", 64, "model")},
    "text_gpt": {"steps": 100, "family": narrow("transformer", 64, "model")},
    "audio_gan": {"steps": 150, "family": narrow("conv2d", 8, *GAN)},
    "audio_vae": {"steps": 300, "learning_rate": 4e-3, "family": narrow("conv2d", 8, *VAE, latent=4)},
    "audio_vq": {
        "steps": 400,
        "family": narrow("conv2d", 8, *CODES, model=TINY),
    },
    "audio_flow": {"steps": 60, "warmup": 10, "ema": 0.95, "family": SMALL_FLOW},
    "audio_recurrent": {
        "steps": 400,
        "family": narrow("conv2d", 8, *CODES, model={"network": "recurrent", "cell": "lstm", "width": 64}),
    },
}
# of the others seconds; these are the same families on other kinds
SLOW = {
    "image_vae", "image_autoencoder", "series_gan", "series_vae", "series_vq", "text_gpt", "audio_gan",
    "audio_vae", "audio_vq", "audio_recurrent", "series_flow", "audio_flow", "series_transformer",
    "series_in_turn", "series_recurrent_gan", "series_recurrent_vae",
}  # fmt: skip


def changed(name: str) -> dict[str, Any]:
    """The recipe as it is trained here."""
    training = {**CHANGES[name]}
    family = training.pop("family", {})
    if not training:
        return {"base": name, "family": family}
    steps = training["steps"]
    training = {"epochs": None, "weight_decay": 0.0, "batch_size": 32, "evaluate_every": steps, **training}
    return {"base": name, "training": training, "family": family}


def table(schema: Schema, kind: DataKind, rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    which = rng.integers(0, len(CLASSES), rows)
    columns = DATA[kind].make(which, rng) | {"class": [CLASSES[k] for k in which]}
    return pa.table(
        {n: pa.array(columns[n], schema.field(n).arrow()) for n in schema.names}, schema=schema.arrow()
    )


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[DataKind], Dataset]:
    """The dataset of a kind, made once."""
    made: dict[str, Dataset] = {}

    def of(kind: DataKind) -> Dataset:
        if kind not in made:
            schema = Schema(kind=kind, fields=(*DATA[kind].fields, Category(name="class")), target="class")
            uri, attempt = str(tmp_path_factory.mktemp("asked") / kind), new_attempt()
            parts = [
                write_part(
                    uri, table(schema, kind, rows, seed), split=split, name=f"{split}-00000", attempt=attempt
                )
                for seed, (split, rows) in enumerate((("train", TRAIN), ("holdout", HOLDOUT)))
            ]
            made[kind] = commit(uri, name=kind, schema=schema, parts=parts, origin={"stage": "test"})
        return made[kind]

    return of


def test_every_recipe_is_asked() -> None:
    assert set(CHANGES) == set(RECIPES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CHANGES]
)
def test_the_class_asked_for_comes(name: str, datasets: Callable[[DataKind], Dataset], home: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind = RECIPES[name]().kind
    dataset, look = datasets(kind), DATA[kind].look
    seen, unseen = dataset.table("train"), dataset.table("holdout")
    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    reader.fit(look(seen), seen["class"].to_pylist())
    assert reader.score(look(unseen), unseen["class"].to_pylist()) > 0.95, "the classes lie too near"
    model, right = genpipe.train(dataset, recipe=changed(name), seed=1), {}
    for label in CLASSES:
        made = genpipe.generate(model, rows=ASKED, conditions={"class": label}, seed=2, workers=0).table(
            "generated"
        )
        assert made["class"].to_pylist() == [label] * ASKED
        right[label] = float((reader.predict(look(made)) == label).mean())
    assert min(right.values()) >= ENOUGH, f"of the rows asked for, these shares look like it: {right}"
