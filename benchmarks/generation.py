"""What does delivering cost? Committed Parquet against a bare sampling loop.

    python benchmarks/generation.py [--rounds 7]

Both sides draw the same blocks with the same network on one torch thread. The bare loop only samples; the
road also decodes records, encodes Parquet (PNG for images), hashes, writes, syncs and commits. They take
turns, so a busy machine slows both; the ratio of each round is kept, the median reported. Target: 0.80.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from genpipe.bundle import Bundle, save_bundle
from genpipe.bundle.generator import one_thread
from genpipe.codecs import CODECS
from genpipe.codecs.base import fit
from genpipe.draws import Draws
from genpipe.fields import AnyField, Category, Image, Integer, Number
from genpipe.recipe import Recipe, make_family
from genpipe.recipes import RECIPES
from genpipe.schema import Schema
from genpipe.verbs import generate

TARGET = 0.80
RESULT = Path(__file__).parent / "results" / "generation.json"


def untrained(recipe: Recipe, schema: Schema, rows: dict[str, list], folder: Path) -> Bundle:
    """A generator with its first weights: as fast as a trained one."""
    batch = pa.RecordBatch.from_pydict(rows, schema=schema.arrow())
    codec = fit(CODECS[schema.kind], schema, [batch], recipe.codec)
    family = make_family(recipe, codec.spec(recipe.layout))
    nets = family.build()
    weights = {f"{r}.{k}": v for r in family.sample_roles for k, v in nets[r].state_dict().items()}
    return save_bundle(
        str(folder), recipe=recipe, codec=codec, weights=weights, metrics={}, origin={"name": recipe.name}
    )


def table_model(folder: Path) -> Bundle:
    """Autoregressive, on a table like a census: six numbers, eight choices."""
    rng, count = np.random.default_rng(0), 5000
    fields: list[AnyField] = [Integer(name=f"whole{i}") for i in range(3)]
    fields += [Number(name=f"real{i}", decimals=2) for i in range(3)]
    fields += [Category(name=f"choice{i}") for i in range(8)]
    rows: dict[str, list] = {f"whole{i}": rng.integers(0, 60, count).tolist() for i in range(3)}
    rows |= {f"real{i}": rng.normal(0, 50, count).round(2).tolist() for i in range(3)}
    rows |= {f"choice{i}": [f"value {v}" for v in rng.integers(0, 3 + 2 * i, count)] for i in range(8)}
    schema = Schema(kind="tabular", fields=tuple(fields), target="choice0")
    return untrained(RECIPES["tabular_autoregressive"](), schema, rows, folder)


def image_model(folder: Path) -> Bundle:
    """The conv GAN of the recipes, on 28 x 28 grey pictures of ten classes."""
    import io

    from PIL import Image as Picture

    rng = np.random.default_rng(0)
    pictures = []
    for pixels in rng.integers(0, 256, (50, 28, 28), dtype=np.uint8):
        sink = io.BytesIO()
        Picture.fromarray(pixels).save(sink, "PNG")
        pictures.append({"bytes": sink.getvalue(), "path": None})
    fields = (Image(name="image", height=28, width=28, channels=1), Category(name="label"))
    schema = Schema(kind="image", fields=fields, target="label")
    rows = {"image": pictures, "label": [str(i % 10) for i in range(50)]}
    return untrained(RECIPES["image_gan"](), schema, rows, folder)


def bare(bundle: Bundle, rows: int) -> float:
    """Seconds to sample the blocks that hold `rows` rows."""
    size, rng = bundle.block_rows, np.random.default_rng(0)
    began = time.perf_counter()
    with one_thread(), torch.inference_mode():
        for block in range(-(-rows // size)):
            condition = torch.from_numpy(bundle.codec.draw_conditions(size, rng)).long()
            bundle.family.sample(bundle.nets, condition, Draws(0, block, total=size))
    return time.perf_counter() - began


def road(bundle: Bundle, rows: int, round_: int, folder: Path) -> float:
    """Seconds of the same rows as a committed dataset, in this process."""
    began = time.perf_counter()
    dataset = generate(bundle.uri, rows=rows, seed=round_, output=str(folder / f"out-{round_}"), workers=0)
    seconds = time.perf_counter() - began
    assert dataset.rows() == rows
    return seconds


def measure(bundle: Bundle, rows: int, rounds: int, folder: Path) -> dict[str, float]:
    bare(bundle, bundle.block_rows)
    road(bundle, bundle.block_rows, 10**6, folder)
    pairs = [(bare(bundle, rows), road(bundle, rows, n, folder)) for n in range(rounds)]
    return {
        "rows": rows,
        "bare_rows_per_second": round(rows / statistics.median(b for b, _ in pairs)),
        "road_rows_per_second": round(rows / statistics.median(r for _, r in pairs)),
        "ratio": round(statistics.median(b / r for b, r in pairs), 3),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=7)
    rounds = arguments.parse_args().rounds
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, make, blocks in (("table", table_model, 16), ("image", image_model, 8)):
            folder = Path(scratch, name)
            bundle = make(folder / "bundle")
            results[name] = measure(bundle, blocks * bundle.block_rows, rounds, folder)
            print(f"{name}: {results[name]}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"target": TARGET, **results}, indent=1) + "\n")
    sys.exit(0 if all(r["ratio"] >= TARGET for r in results.values()) else 1)


if __name__ == "__main__":
    main()
