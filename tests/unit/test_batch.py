"""Random draws of a batch: the right distribution, and the same rows on one worker or many."""

from __future__ import annotations

import torch

from genpipe.draws import Draws


def test_categorical_draws_follow_the_softmax() -> None:
    logits = torch.tensor([0.1, 0.2, 0.7]).log().expand(20_000, 3)
    drawn = Draws(0, total=20_000).categorical(logits)
    shares = torch.bincount(drawn, minlength=3) / 20_000
    assert torch.allclose(shares, torch.tensor([0.1, 0.2, 0.7]), atol=0.015)


def test_a_rank_keeps_its_rows_of_the_whole() -> None:
    whole = Draws(7, "step", 3, total=10).normal(4)
    second = Draws(7, "step", 3, total=10, start=5).normal(4)
    assert torch.equal(second, whole[5:])
