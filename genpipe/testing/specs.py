"""Small tensors of every form, the batches drawn of them, and networks as small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from genpipe.batch import Batch
from genpipe.networks import NETWORKS
from genpipe.networks.convolutional import channels_and_size, halved
from genpipe.spec import Span, TensorSpec

ROWS, LATENT, HALVINGS = 8, 6, 2
SPANS = (
    Span(name="a", start=0, size=1, kind="continuous"),
    Span(name="b", start=1, size=3, kind="categorical"),
    Span(name="c", start=4, size=2, kind="categorical"),
    Span(name="d", start=6, size=1, kind="continuous"),
)
SPECS: dict[str, TensorSpec] = {
    "vector": TensorSpec(layout="vector", shape=(7,), dtype="float32", spans=SPANS, conditions=(2, 3)),
    "grid": TensorSpec(layout="grid", shape=(1, 8, 8), dtype="uint8", conditions=(3,)),
    "grid odd": TensorSpec(layout="grid", shape=(3, 13, 28), dtype="uint8"),
    "sequence": TensorSpec(layout="sequence", shape=(12, 2), dtype="float32", conditions=(2,)),
    "sequence long": TensorSpec(layout="sequence", shape=(37, 1), dtype="float32"),
    "sequence seasons": TensorSpec(
        layout="sequence", shape=(140, 2), dtype="float32", conditions=(2, 6), periods=(6, 3)
    ),
    "tokens": TensorSpec(layout="tokens", shape=(10,), dtype="int32", vocabulary=(11,)),
    "columns": TensorSpec(
        layout="tokens", shape=(4,), dtype="int32", vocabulary=(5, 2, 9, 3), conditions=(2,)
    ),
}
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16},
    "conv2d": {"width": 8},
    "conv1d": {"width": 8},
    "unet": {"width": 8, "blocks": 1, "middle": 1},
    "recurrent": {"width": 16, "depth": 2},
    "transformer": {"width": 16, "depth": 2, "heads": 2},
    "autoregressive": {"embed": 4, "width": 8},
}


def small(network: str) -> Any:
    """The network's config at small sizes; at its defaults where none are known."""
    return NETWORKS[network].Config(**SMALL.get(network, {}))


def map_shape(spec: TensorSpec) -> tuple[int, ...]:
    """(LATENT, *size) of a map after HALVINGS."""
    return (LATENT, *halved(channels_and_size(spec)[1], HALVINGS))


def batch_of(spec: TensorSpec, rows: int = ROWS, *, seed: int = 0) -> Batch:
    """Random rows of a spec."""
    g = torch.Generator().manual_seed(seed)
    condition = torch.stack(
        [torch.randint(k, (rows,), generator=g) for k in spec.conditions] or [torch.zeros(rows)], 1
    )
    condition, mask = condition.long()[:, : len(spec.conditions)], None
    if spec.layout == "tokens":
        sizes = torch.tensor(spec.vocabulary).expand(spec.shape[0])
        x = (torch.rand(rows, *spec.shape, generator=g) * sizes).long()
        if len(spec.vocabulary) == 1:
            mask = torch.arange(spec.shape[0]) < torch.randint(1, spec.shape[0] + 1, (rows, 1), generator=g)
    else:
        x = torch.rand(rows, *spec.shape, generator=g) * 1.8 - 0.9
        for span in spec.spans:
            if span.kind == "categorical":
                drawn = torch.randint(span.size, (rows,), generator=g)
                x[:, span.start : span.start + span.size] = nn.functional.one_hot(drawn, span.size).float()
    return Batch(x, condition, mask)


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads split sums, and floats do not add up to the same in every order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
