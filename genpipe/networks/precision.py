"""Where bfloat16 pays, in training and in sampling that calls a network many times."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

GAINS = 20_000_000  # on an H100 25 million were 1.2 times as fast in bfloat16, 12 million .7 times


def gains(device: str, nets: Sequence[nn.Module]) -> bool:
    """A GPU: with so many parameters to multiply, as casts of small networks are launches, and launches are
    all they wait for. A CPU that multiplies bfloat16 itself: convolutions (on one core 1.5 to 1.7 times as
    fast) and the LSTM (1.5); other networks gain less than they might lose.
    """
    if device == "cuda":
        parameters = sum(p.numel() for net in nets for p in net.parameters())
        return parameters >= GAINS and torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    if device != "cpu" or not (able.get("avx512_bf16") or able.get("amx_bf16")):
        return False
    return any(isinstance(layer, (nn.Conv2d, nn.LSTM)) for net in nets for layer in net.modules())
