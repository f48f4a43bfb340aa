"""The likelihood attack: its area, its error, and that a person counts once."""

from __future__ import annotations

import numpy as np
import pytest

from genpipe.evaluation.membership import Likelihoods, area, by_entity, membership


def test_area_of_small_sets_counted_by_hand() -> None:
    auc, _ = area(np.array([3.0, 1.0]), np.array([0.0, 1.0, 2.0]))
    assert auc == pytest.approx((3 + 1.5) / 6)  # 3 beats all; 1 beats one and ties with one


def test_minus_infinity_is_the_least_likely_of_all() -> None:
    auc, error = area(np.zeros(30), np.full(30, -np.inf))
    assert auc == 1.0 and 0 < error < 0.05


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.5), (1.0, 0.760), (3.0, 0.983)])
def test_normal_scores_reach_what_theory_says_within_three_errors(shift: float, expected: float) -> None:
    rng = np.random.default_rng(0)
    found = membership(Likelihoods(rng.normal(shift, 1, 2000), rng.normal(0, 1, 500)))
    assert found is not None and abs(found.auc - expected) < 3 * found.error < 0.06


def test_the_error_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(1)
    drawn = [area(rng.normal(0.5, 1, 80), rng.normal(0, 1, 40)) for _ in range(400)]
    spread = np.std([auc for auc, _ in drawn])
    assert np.mean([error for _, error in drawn]) == pytest.approx(spread, rel=0.12)


def test_rows_of_one_person_are_one_observation() -> None:
    """A hundred rows of each of thirty people with one chance value each: no evidence, however many rows."""
    rng = np.random.default_rng(2)
    level = rng.normal(0, 1, 60)
    rows = np.repeat(level, 100)
    people = np.repeat(np.arange(60), 100)
    half = 3000
    apart = Likelihoods(rows[:half], rows[half:], people[:half], people[half:])
    together = Likelihoods(rows[:half], rows[half:])
    by_person, by_row = membership(apart), membership(together)
    assert by_person is not None and by_row is not None
    assert by_person.members == 30 and by_person.error > 5 * by_row.error
    assert np.allclose(np.sort(by_entity(rows, people)), np.sort(level))


def test_too_few_entities_say_nothing() -> None:
    assert membership(Likelihoods(np.zeros(500), np.ones(10))) is None
