"""Where arithmetic happens: CPU or GPU, and on how many threads."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from genpipe.errors import InfrastructureError, UsageError

if TYPE_CHECKING:  # it loads torch, which a driver that only asks the cluster does not need
    from genpipe.families.base import Family

SMALL = 5_000_000  # parameters


def resolve_device(wanted: str) -> str:
    """cpu or cuda; `auto` takes a GPU where torch sees one."""
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise UsageError(
            "DEVICE",
            where="GENPIPE_DEVICE",
            found="cuda, but torch sees no GPU",
            expected="a CUDA build of torch and a visible GPU",
            fix="set GENPIPE_DEVICE=cpu",
        )
    return "cpu"


def check_gpu(device: str) -> None:
    """Raise in a worker whose device is cuda where torch sees no GPU: Ray believes what a node declares."""
    import torch

    if device != "cuda" or torch.cuda.is_available():
        return
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "none by number")
    raise InfrastructureError(
        "GPU",
        where=f"worker on {socket.gethostname()}",
        found=f"a GPU was promised (CUDA_VISIBLE_DEVICES: {given}), and torch {torch.__version__} sees none",
        expected="a CUDA build of torch and its GPU on every node that declares one",
        fix="start that node from the CUDA image (infra/README.md, GPU), or set GENPIPE_DEVICE=cpu",
    )


def parameters(family: Family) -> int:
    """Of all its networks."""
    import torch

    # real networks, thrown away: torch's meta device costs seconds of imports on its first use
    with torch.random.fork_rng(devices=[]):
        return sum(p.numel() for net in family.build().values() for p in net.parameters())


def useful_threads(family: Family, cpus: int) -> int:
    """Threads for arithmetic: one for small networks, which threads slow down, badly so on a busy machine."""
    return 1 if parameters(family) < SMALL else cpus


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """A GPU's sums in one order, so that a seed gives the same weights there, too, and a run that resumes
    those of one that never stopped. Where torch has no such kernel it goes on without a word.
    """
    import torch

    if torch.device(device).type != "cuda":
        yield
        return
    cudnn, before = torch.backends.cudnn, torch.get_deterministic_debug_mode()
    kept = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = kept
        torch.set_deterministic_debug_mode(before)
