"""After the last step: what a family still fits or adjusts before it is published, and the score of that.

On the lead alone, without a word to the other ranks: fitting trees may outlast their patience.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from genpipe.batch import to_batch
from genpipe.draws import Draws
from genpipe.families.base import Family
from genpipe.spec import TensorSpec
from genpipe.training.data import BatchSource
from genpipe.training.loop import Evaluate, FitResult


@torch.no_grad()
def finished_fit(
    result: FitResult,
    family: Family,
    source: BatchSource,
    spec: TensorSpec,
    evaluate: Evaluate | None,
    *,
    seed: int,
    device: str,
) -> FitResult:
    """A fit with the weights as `family.finish` leaves them, and the metrics of these, if they are scored."""
    began, rows = time.monotonic(), family.finish_rows(source.rows)
    if not rows:
        return result
    with torch.random.fork_rng(devices=[]):  # `build` draws from the global generator: leave that as it was
        built = family.build()
    roles = sorted({name.split(".", 1)[0] for name in result.weights})
    nets = {role: built[role].eval() for role in roles}
    for role, net in nets.items():
        mine = {n.removeprefix(f"{role}."): t for n, t in result.weights.items() if n.startswith(f"{role}.")}
        net.load_state_dict(mine)
        net.to(device)
    batch = to_batch(source.sample(rows), spec, device)
    family.finish(nets, batch, Draws(seed, "finish", total=batch.size, device=device))
    return replace(
        result,
        weights={f"{r}.{n}": t.detach().cpu() for r in roles for n, t in nets[r].state_dict().items()},
        metrics={**result.metrics, **(evaluate(nets, result.step) if evaluate else {})},
        seconds=result.seconds + time.monotonic() - began,
    )
