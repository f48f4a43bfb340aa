"""After the last step: what a family still adjusts in the weights to be published, on the lead alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from genpipe.batch import Draws
from genpipe.families.base import Family

ROWS = 8192  # of conditions: enough for a marginal, little beside an epoch


def finished_weights(
    family: Family, weights: Mapping[str, Tensor], conditions: np.ndarray, *, seed: int, device: str
) -> dict[str, Tensor]:
    """weights, keyed ``role.parameter``, after `family.finish`. conditions: (B, K) as in training."""
    with torch.random.fork_rng(devices=[]):  # `build` draws from the global generator: leave that as it was
        nets = {role: net.eval() for role, net in family.build().items()}
    roles = sorted({name.split(".", 1)[0] for name in weights})
    for role in roles:
        mine = {n.removeprefix(f"{role}."): t for n, t in weights.items() if n.startswith(f"{role}.")}
        nets[role].load_state_dict(mine)
        nets[role].to(device)
    condition = torch.from_numpy(conditions).to(device).long()
    rng = Draws(seed, "finish", total=len(conditions), device=device)
    family.finish({role: nets[role] for role in roles}, condition, rng)
    return {f"{r}.{n}": t.detach().cpu() for r in roles for n, t in nets[r].state_dict().items()}
