"""Values read off: shares by entity with an interval, and columns corrected for their number."""

from __future__ import annotations

import numpy as np
import pytest

from genpipe.evaluation.privacy.inference import Guesses, read_off


def right(share: float, rows: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(rows) < share).astype(float)


def test_a_column_that_is_read_off_is_named_with_both_shares() -> None:
    found = read_off(
        [
            Guesses("diagnosis", right(0.74, 800, 0), right(0.14, 400, 1)),
            Guesses("sex", right(0.55, 800, 2), right(0.52, 400, 3)),
        ]
    )
    assert "diagnosis 7" in found.leak and "sex" not in found.leak
    assert found.score.value == pytest.approx(0.74, abs=0.05)
    assert found.score.ceiling == pytest.approx(0.14, abs=0.05)
    assert "diagnosis" in found.score.meaning


def test_noise_over_many_columns_is_no_leak() -> None:
    """Two hundred tables of twelve columns, few rows: not one false alarm."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        columns = [
            Guesses(f"c{k}", right(p, 120, seed * 50 + k), right(p, 60, seed * 50 + 25 + k))
            for k, p in enumerate(rng.random(12))
        ]
        assert not read_off(columns).leak


def test_rows_of_one_person_are_one_observation() -> None:
    """Thirty people with fifty rows each, all of one person right or wrong."""
    each = right(0.5, 60, 0)
    rows, people = np.repeat(each, 50), np.repeat(np.arange(60), 50)
    known = np.argsort(-each, kind="stable")[:30]  # those guessed right are the members
    mine = np.isin(people, known)
    by_person = read_off([Guesses("x", rows[mine], rows[~mine], people[mine], people[~mine])])
    by_row = read_off([Guesses("x", rows[mine], rows[~mine])])
    assert by_person.score.value == by_row.score.value
    assert by_person.score.error is not None and by_person.score.error > 4 * (by_row.score.error or 0)


def test_with_few_entities_or_columns_nothing_is_said() -> None:
    few = read_off([Guesses("x", np.ones(15), np.zeros(400))])
    assert few.score.value is None and not few.leak and "too few" in few.score.reason
    assert read_off([]).score.value is None
