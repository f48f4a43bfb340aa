"""What does the road cost in training, and what does a second worker bring?

    python -m benchmarks.training [--pairs 7] [--seconds 1.5]

1. The road (`fit` with averaged weights, clipping, guard, progress and checkpoints to disk) against a bare
   PyTorch loop with the same networks, objective, batch and fused AdamW, which does nothing else. Both on one
   thread of one process, in turns; each pair gives a ratio of samples/s in wall time and in CPU time. The
   median of CPU time counts, since other work on the machine cannot spoil it. Neither side evaluates.
2. Two Ray Train workers against one of the same two, on one global batch, in turns, on a network where
   arithmetic dominates. Wall time, which needs two idle cores; the ratio of one worker's CPU time, which does
   not, is what is left of it on a busy machine. Beside it what the machine allows: two processes that each
   do one worker's whole work at the same time, without a word to each other.
3. Where the fixed seconds of a Ray Train run go.

Writes benchmarks/results/training.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genpipe.batch import to_batch
from genpipe.recipe import Recipe, make_family
from genpipe.recipes import RECIPES, parse_recipe
from genpipe.spec import Span, TensorSpec
from genpipe.training.checkpoint import Checkpoints
from genpipe.training.data import Resident
from genpipe.training.distributed import ALONE, Ranks
from genpipe.training.loop import fit

ROAD_TARGET, SCALING_TARGET = 0.92, 1.7
RESULT = Path(__file__).parent / "results" / "training.json"
ROWS = 4096


def workload(name: str) -> tuple[Recipe, TensorSpec, dict[str, np.ndarray]]:
    """A starting recipe and random data of the size it is meant for."""
    rng = np.random.default_rng(0)
    recipe = RECIPES[name]()
    if recipe.layout == "grid":
        spec = TensorSpec(layout="grid", shape=(1, 8, 8), dtype="uint8", conditions=(10,))
        x = rng.integers(0, 256, (ROWS, 1, 8, 8), dtype=np.uint8)
    elif recipe.layout == "vector":
        numbers = [Span(name=f"n{k}", start=k, size=1, kind="continuous") for k in range(6)]
        choices = [Span(name=f"c{k}", start=6 + 8 * k, size=8, kind="categorical") for k in range(8)]
        spec = TensorSpec(
            layout="vector", shape=(70,), dtype="float32", spans=(*numbers, *choices), conditions=(10,)
        )
        hot = np.eye(8, dtype=np.float32)[rng.integers(0, 8, (ROWS, 8))].reshape(ROWS, 64)
        x = np.concatenate([rng.uniform(-1, 1, (ROWS, 6)).astype(np.float32), hot], axis=1)
    else:
        spec = TensorSpec(layout="tokens", shape=(64,), dtype="int32", vocabulary=(96,), conditions=(10,))
        x = rng.integers(0, 96, (ROWS, 64), dtype=np.int32)
    return recipe, spec, {"x": x, "condition": rng.integers(0, 10, (ROWS, 1), dtype=np.int32)}


class Noise:
    """What a bare loop draws from: torch's global generator."""

    def __init__(self, rows: int, device: str) -> None:
        self.rows, self.device = rows, device

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(self.rows, *shape, device=self.device)

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(self.rows, *shape, device=self.device)


def bare_loop(
    recipe: Recipe,
    spec: TensorSpec,
    data: dict[str, np.ndarray],
    steps: int,
    device: str = "cpu",
    precision: AbstractContextManager[Any] = nullcontext(),  # noqa: B008  reusable, and holds nothing
) -> None:
    """The loop one would write in a notebook, written well."""
    family, size = make_family(recipe, spec), recipe.training.batch_size
    nets = {role: net.to(device) for role, net in family.build().items()}
    rate, betas = recipe.training.learning_rate, recipe.training.betas
    optimizers = {
        r: torch.optim.AdamW(n.parameters(), lr=rate, betas=betas, weight_decay=0.0, fused=True)
        for r, n in nets.items()
    }
    order = np.random.default_rng(0).permutation(ROWS)
    for step in range(steps):
        rows = order[step * size % ROWS :][:size]
        batch = to_batch({k: a[rows] for k, a in data.items()}, spec, device)
        for phase in family.phases:
            if step % phase.every == 0:
                for role, net in nets.items():
                    net.requires_grad_(role in phase.trains)
                for role in phase.trains:
                    optimizers[role].zero_grad()
                with precision:
                    terms = family.loss(phase.name, nets, batch, Noise(batch.size, device))  # type: ignore
                sum(terms.values()).backward()  # type: ignore[union-attr]
                for role in phase.trains:
                    optimizers[role].step()


def road(
    recipe: Recipe,
    spec: TensorSpec,
    data: dict[str, np.ndarray],
    steps: int,
    folder: str = "",
    ranks: Ranks = ALONE,
) -> None:
    """The loop of genpipe, with checkpoints four times a run where there is a folder."""
    changes = {"steps": steps, "checkpoint_every": max(1, steps // 4), "evaluate_every": steps}
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})
    sink = Checkpoints(tempfile.mkdtemp(dir=folder)) if folder else None
    fit(recipe, spec, Resident(data, seed=0), seed=0, ranks=ranks, sink=sink, report=lambda status: None)


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def against_bare(name: str, pairs: int, seconds: float) -> dict[str, Any]:
    recipe, spec, data = workload(name)
    size = recipe.training.batch_size
    with tempfile.TemporaryDirectory() as folder:
        bare_loop(recipe, spec, data, 3)
        road(recipe, spec, data, 3, folder)
        steps = max(40, int(seconds * 10 / timed(lambda: bare_loop(recipe, spec, data, 10))[1]))
        sides = (
            lambda: bare_loop(recipe, spec, data, steps),
            lambda: road(recipe, spec, data, steps, folder),
        )
        found = []
        for pair in range(pairs):
            times = {side: timed(sides[side]) for side in ((0, 1) if pair % 2 == 0 else (1, 0))}
            found.append([times[0][k] / times[1][k] for k in (0, 1)] + [steps * size / times[1][1]])
    wall, cpu, rate = (statistics.median(column) for column in zip(*found, strict=True))
    figures = {"ratio_cpu": cpu, "ratio_wall": wall, "samples_per_cpu_second": rate}
    return figures | {"steps": steps, "pairs": pairs}


def scaling_worker(config: dict[str, Any]) -> dict[str, float] | None:
    """In each of two Ray workers: the first alone while the other waits, then both, several times."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    entered = time.time()
    network = {"network": "conv2d", "width": 48}
    changes = {
        "family": {"encoder": network, "decoder": network},
        "training": {"batch_size": 512, "ema": None},
    }
    recipe = parse_recipe({"base": "image_vae"} | changes, "image")
    spec = TensorSpec(layout="grid", shape=(1, 16, 16), dtype="uint8", conditions=(10,))
    rng = np.random.default_rng(0)
    data: dict[str, np.ndarray] = {
        "x": rng.integers(0, 256, (ROWS, 1, 16, 16), dtype=np.uint8),
        "condition": rng.integers(0, 10, (ROWS, 1), dtype=np.int32),
    }
    both, ratios, limits, steps = Ranks.current(), [], [], config["steps"]
    road(recipe, spec, data, 2, ranks=both)
    for _ in range(config["pairs"]):
        dist.barrier()
        alone = timed(lambda: road(recipe, spec, data, steps)) if both.lead else (0.0, 0.0)
        dist.barrier()
        shared = timed(lambda: road(recipe, spec, data, steps, ranks=both))
        ratios.append([a / b for a, b in zip(alone, shared, strict=True)])
        dist.barrier()
        apart = timed(lambda: road(recipe, spec, data, steps))
        limits.append(2 * alone[0] / apart[0])
    wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    found = {
        "speedup": wall,
        "speedup_cpu": cpu,
        "machine_limit": statistics.median(limits),
        "entered": entered,
    }
    return found if both.lead else None


def scaling(pairs: int, steps: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Speed-up of two workers, and the seconds around the training itself."""
    from genpipe.stages import cluster

    began = time.time()
    cluster.connect()
    connected = time.time()
    from ray.train import RunConfig, ScalingConfig

    from genpipe.stages.train.workers import lean_trainer

    imported = time.time()
    with tempfile.TemporaryDirectory() as folder:
        trainer = lean_trainer()(
            scaling_worker,  # type: ignore[arg-type]
            train_loop_config={"pairs": pairs, "steps": steps},
            scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(name="scaling", storage_path=folder),
        )
        told = trainer.fit().return_value  # type: ignore[attr-defined]
        ended = time.time()
    cluster.disconnect()
    fixed = {
        "ray_init": connected - began,
        "import_ray_train": imported - connected,
        "workers_start": told["entered"] - imported,
        "ray_shutdown": time.time() - ended,
    }
    return {k: told[k] for k in ("speedup", "speedup_cpu", "machine_limit")} | {
        "pairs": pairs,
        "steps": steps,
    }, fixed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="CPU seconds of one side of a pair")
    options = parser.parse_args()
    torch.set_num_threads(1)
    roads = {}
    for name in ("image_gan", "tabular_gan", "text_gpt", "text_lstm"):
        roads[name] = against_bare(name, options.pairs, options.seconds)
        print(
            f"{name:12} road / bare: {roads[name]['ratio_cpu']:.3f} CPU, {roads[name]['ratio_wall']:.3f} wall"
        )
    pair, fixed = scaling(max(3, options.pairs // 2), steps=6)
    print(f"2 workers / 1 worker: {pair['speedup']:.2f} wall (target {SCALING_TARGET}),", end=" ")
    print(f"{pair['speedup_cpu']:.2f} CPU; apart {pair['machine_limit']:.2f}; {os.cpu_count()} cores")
    print("fixed seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in fixed.items()))
    worst = min(result["ratio_cpu"] for result in roads.values())
    print(f"worst road / bare: {worst:.3f} (target {ROAD_TARGET})")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"road": roads, "scaling": pair, "fixed_seconds": fixed}, indent=1) + "\n")
    return 0 if worst >= ROAD_TARGET and pair["speedup"] >= SCALING_TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
