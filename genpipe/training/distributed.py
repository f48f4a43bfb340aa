"""Data parallelism as plain sums: every rank holds all networks and a slice of each global batch.

Gradients are averaged by one flat all-reduce after `backward`, weighted by the rows a rank held, so a loss
may call a network as often as it likes and differentiate twice (which DDP's hooks forbid for gradient
penalties), and slices may be uneven. Replicas stay bit-equal; with one rank everything here does nothing.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from genpipe.errors import UsageError
from genpipe.training.torch_internals import copy_

NONCE_BYTES = 16


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world` equal ones; `device` carries the collectives."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @classmethod
    def current(cls, device: str = "cpu") -> Ranks:
        """The ranks of the process group somebody has started, or a single one."""
        if not dist.is_available() or not dist.is_initialized():
            return cls(device=device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @property
    def lead(self) -> bool:
        return self.rank == 0

    def rows(self, total: int) -> tuple[int, int]:
        """This rank's contiguous slice of a global batch; slices differ by one row at most."""
        if total < self.world:
            raise UsageError(
                "BATCH",
                where="training.batch_size",
                found=f"{total} rows for {self.world} workers",
                expected=f"at least {self.world}, one row a worker",
                fix="raise batch_size or lower workers",
            )
        return self.rank * total // self.world, (self.rank + 1) * total // self.world

    def average_gradients(self, parameters: Sequence[Tensor], share: float) -> None:
        """Replace each gradient by the mean over the global batch; `share` of its rows were this rank's."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients]).mul_(share)
        dist.all_reduce(flat)
        pieces = flat.split([g.numel() for g in gradients])
        copy_(gradients, [p.view_as(g) for p, g in zip(pieces, gradients, strict=True)])

    def average(self, values: Sequence[float], share: float) -> list[float]:
        """The mean of each number over the global batch."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device) * share
        dist.all_reduce(total)
        return total.tolist()

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors in place with the lead's."""
        if self.world > 1:
            for tensor in tensors:
                moved = tensor.detach().to(self.device)
                dist.broadcast(moved, 0)
                tensor.detach().copy_(moved)

    def check_peers(self, secret: str) -> None:
        """Make sure that every other rank knows `secret`; RuntimeError if one does not.

        gloo's connections carry no password: whoever connects first is taken for the rank that was awaited,
        and would be sent gradients. Each rank answers the others' fresh nonces, before anything else is sent.
        """
        if self.world == 1:
            return
        nonces = b"".join(self._gather(secrets.token_bytes(NONCE_BYTES)))

        def answer(rank: int) -> bytes:
            return hmac.digest(secret.encode(), rank.to_bytes(4) + nonces, "sha256")

        for rank, got in enumerate(self._gather(answer(self.rank))):
            if not hmac.compare_digest(got, answer(rank)):
                raise RuntimeError(f"rank {rank} of {self.world} does not know this run's secret")

    def _gather(self, data: bytes) -> list[bytes]:
        """Every rank's bytes; all must be of one length."""
        mine = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(self.device)
        everyone = [torch.zeros_like(mine) for _ in range(self.world)]
        dist.all_gather(everyone, mine)
        return [bytes(t.cpu().numpy()) for t in everyone]

    def tell(self, value: Any) -> Any:
        """The lead's JSON value, on every rank (JSON, so that nothing is ever unpickled)."""
        if self.world == 1:
            return value
        data = json.dumps(value).encode() if self.lead else b""
        size = torch.tensor([len(data)], device=self.device)
        dist.broadcast(size, 0)
        text = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        if self.lead:
            text.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(text, 0)
        return json.loads(bytes(text.cpu().numpy()))


def join_through_file(rank: int, world: int, *, backend: str, path: str, timeout_s: float) -> None:
    """Start the process group of ranks that share a machine; they find each other in the file `path`.

    The usual rendezvous is a server on every interface in which whoever connects may read and write.
    """
    timeout = timedelta(seconds=timeout_s)
    dist.init_process_group(
        backend, init_method=f"file://{path}", rank=rank, world_size=world, timeout=timeout
    )


ALONE = Ranks()
