"""The shift of the last biases, by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from genpipe.families.calibrate import calibrate, shift_to
from genpipe.networks.head import Head
from genpipe.spec import Span, TensorSpec


def test_one_round_of_even_logits_is_the_logarithm_of_the_ratio() -> None:
    """Shares ½ and ½ where ¾ and ¼ are wanted: ln 1.5 and ln ½; their softmax is ¾ and ¼ at once."""
    raw, wanted = torch.zeros(5, 2), torch.tensor([0.75, 0.25])
    shift = shift_to(wanted, raw, lambda x: x.softmax(1), rounds=1)
    torch.testing.assert_close(shift, torch.tensor([log(1.5), log(0.5)]), atol=1e-4, rtol=0)
    again = shift_to(wanted, raw, lambda x: x.softmax(1))
    torch.testing.assert_close((raw + again).softmax(1).mean(0), wanted, atol=1e-4, rtol=0)


def test_a_round_never_moves_by_more_than_two() -> None:
    shift = shift_to(torch.tensor([1.0, 0.0]), torch.zeros(3, 2), lambda x: x.softmax(1), rounds=1)
    assert shift.tolist() == pytest.approx([log(2), -2.0], abs=1e-4)


def test_values_are_not_shifted() -> None:
    spans = (
        Span(name="x", start=0, size=1, kind="continuous"),
        Span(name="y", start=1, size=2, kind="categorical"),
    )
    spec = TensorSpec(layout="vector", shape=(3,), dtype="float32", spans=spans)
    bias = torch.full((3,), 10.0)
    x = torch.tensor([[0.5, 1, 0], [0.5, 1, 0], [0.5, 1, 0], [0.5, 0, 1]])
    calibrate(Head(spec), bias, torch.zeros(4, 3), x)
    assert bias[0] == 10.0
    assert (bias[1:] - 10).softmax(0).tolist() == pytest.approx([0.75, 0.25], abs=1e-4)
