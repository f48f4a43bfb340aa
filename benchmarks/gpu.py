"""What does a GPU bring, and bfloat16 on it? Needs a CUDA device; without one it says so and ends.

    python -m benchmarks.gpu [--seconds 3]

Samples/s of `fit` on the same networks, data and batch: on the CPU, on the GPU in float32, on the GPU as
`precision: auto` has it, and a bare loop on the GPU in bfloat16 for what the road costs there. Wall time,
after a warm-up, with the device waited for. The starting recipes are small; `wide` ones are what a GPU is
for. Writes benchmarks/results/gpu.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.training import bare_loop, workload
from genpipe.recipe import Recipe
from genpipe.training.data import Resident
from genpipe.training.loop import fit

RESULT = Path(__file__).parent / "results" / "gpu.json"
WIDE: dict[str, dict[str, Any]] = {
    "image_gan": {"generator": {"width": 256}, "critic": {"width": 256}},
    "text_gpt": {"model": {"width": 512, "depth": 8, "heads": 8}},
    "tabular_gan": {"generator": {"width": 1024}, "critic": {"width": 1024}},
}


def widened(recipe: Recipe, parts: dict[str, dict[str, Any]]) -> Recipe:
    changes = {k: getattr(recipe.family, k).model_copy(update=v) for k, v in parts.items()}
    return recipe.model_copy(update={"family": recipe.family.model_copy(update=changes)})


def bare(recipe: Recipe, spec: Any, data: dict[str, Any], steps: int) -> None:
    bare_loop(recipe, spec, data, steps, "cuda", torch.autocast("cuda", torch.bfloat16))
    torch.cuda.synchronize()


def road(recipe: Recipe, spec: Any, data: dict[str, Any], steps: int, device: str, precision: str) -> None:
    changes = {"steps": steps, "evaluate_every": steps, "precision": precision}
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})
    fit(recipe, spec, Resident(data, seed=0), seed=0, device=device, report=lambda status: None)
    if device == "cuda":
        torch.cuda.synchronize()


def rate(run: Callable[[int], None], size: int, seconds: float) -> float:
    """Samples/s over about so many seconds, warm-up apart."""
    run(3)
    steps = 5
    while True:
        began = time.perf_counter()
        run(steps)
        took = time.perf_counter() - began
        if took > seconds / 3 or steps > 5000:
            return steps * size / took
        steps *= 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: torch sees no CUDA device")
        return
    found: dict[str, dict[str, float]] = {}
    print(f"{'samples/s':20}{'CPU':>12}{'GPU float32':>14}{'GPU auto':>12}{'bare bf16':>12}")
    for wide in (False, True):
        for name, parts in WIDE.items():
            recipe, spec, data = workload(name)
            recipe = widened(recipe, parts) if wide else recipe
            size = recipe.training.batch_size
            sides = {
                "cpu": lambda n: road(recipe, spec, data, n, "cpu", "float32"),  # noqa: B023  used at once
                "float32": lambda n: road(recipe, spec, data, n, "cuda", "float32"),  # noqa: B023
                "auto": lambda n: road(recipe, spec, data, n, "cuda", "auto"),  # noqa: B023
                "bare": lambda n: bare(recipe, spec, data, n),  # noqa: B023
            }
            label = f"{name}{' wide' if wide else ''}"
            found[label] = {side: rate(run, size, options.seconds) for side, run in sides.items()}
            print(f"{label:20}" + "".join(f"{value:13,.0f}" for value in found[label].values()), flush=True)
    RESULT.write_text(
        json.dumps({"device": torch.cuda.get_device_name(), "samples_per_second": found}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
