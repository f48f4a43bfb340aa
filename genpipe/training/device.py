"""Where arithmetic happens: CPU or GPU, and on how many threads."""

from __future__ import annotations

from genpipe.errors import UsageError
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


def useful_threads(family: Family, cpus: int) -> int:
    """Threads for arithmetic: one for small networks, which threads slow down, badly so on a busy machine."""
    import torch

    # real networks, thrown away: torch's meta device costs seconds of imports on its first use
    with torch.random.fork_rng(devices=[]):
        size = sum(p.numel() for net in family.build().values() for p in net.parameters())
    return 1 if size < SMALL else cpus
