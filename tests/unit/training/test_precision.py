"""Which arithmetic `precision: auto` takes, and that what is asked for is what is done."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genpipe.training.optim import autocast

CONVOLUTION, LSTM, LINEAR = nn.Conv2d(1, 2, 3), nn.LSTM(2, 2), nn.Linear(4, 4)
ABLE = {"avx512_bf16": True, "amx_bf16": False}


def product(precision: str, *nets: nn.Module) -> torch.dtype:
    """Of two matrices, in the context that is chosen."""
    with autocast(precision, "cpu", nets):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(
    ("able", "nets", "expected"),
    [
        (ABLE, (CONVOLUTION,), torch.bfloat16),
        ({"amx_bf16": True}, (LINEAR, nn.Sequential(LSTM)), torch.bfloat16),
        (ABLE, (LINEAR,), torch.float32),
        ({"avx512_bf16": False}, (CONVOLUTION, LSTM), torch.float32),
        ({}, (CONVOLUTION,), torch.float32),
    ],
)
def test_auto_asks_the_processor_and_the_networks(
    able: dict[str, bool], nets: tuple[nn.Module, ...], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert product("auto", *nets) == expected


@pytest.mark.parametrize("able", [ABLE, {}])
def test_what_is_asked_for_is_done_everywhere(able: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert product("float32", CONVOLUTION) == torch.float32
    assert product("bfloat16", LINEAR) == torch.bfloat16
