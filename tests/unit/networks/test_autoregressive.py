"""Table columns one after the other: where the network begins, and what calibration mends."""

from __future__ import annotations

import torch

from genpipe.batch import Batch, Draws, one_hot
from genpipe.families.sequence import SequenceConfig, SequenceModel
from genpipe.networks.autoregressive import AutoregressiveConfig, Columns
from genpipe.spec import TensorSpec

SHARES = ((0.7, 0.2, 0.1), tuple([0.05] * 20), (0.5, 0.5))
SPEC = TensorSpec(
    layout="tokens",
    shape=(3,),
    dtype="int32",
    vocabulary=(3, 20, 2),
    frequencies=SHARES,
    ordered=(False, True, False),
    conditions=(2,),
)
ROWS = 4000


def model(seed: int = 0) -> tuple[SequenceModel, Columns]:
    torch.manual_seed(seed)
    family = SequenceModel(SequenceConfig(model=AutoregressiveConfig(embed=8, width=8)), SPEC)
    net = family.build()["model"]
    assert isinstance(net, Columns)
    return family, net


def condition() -> torch.Tensor:
    return torch.arange(ROWS).unsqueeze(1) % 2


def calibrate(family: SequenceModel, net: Columns) -> None:
    rows = Batch(torch.zeros(ROWS, 3, dtype=torch.long), condition())
    family.finish({"model": net}, rows, Draws(0, "finish", total=ROWS))


def shares_of(x: torch.Tensor, position: int) -> torch.Tensor:
    return torch.bincount(x[:, position], minlength=SPEC.vocabulary[position]) / len(x)


def test_heads_begin_at_the_marginals() -> None:
    _, net = model()
    x = torch.stack([torch.randint(0, v, (64,)) for v in SPEC.vocabulary], 1)
    with torch.no_grad():
        predicted = net(x, one_hot(condition()[:64], SPEC.conditions)).softmax(-1).mean(0)
    for t, shares in enumerate(SHARES):
        torch.testing.assert_close(predicted[t, : len(shares)], torch.tensor(shares), atol=0.02, rtol=0)


def test_near_values_begin_with_near_embeddings_and_only_ordered_ones() -> None:
    _, net = model()
    table = net.inlet.embed.weight.detach()
    ordered, free = table[3:23], table[23:25]
    steps = (ordered[1:] - ordered[:-1]).norm(dim=1)
    assert float(steps.max()) < float((ordered[0] - ordered[-1]).norm())
    assert float(free.abs().max()) < 1  # drawn at random, small


def test_embeddings_are_no_wider_than_the_values() -> None:
    _, net = model()
    assert net.before.shape == (3 * 8, 3 + 8 + 2)


def test_calibration_brings_the_shares_back() -> None:
    family, net = model()
    with torch.no_grad():
        net.outlet.bias[0, 0] -= 1.0
        net.outlet.bias[1, :10] += 1.0
        net.outlet.bias[2, 1] += 2.0
    rng = Draws(0, "before", total=ROWS)
    off = family.sample({"model": net}, condition(), rng)
    calibrate(family, net)
    mended = family.sample({"model": net}, condition(), Draws(0, "after", total=ROWS))
    for t, shares in enumerate(SHARES):
        wanted = torch.tensor(shares)
        assert float((shares_of(off, t) - wanted).abs().sum()) > 0.2
        assert float((shares_of(mended, t) - wanted).abs().sum()) < 0.02


def test_calibration_is_the_same_each_time() -> None:
    biases = []
    for _ in range(2):
        family, net = model()
        calibrate(family, net)
        biases.append(net.outlet.bias.detach().clone())
    assert torch.equal(*biases)
