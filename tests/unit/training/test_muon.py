"""Muon for the matrices inside networks, AdamW for the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genpipe.training.muon import FASTER, MOMENTUM, Muon, orthogonal
from genpipe.training.optim import AdamW


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.up, self.down = nn.Embedding(5, 8), nn.Linear(8, 24), nn.Linear(24, 8, bias=False)
        self.outlet = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.outlet(self.down(torch.tanh(self.up(self.embed(x)))))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 24, 8), (2, 8, 24)])
def test_directions_are_kept_and_sizes_are_not(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.tensor(1e-4)
    made = orthogonal(matrices)
    for before, after in zip(matrices, made, strict=True):
        u, _, v = torch.linalg.svd(before, full_matrices=False)
        torch.testing.assert_close(u.T @ after @ v.T, torch.eye(min(shape[1:])), atol=0.4, rtol=0)
        assert torch.linalg.svdvals(after).max() < 1.3
    torch.testing.assert_close(orthogonal(matrices * 1e3), made, atol=1e-4, rtol=1e-3)
    assert torch.equal(orthogonal(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_it_is_torchs_muon_and_torchs_adamw() -> None:
    mine, theirs = Net(), Net()
    ours = Muon(mine, betas=(0.5, 0.9), weight_decay=0.1)
    rate = 1e-2
    matrices = torch.optim.Muon(
        [theirs.up.weight, theirs.down.weight], lr=FASTER * rate, momentum=MOMENTUM, weight_decay=0.1
    )
    rest = torch.optim.AdamW(
        [
            {"params": [theirs.embed.weight, theirs.outlet.weight], "weight_decay": 0.1},
            {"params": [theirs.up.bias, theirs.outlet.bias], "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.5, 0.9),
    )
    for step in range(10):
        x = torch.randint(5, (6, 3), generator=torch.Generator().manual_seed(step))
        for net in (mine, theirs):
            net.zero_grad()
            net(x).square().sum().backward()
        ours.step(rate)
        matrices.step()
        rest.step()
    torch.testing.assert_close(mine.embed.weight, theirs.embed.weight, atol=2e-2, rtol=0.1)
    for a, b in ((mine.up.weight, theirs.up.weight), (mine.down.weight, theirs.down.weight)):
        begun = Net().get_parameter("up.weight" if a.shape[0] == 24 else "down.weight")
        moved, other = a - begun, b - begun  # torch iterates in bfloat16
        assert torch.cosine_similarity(moved.flatten(), other.flatten(), dim=0) > 0.99
        assert 0.97 < moved.norm() / other.norm() < 1.03


def test_the_borders_of_a_network_are_adamws() -> None:
    optimizer = Muon(Net(), betas=(0.9, 0.99), weight_decay=0.0)
    hidden = {name for name, h in zip(optimizer.names, optimizer.hidden, strict=True) if h}
    assert hidden == {"up.weight", "down.weight"}
    assert optimizer.tensors().keys() == AdamW(Net(), betas=(0.9, 0.99), weight_decay=0.0).tensors().keys()


def test_it_goes_on_from_its_state() -> None:
    nets = [Net(), Net()]
    optimizers = [Muon(net, betas=(0.9, 0.99), weight_decay=0.0) for net in nets]
    x = torch.arange(5)
    for step in range(6):
        if step == 3:  # the second begins here, with the state of the first
            nets[1].load_state_dict(nets[0].state_dict())
            for name, tensor in optimizers[0].tensors().items():
                optimizers[1].tensors()[name].copy_(tensor)
        for net, optimizer in zip(nets[: 1 + (step >= 3)], optimizers, strict=False):
            net.zero_grad()
            net(x).square().sum().backward()
            optimizer.step(1e-2)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a, b)
