"""The one door between records and tensors.

    B batch · D columns · C channels · H, W height and width · T steps · K condition fields

Pixels and tokens stay uint8/int32 in memory and are scaled here, on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genpipe.spec import TensorSpec


@dataclass(frozen=True)
class Batch:
    """x: (B, *spec.shape), float in [-1, 1] for vector/grid/sequence, int64 for tokens.

    condition: (B, K) int64. mask: (B, T) bool, True where x is real and not padding; None = all real.
    """

    x: Tensor
    condition: Tensor
    mask: Tensor | None = None

    @property
    def size(self) -> int:
        return self.x.shape[0]


def to_batch(arrays: dict[str, np.ndarray], spec: TensorSpec, device: torch.device | str = "cpu") -> Batch:
    """Arrays of a codec -> scaled tensors on the device."""
    x = torch.from_numpy(np.ascontiguousarray(arrays["x"])).to(device, non_blocking=True)
    if spec.layout == "tokens":
        x = x.long()
    elif spec.dtype == "uint8":
        x = x.float().div_(127.5).sub_(1.0)
    else:
        x = x.float()
    condition = arrays.get("condition")
    if condition is None:
        condition = np.zeros((len(x), 0), dtype=np.int32)
    mask = arrays.get("mask")
    return Batch(
        x=x,
        condition=torch.from_numpy(np.ascontiguousarray(condition)).to(device).long(),
        mask=None if mask is None else torch.from_numpy(np.ascontiguousarray(mask)).to(device).bool(),
    )


def to_arrays(x: Tensor, condition: Tensor, spec: TensorSpec) -> dict[str, np.ndarray]:
    """Tensors a family sampled (same scale as Batch.x) -> arrays a codec decodes."""
    x = x.detach()
    if spec.layout == "tokens":
        out = x.to(torch.int32)
    elif spec.dtype == "uint8":
        out = x.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    else:
        out = x.float()
    return {"x": out.cpu().numpy(), "condition": condition.detach().to(torch.int32).cpu().numpy()}


def one_hot(condition: Tensor, sizes: Sequence[int]) -> Tensor:
    """(B, K) classes -> (B, sum(sizes)) floats, the form in which networks take a condition."""
    if not sizes:
        return condition.new_zeros((len(condition), 0), dtype=torch.float32)
    parts = [torch.nn.functional.one_hot(condition[:, k], size) for k, size in enumerate(sizes)]
    return torch.cat(parts, 1).float()
