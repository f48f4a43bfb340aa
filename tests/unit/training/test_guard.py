from __future__ import annotations

import pytest
import torch

from genpipe.training.guard import Diverged, Guard, Window


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_none_is_enough(value: float) -> None:
    with pytest.raises(Diverged, match=r"critic\.loss = .*not a finite number"):
        Guard().check({"generator.loss": 1.0, "critic.loss": value})


def test_an_explosion_must_last() -> None:
    guard = Guard()
    guard.check({"loss": 3.0})
    guard.check({"loss": 2.9e4})
    guard.check({"loss": 4e4})  # once is an outlier
    guard.check({"loss": 3.0})
    guard.check({"loss": -4e4})
    with pytest.raises(Diverged, match="over 10000 times its first size"):
        guard.check({"loss": 5e4})


def test_small_first_losses_do_not_make_it_nervous() -> None:
    guard = Guard()
    for value in (1e-9, 50.0, 60.0, 70.0):
        guard.check({"loss": value})


def test_collapse_needs_two_evaluations_in_a_row() -> None:
    guard = Guard()
    guard.check_samples({"spread": 0.0})
    guard.check_samples({"spread": 0.5})
    guard.check_samples({"spread": 1e-5})
    with pytest.raises(Diverged, match="mode collapse"):
        guard.check_samples({"spread": 1e-5})


def test_its_memory_can_be_saved() -> None:
    guard, other = Guard(), Guard()
    guard.check({"loss": 3.0})
    guard.check({"loss": 4e4})
    other.restore(guard.values())
    with pytest.raises(Diverged):
        other.check({"loss": 4e4})


def test_the_window_averages_and_does_not_forget_a_nan() -> None:
    window = Window()
    window.add("critic", {"loss": torch.tensor(1.0)})
    window.add("critic", {"loss": torch.tensor(3.0)})
    assert window.clear() == {"critic.loss": 2.0}
    assert window.clear() == {}
    window.add("critic", {"loss": torch.tensor(float("nan"))})
    window.add("critic", {"loss": torch.tensor(3.0)})
    with pytest.raises(Diverged):
        Guard().check(window.clear())
