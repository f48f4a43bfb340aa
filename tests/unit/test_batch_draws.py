"""Draws: the same numbers for the same row, on one worker and on many."""

from __future__ import annotations

import pytest
import torch

from genpipe.batch import one_hot
from genpipe.draws import Draws, cumulated, in_order


def every_kind(draws: Draws) -> list[torch.Tensor]:
    logits = torch.zeros(draws.stop - draws.start, 3, 4)
    return [draws.normal(2), draws.uniform(), draws.integers(7, 2), draws.categorical(logits), draws.normal()]


def test_shards_are_slices_of_the_whole() -> None:
    whole = every_kind(Draws(5, "step", 1, total=10))
    left = every_kind(Draws(5, "step", 1, total=10, start=0, stop=4))
    right = every_kind(Draws(5, "step", 1, total=10, start=4, stop=10))
    for all_rows, first, second in zip(whole, left, right, strict=True):
        assert torch.equal(all_rows, torch.cat([first, second]))


def test_paths_and_calls_differ() -> None:
    draws = Draws(5, "step", 1, total=10)
    first, second = draws.normal(3), draws.normal(3)
    other = Draws(5, "step", 2, total=10).normal(3)
    assert not torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(first, Draws(5, "step", 1, total=10).normal(3))


def test_the_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    every_kind(Draws(1, total=4))
    assert torch.equal(before, torch.get_rng_state())


def test_categorical_follows_the_softmax_and_never_draws_the_impossible() -> None:
    logits = torch.tensor([0.0, 1.0, -torch.inf, 2.0])
    drawn = Draws(0, total=40000).categorical(logits.expand(40000, 4))
    shares = torch.bincount(drawn, minlength=4) / 40000
    torch.testing.assert_close(shares, logits.softmax(0), atol=0.01, rtol=0)
    assert shares[2] == 0


def test_one_hot_of_several_fields() -> None:
    assert one_hot(torch.tensor([[1, 0], [0, 2]]), (2, 3)).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert one_hot(torch.zeros(4, 0, dtype=torch.long), ()).shape == (4, 0)


def varied_logits(rows: int) -> torch.Tensor:
    """Rows of different distributions over four options, the last of them impossible."""
    lean = torch.linspace(-2, 2, rows).unsqueeze(1)
    return torch.cat([lean, -lean, torch.zeros(rows, 1), torch.full((rows, 1), -torch.inf)], 1)


def test_even_draws_have_the_blocks_shares_nearly_exactly() -> None:
    logits = varied_logits(4096)
    expected = logits.softmax(-1).mean(0)
    place = (logits.softmax(-1)[:, 0] * 10000).long()
    shuffled = torch.randperm(4096, generator=torch.Generator().manual_seed(0))

    def error(drawn: torch.Tensor) -> float:
        return float((torch.bincount(drawn, minlength=4) / 4096 - expected).abs().max())

    even = [
        error(Draws(s, total=4096).systematic(cumulated(logits[shuffled]), place[shuffled]))
        for s in range(20)
    ]
    independent = [error(Draws(s, total=4096).categorical(logits)) for s in range(20)]
    assert max(even) < 0.002 < sum(independent) / 20


def test_even_draws_leave_each_row_its_own_distribution() -> None:
    logits = varied_logits(8)
    place = torch.arange(8)
    drawn = torch.stack([Draws(seed, total=8).systematic(cumulated(logits), place) for seed in range(4000)])
    shares = torch.stack([(drawn == k).float().mean(0) for k in range(4)], 1)
    torch.testing.assert_close(shares, logits.softmax(-1), atol=0.03, rtol=0)
    assert not (drawn == 3).any()


def test_even_draws_of_rows_that_are_alike_do_not_depend_on_each_other() -> None:
    """Three columns one after the other, of which none says anything of the next."""
    rng, place = Draws(0, total=4096), torch.zeros(4096, dtype=torch.long)
    columns = [rng.systematic(cumulated(torch.zeros(4096, 8)), place) for _ in range(3)]
    for a, b in ((0, 1), (1, 2), (0, 2)):
        pairs = torch.bincount(columns[a] * 8 + columns[b], minlength=64)
        chi = float(((pairs - 64) ** 2 / 64).sum())
        assert 20 < chi < 95  # of 49 degrees of freedom: 1e-4 on both sides


def test_even_draws_need_the_whole_batch() -> None:
    with pytest.raises(ValueError, match="all rows of the batch"):
        Draws(0, total=8, start=0, stop=4).systematic(torch.ones(2, 4), torch.zeros(4, dtype=torch.long))


def test_cumulated_weights_are_the_softmax() -> None:
    logits = varied_logits(8) * 50  # of which an exponential alone would overflow
    upto = cumulated(logits.clone())
    torch.testing.assert_close((upto / upto[-1]).t(), logits.softmax(-1).cumsum(-1))


def test_rows_are_sorted_by_numbers_of_any_size_and_equal_ones_keep_their_order() -> None:
    small = torch.tensor([3, 0, 3, 2, 0])
    assert in_order(small).tolist() == [1, 4, 3, 0, 2]
    assert in_order(small * 10**6).tolist() == [1, 4, 3, 0, 2]
