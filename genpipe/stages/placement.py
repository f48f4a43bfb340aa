"""Where work on Ray is done: what a worker needs, whether the cluster has room for it, on which device.

The driver need not have the GPU that the work is for: a Prefect worker has none. So the wish (auto, cpu or
cuda) travels with the job, nodes say what they have, and a worker says whether torch sees it there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from genpipe.errors import UsageError
from genpipe.settings import Settings
from genpipe.training.device import SMALL, resolve_device

Nodes = Iterable[Mapping[str, float]]  # the resources of each node
WORKER_BYTES = 600 * 2**20  # a process with Ray and torch, before it has any data
FLOAT_BYTES = 4
STATE_COPIES = 5  # of a network in training: weights, gradients, two moments, averages
SEVERAL_CPUS = 4  # of a worker that trains a network for which threads pay
ASK_SECONDS = 60
INSTEAD = {
    "CPU": "raise GENPIPE_CPUS",
    "GPU": "set GENPIPE_DEVICE=cpu",
    "memory": "free memory on the nodes",
}
log = logging.getLogger("genpipe.placement")


@dataclass(frozen=True)
class Need:
    """Of one worker; memory in bytes."""

    cpus: float = 1
    gpus: float = 0
    memory: int = WORKER_BYTES

    @property
    def resources(self) -> dict[str, float]:
        """By Ray's names, those of which something is needed."""
        wanted = {"CPU": float(self.cpus), "GPU": float(self.gpus), "memory": float(self.memory)}
        return {name: amount for name, amount in wanted.items() if amount}

    @property
    def options(self) -> dict[str, Any]:
        """For `ray.remote`."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self.memory}


def need_to_train(job_bytes: int, weights: int, device: str, *, workers: int, nodes: Nodes) -> Need:
    """Of a worker that trains: memory for its data and networks, a whole GPU, and several CPUs where threads
    pay and every worker can have them.

    job_bytes: of the data it holds; weights: the number of the networks' parameters.
    """
    memory = WORKER_BYTES + 2 * job_bytes + FLOAT_BYTES * STATE_COPIES * weights
    if device == "cuda":
        return Need(gpus=1, memory=memory)
    several = Need(cpus=SEVERAL_CPUS, memory=memory)
    return several if weights >= SMALL and room(several, nodes) >= workers else Need(memory=memory)


def need_to_sample(weights: int, device: str) -> Need:
    """Of a worker that draws rows with networks of so many parameters."""
    gpus = 1 if device == "cuda" else 0
    return Need(gpus=gpus, memory=WORKER_BYTES + 2 * FLOAT_BYTES * weights)


def of_this_machine(settings: Settings) -> dict[str, float]:
    """What an embedded Ray would have, without one: CPUs by GENPIPE_CPUS, and the GPUs that torch sees."""
    gpus = 0
    if settings.device != "cpu":
        import torch

        gpus = torch.cuda.device_count()
    return {"CPU": settings.cpus, "GPU": gpus}


def nodes() -> list[dict[str, float]]:
    """The resources of each node that is alive; Ray must be connected."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def room(need: Need, nodes: Nodes) -> int:
    """How many workers fit at once on the nodes, were they empty."""
    wanted = need.resources
    return sum(min(int(node.get(name, 0) // amount) for name, amount in wanted.items()) for node in nodes)


def check_workers(workers: int, need: Need, nodes: Nodes) -> None:
    """Refuse workers that Ray could never start: it would wait for ever."""
    nodes = list(nodes)
    if workers <= (fits := room(need, nodes)):
        return
    scarce = min(need.resources, key=lambda name: sum(n.get(name, 0) // need.resources[name] for n in nodes))
    each, there = need.resources[scarce], sum(n.get(scarce, 0) for n in nodes)
    if scarce == "memory":
        code, told, has = "MEMORY", f"{each / 2**20:,.0f} MB each", f"{there / 2**20:,.0f} MB of memory"
    else:
        code, told, has = f"{scarce}S", f"{_number(each)} {scarce} each", f"{there:g} {scarce}s"
    raise UsageError(
        code,
        where="workers",
        found=f"{workers} workers, {told}, on a cluster of {has}",
        expected=f"at most {fits}",
        fix=f"lower workers, {INSTEAD[scarce]}, or join a larger cluster (RAY_ADDRESS)",
    )


def _number(amount: float) -> str:
    return "one" if amount == 1 else f"{amount:g}"


def chosen_device(settings: Settings, nodes: Nodes) -> str:
    """cpu or cuda for the workers of the Ray that is connected, by the wish of GENPIPE_DEVICE.

    `auto` takes the GPUs that nodes declare where a worker finds that torch sees one there.
    """
    if settings.ray_address == "local":
        return resolve_device(settings.device)  # the workers are on this machine
    if settings.device == "cpu" or (settings.device == "auto" and not room(Need(gpus=1, memory=0), nodes)):
        return "cpu"
    return "cuda" if settings.device == "cuda" else _seen_by_a_worker()


def _seen_by_a_worker() -> str:
    import ray

    asked = ray.remote(num_cpus=0, num_gpus=1)(resolve_device).remote("auto")
    try:
        found: str = ray.get(asked, timeout=ASK_SECONDS)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(asked)
        return "cuda"  # all of them are in use, so they are there
    if found == "cpu":
        log.warning("nodes declare GPUs, and torch sees none on them: working on CPUs")
    return found
