from __future__ import annotations

import pytest
import torch
from torch import nn

from genpipe.recipe import Training
from genpipe.training.optim import AdamW, Average, clip_gradients, gradient_norm, last_step, rate_at


def test_it_is_torchs_adamw() -> None:
    torch.manual_seed(0)
    mine, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(mine.state_dict())
    ours = AdamW(mine, betas=(0.5, 0.9), weight_decay=0.1)
    groups = [{"params": [theirs.weight]}, {"params": [theirs.bias], "weight_decay": 0.0}]
    other = torch.optim.AdamW(groups, lr=1e-2, betas=(0.5, 0.9), weight_decay=0.1)
    for step in range(20):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        for net in (mine, theirs):
            net.zero_grad()
            net(x).square().sum().backward()
        ours.step(1e-2)
        other.step()
    torch.testing.assert_close(mine.weight, theirs.weight)
    torch.testing.assert_close(mine.bias, theirs.bias)


def test_l2_is_that_of_adam() -> None:
    torch.manual_seed(0)
    mine, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(mine.state_dict())
    ours = AdamW(mine, betas=(0.5, 0.9), weight_decay=0.0, l2=0.1)
    groups = [{"params": [theirs.weight]}, {"params": [theirs.bias], "weight_decay": 0.0}]
    other = torch.optim.Adam(groups, lr=1e-2, betas=(0.5, 0.9), weight_decay=0.1)
    for step in range(20):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        for net in (mine, theirs):
            net.zero_grad()
            net(x).square().sum().backward()
        ours.step(1e-2)
        other.step()
    torch.testing.assert_close(mine.weight, theirs.weight)
    torch.testing.assert_close(mine.bias, theirs.bias)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    net = nn.Linear(2, 2)
    before = net.bias.clone()
    optimizer = AdamW(net, betas=(0.9, 0.99), weight_decay=0.5)
    net.weight.grad = torch.ones(2, 2)
    optimizer.step(0.1)
    assert torch.equal(net.bias, before)


@pytest.mark.parametrize(
    ("step", "schedule", "expected"),
    [
        (0, "constant", 0.1),
        (9, "constant", 1.0),
        (50, "constant", 1.0),
        (10, "cosine", 1.0),
        (60, "cosine", 0.5),
        (110, "cosine", 0.0),
        (10, "settle", 1.0),
        (55, "settle", 1.0),
        (88, "settle", 0.4),
        (110, "settle", 0.0),
    ],
)
def test_the_learning_rate_over_time(step: int, schedule: str, expected: float) -> None:
    training = Training(steps=110, warmup=10, learning_rate=1.0, schedule=schedule)  # type: ignore[arg-type]
    assert rate_at(step, training) == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(19, 1.0), (20, 1.0), (30, 0.5), (40, 0.0), (41, 0.0)])
def test_a_rate_that_turned_falls_for_as_long(step: int, expected: float) -> None:
    training = Training(steps=100, learning_rate=1.0, schedule="settle")
    assert rate_at(step, training, turn=20) == pytest.approx(expected)
    assert (last_step(training, 20), last_step(training, 70), last_step(training, None)) == (40, 100, 100)


@pytest.mark.parametrize(("step", "expected"), [(40, 0.1), (49, 1.0), (50, 1.0), (70, 0.5), (90, 0.0)])
def test_a_phase_has_a_warm_up_and_a_cosine_of_its_own(step: int, expected: float) -> None:
    """From step 40 to 90 of 100."""
    training = Training(steps=100, warmup=10, learning_rate=1.0, schedule="cosine")
    assert rate_at(step, training, 0.4, 0.9) == pytest.approx(expected)


def test_the_average_follows_with_a_warm_up() -> None:
    net, copy = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(1.0)
        copy.weight.fill_(0.0)
    average = Average({"g": net}, {"g": copy}, 0.5)
    average.update(["other"])
    assert copy.weight.item() == 0.0
    average.update(["g"])  # decay (1 + 0) / (10 + 0) = 0.1
    assert copy.weight.item() == pytest.approx(0.9)
    for _ in range(30):
        average.update(["g"])
    before = copy.weight.item()
    with torch.no_grad():
        net.weight.fill_(0.0)
    average.update(["g"])
    assert copy.weight.item() == pytest.approx(0.5 * before)


@pytest.mark.parametrize("buffer", [torch.tensor(1.0), torch.tensor(7)], ids=["float", "count"])
def test_the_average_has_the_buffers_of_the_live_network(buffer: torch.Tensor) -> None:
    net, copy = nn.Linear(1, 1), nn.Linear(1, 1)
    for each in (net, copy):
        each.register_buffer("seen", torch.zeros_like(buffer))
        each.register_buffer("scratch", torch.zeros(1), persistent=False)
    average = Average({"g": net}, {"g": copy}, 0.5)
    net.seen.copy_(buffer)
    net.scratch.add_(1)
    average.update(["g"])
    assert torch.equal(copy.seen, buffer) and copy.scratch.item() == 0  # type: ignore[arg-type]


def test_clipping_scales_to_the_limit() -> None:
    net = nn.Linear(2, 1, bias=False)
    net.weight.grad = torch.tensor([[3.0, 4.0]])
    parameters = list(net.parameters())
    norm = gradient_norm(parameters)
    assert norm.item() == pytest.approx(5.0)
    clip_gradients(parameters, norm, 1.0)
    torch.testing.assert_close(net.weight.grad, torch.tensor([[0.6, 0.8]]), rtol=1e-4, atol=1e-4)
