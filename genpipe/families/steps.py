"""Steps of real values whose channels are predicted in turn (networks/in_turn.py): likelihood and draws.

B batch · T steps · C channels · P what is predicted of a step
"""

from __future__ import annotations

import torch
from torch import Tensor

from genpipe.draws import Draws
from genpipe.networks.in_turn import InTurn
from genpipe.objectives import likelihood


def nats(x: Tensor, outlet: InTurn, predicted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Nats per row, () of x (B, T, C), predicted (B, T, P) and mask (B, T)."""
    with torch.autocast(x.device.type, enabled=False):
        values = x.flatten(0, 1).t()
        each = likelihood.mixtures(values, *outlet.mixtures(x, predicted)).sum(0).view(x.shape[:2])
    return (each if mask is None else each * mask).sum(1).mean()


def draw(
    outlet: InTurn, predicted: Tensor, rng: Draws, temperature: float = 1.0, known: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(B, C) values of one step, predicted (B, P), and (B,) the log density of those that are known.

    known: (B, C), NaN where a value is to be drawn; what is drawn after a known one takes note of it.
    """
    turn, drawn, noise = outlet.begin(predicted), list[Tensor](), rng.normal(outlet.channels)
    weight = torch.zeros(len(predicted), device=predicted.device)
    for c in range(outlet.channels):
        logits, mean, log_scale = outlet.at(c, turn)
        pick = rng.categorical(logits).unsqueeze(1)
        scale = log_scale.gather(1, pick).clamp(likelihood.MIN_LOG_SCALE, 2.0).exp()
        x = (mean.gather(1, pick) + temperature * scale * noise[:, c : c + 1]).squeeze(1).clamp(-1, 1)
        if known is not None:
            there, given = known[:, c].isfinite(), known[:, c].nan_to_num()
            weight = weight - likelihood.mixtures(given, logits, mean, log_scale).where(there, 0.0)
            x = torch.where(there, given, x)
        outlet.tell(c, turn, x)
        drawn.append(x)
    return torch.stack(drawn, 1), weight
