"""Membership: the area of an attack, its error, that a person counts once, and the attack by distances."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from evaluation_samples import sample

from genpipe.evaluation import evaluate_tables
from genpipe.evaluation.base import Points
from genpipe.evaluation.privacy.membership import Likelihoods, area, by_entity, distances, judged, membership
from genpipe.fields import Identifier, Series
from genpipe.kinds import KINDS
from genpipe.schema import Schema


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


def test_the_attack_by_distances_sees_rows_handed_out_and_not_fresh_ones() -> None:
    def cloud(rows: int, seed: int) -> Points:
        rng = np.random.default_rng(seed)
        return Points(rng.normal(0, 1, (rows, 4)), rng.integers(0, 3, (rows, 2)))

    train, unseen = cloud(600, 0), cloud(400, 1)
    who = np.arange(600, dtype=np.uint64), np.arange(400, dtype=np.uint64) + np.uint64(9_000)
    noise = np.random.default_rng(2).normal(0, 0.1, train.numeric.shape)
    near = Points(train.numeric + noise, train.codes)
    told = [judged(distances(made, train, unseen, *who, 0)) for made in (near, cloud(600, 3))]
    assert (
        told[0].leak and "nearer to a training entity" in told[0].leak and "weaker" in told[0].score.meaning
    )
    assert not told[1].leak and abs((told[1].score.value or 0) - 0.5) < 3 * (told[1].score.error or 0)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("tabular", "series")])
def test_every_kind_is_asked_who_was_there(kind: str) -> None:
    s, fresh = sample(kind, rows=200), sample(kind, rows=200, seed=40).holdout
    for made, least, most in ((s.train.slice(0, 200), 0.6, 1.0), (fresh, 0.4, 0.6)):
        score = evaluate_tables(s.train, s.holdout, made, s.schema).score("membership")
        assert score.value is not None and least < score.value <= most and "nearer" in score.meaning


def windows(seed: int, series: int) -> list[list[float]]:
    """Twenty windows of each series, each but one step after the other."""
    rng = np.random.default_rng(seed)
    walks = np.cumsum(rng.normal(0, 1, (series, 43)), 1) + rng.normal(0, 20, (series, 1))
    return [walk[i : i + 24].tolist() for walk in walks for i in range(20)]


def test_windows_that_overlap_are_no_people_and_no_ceiling() -> None:
    fields = (Series(name="value", length=24),)
    train, unseen, made = (pa.table({"value": windows(s, n)}) for s, n in ((0, 20), (1, 10), (2, 15)))
    bare = evaluate_tables(train, unseen, made, Schema(kind="series", fields=fields))
    privacy, asked = bare.score("privacy"), bare.score("membership")
    assert privacy.ceiling is None and "windows that overlap" in privacy.meaning
    assert asked.value is None and "not independent" in asked.reason
    # where a column tells series apart, each is one, and has its windows on one side
    tables = [
        t.append_column("who", pa.array([f"{k}-{i // 20}" for i in range(t.num_rows)]))
        for k, t in enumerate((train, unseen, made))
    ]
    named = Schema(kind="series", fields=(*fields, Identifier(name="who")), key=("who",))
    told = evaluate_tables(*tables, named)
    assert told.score("privacy").ceiling is not None and told.score("membership").value is None
    assert told.score("membership").reason == "too few entities"  # ten, five of which are compared with
