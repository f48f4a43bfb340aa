"""Small tables of every kind, and a ladder of worse and worse copies of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from media_files import png, wav

from genpipe.fields import BLOB, Audio, Boolean, Category, Image, Integer, Number, Series, Text, Timestamp
from genpipe.schema import Schema


@dataclass(frozen=True)
class Sample:
    """Fresh draws from one population: any two are a real train and a real holdout."""

    schema: Schema
    train: pa.Table
    holdout: pa.Table
    noisy: pa.Table
    shuffled: pa.Table
    constant: pa.Table


def repeat_first(table: pa.Table) -> pa.Table:
    return table.take(pa.array(np.zeros(table.num_rows, dtype=np.int64)))


TABLE = Schema(
    kind="tabular",
    fields=(
        Number(name="income", decimals=2),
        Integer(name="age"),
        Number(name="debt", nullable=True),
        Category(name="job"),
        Boolean(name="owner", nullable=True),
        Timestamp(name="seen", unit="s"),
        Category(name="class"),
    ),
    target="class",
)


def table(rows: int, seed: int, *, noise: float = 0.0, shuffle: bool = False) -> pa.Table:
    rng = np.random.default_rng(seed)
    age = rng.gamma(6, 7, rows)
    job = rng.choice(4, rows, p=[0.5, 0.25, 0.15, 0.1])
    income = np.exp(7 + 0.02 * age + 0.4 * job + rng.normal(0, 0.3, rows))
    debt = income * rng.uniform(0, 2, rows)
    owner = (income + rng.normal(0, 2000, rows)) > 5000
    label = ((debt / income + 0.3 * owner + rng.normal(0, 0.2, rows)) > 1.2).astype(int)
    seen = 1.6e9 + age * 1e6 + rng.normal(0, 5e6, rows)
    if noise:
        income, age, debt = (v + rng.normal(0, noise * v.std(), rows) for v in (income, age, debt))
        job = np.where(rng.random(rows) < noise, rng.integers(0, 4, rows), job)
    columns = [
        np.round(income, 2),
        np.round(age).astype(np.int64),
        debt,
        np.array(["cook", "nurse", "clerk", "judge"])[job],
        owner,
        np.round(seen).astype(np.int64),
        np.array(["no", "yes"])[label],
    ]
    missing = [None, None, rng.random(rows) < 0.1, None, rng.random(rows) < 0.2, None, None]
    if shuffle:
        columns = [rng.permutation(c) for c in columns]
    arrays = [
        pa.array(c, mask=m).cast(f.arrow()) for c, m, f in zip(columns, missing, TABLE.fields, strict=True)
    ]
    return pa.table(arrays, names=list(TABLE.names))


def image_schema(side: int) -> Schema:
    fields = (Image(name="image", height=side, width=side, channels=1), Category(name="label"))
    return Schema(kind="image", fields=fields, target="label")


def images(rows: int, seed: int, *, side: int = 12, noise: float = 0.0, shuffle: bool = False) -> pa.Table:
    """Bars of three orientations at random places with random brightness: three classes."""
    rng = np.random.default_rng(seed)
    pixels, labels = np.zeros((rows, side, side)), rng.integers(0, 3, rows)
    for i, label in enumerate(labels):
        spot, bright = rng.integers(2, side - 3), rng.uniform(0.5, 1)
        if label == 0:
            pixels[i, spot : spot + 2, 2:-2] = bright
        elif label == 1:
            pixels[i, 2:-2, spot : spot + 2] = bright
        else:
            pixels[i] = np.eye(side, k=int(spot - side // 2)) * bright
    if noise:
        pixels = np.clip(pixels + rng.normal(0, noise, pixels.shape), 0, 1)
    if shuffle:
        pixels = rng.permuted(pixels.reshape(rows, -1), axis=0).reshape(pixels.shape)
    blobs = [{"bytes": png((p * 255).astype(np.uint8))} for p in pixels]
    return pa.table({"image": pa.array(blobs, BLOB), "label": [f"bar{k}" for k in labels]})


SERIES = Schema(kind="series", fields=(Series(name="a", length=24), Series(name="b", length=24)))


def series(rows: int, seed: int, *, noise: float = 0.0, shuffle: bool = False) -> pa.Table:
    rng = np.random.default_rng(seed)
    t = np.arange(24)
    phase, period = rng.uniform(0, 6.28, (rows, 1)), rng.uniform(6, 12, (rows, 1))
    a = np.sin(2 * np.pi * t / period + phase) * rng.uniform(0.5, 1.5, (rows, 1)) + rng.normal(
        0, 0.05, (rows, 24)
    )
    b = 0.7 * a + 0.3 * np.cumsum(rng.normal(0, 0.2, (rows, 24)), 1)
    if noise:
        a, b = a + rng.normal(0, noise, a.shape), b + rng.normal(0, noise, b.shape)
    if shuffle:
        a, b = rng.permutation(a.ravel()).reshape(a.shape), rng.permutation(b.ravel()).reshape(b.shape)
    return pa.table(
        {"a": pa.array(list(a), pa.list_(pa.float64())), "b": pa.array(list(b), pa.list_(pa.float64()))}
    )


TEXT = Schema(kind="text", fields=(Text(name="text"),))
_WORDS = [
    "the",
    "king",
    "of",
    "rome",
    "was",
    "a",
    "man",
    "who",
    "would",
    "not",
    "hear",
    "his",
    "people",
    "speak",
    "of",
    "bread",
    "and",
    "war",
    "in",
    "winter",
]


def text(rows: int, seed: int, *, noise: float = 0.0, shuffle: bool = False) -> pa.Table:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(_WORDS) + 1)
    documents = [" ".join(rng.choice(_WORDS, 14, p=weights / weights.sum())) for _ in range(rows)]
    letters = list("".join(documents))
    if noise:
        documents = [
            "".join(rng.choice(letters) if rng.random() < noise else c for c in d) for d in documents
        ]
    if shuffle:
        mixed = iter(rng.permutation(letters))
        documents = ["".join(next(mixed) for _ in d) for d in documents]
    return pa.table({"text": documents})


AUDIO = Schema(
    kind="audio", fields=(Audio(name="audio", rate=4000, frames=2048), Category(name="label")), target="label"
)


def audio(rows: int, seed: int, *, noise: float = 0.0, shuffle: bool = False) -> pa.Table:
    """Falling and rising tones of random pitch, onset and loudness: two classes."""
    rng = np.random.default_rng(seed)
    t = np.arange(2048) / 4000
    clips, labels = [], rng.integers(0, 2, rows)
    for label in labels:
        pitch, onset, loud = rng.uniform(300, 700), rng.uniform(0, 0.15), rng.uniform(0.2, 0.8)
        sweep = np.sin(2 * np.pi * (pitch * t + (2 * label - 1) * 400 * t**2))
        clip = loud * sweep * (t > onset) * np.exp(-4 * np.clip(t - onset, 0, None))
        clip = clip + rng.normal(0, 0.003, len(t))
        if shuffle:
            clip = rng.normal(0, clip.std(), len(t))
        clips.append(clip + rng.normal(0, noise, len(t)) if noise else clip)
    blobs = [{"bytes": wav(c, 4000)} for c in clips]
    return pa.table({"audio": pa.array(blobs, BLOB), "label": [f"w{k}" for k in labels]})


def sample(kind: str, *, rows: int = 400, seed: int = 0) -> Sample:
    """noise is a small share of each kind's own spread: visible, not absurd."""
    make, schema, noise = {
        "tabular": (table, TABLE, 0.25),
        "image": (images, image_schema(12), 0.08),
        "series": (series, SERIES, 0.25),
        "text": (text, TEXT, 0.06),
        "audio": (audio, AUDIO, 0.02),
    }[kind]
    shuffled = make(rows, seed + 4, shuffle=True)
    return Sample(
        schema,
        make(2 * rows, seed + 1),
        make(rows, seed + 2),
        make(rows, seed + 3, noise=noise),
        shuffled,
        repeat_first(make(rows, seed + 5)),
    )
