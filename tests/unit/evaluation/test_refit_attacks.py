"""Attacks on a generator that learnt all rows, beside its twin: each is planted, and no other is seen."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from evaluation_samples import TABLE, table

from genpipe.evaluation import evaluate_tables
from genpipe.evaluation.privacy.attacks import Evidence
from genpipe.evaluation.privacy.inference import Guesses
from genpipe.evaluation.privacy.membership import Likelihoods
from genpipe.evaluation.refit import evaluate_refit
from genpipe.evaluation.report import Report

ROWS = 400
TRAIN, HELD = table(1200, 1), table(300, 2)
TWIN = table(ROWS, 3)


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate_tables(TRAIN, HELD, TWIN, TABLE)


def again(
    report: Report, last: pa.Table, mine: Evidence | None = None, twin: Evidence | None = None
) -> Report:
    known = mine or Evidence(), twin or Evidence()
    return evaluate_refit(
        report, (last, TWIN), known, iter([TRAIN]), HELD, TABLE, seed=0, lineage={"judged": "its twin"}
    )


def some(share: float, rows: pa.Table) -> pa.Table:
    """This share of fresh rows replaced by these."""
    count, rng = round(share * ROWS), np.random.default_rng(0)
    taken = rows.take(pa.array(rng.choice(rows.num_rows, count, replace=False)))
    return pa.concat_tables([taken, table(ROWS - count, 5)])


def test_of_fresh_rows_nothing_is_said_and_quality_is_the_twins(report: Report) -> None:
    found = again(report, table(ROWS, 4))
    assert found.verdict == report.verdict not in ("copies", "leaks", "collapsed")
    for name in ("fidelity", "usefulness", "coverage"):
        assert found.score(name) == report.score(name)
    near = found.score("privacy")
    assert near.ceiling == 0.5 and abs((near.value or 0) - 0.5) < 3 * (near.error or 0)
    assert (found.lineage, found.distances) == ({"judged": "its twin"}, None)


@pytest.mark.parametrize("rows", [TRAIN, HELD], ids=["of-both", "of-those-held-out"])
def test_copies_of_any_row_are_copies(report: Report, rows: pa.Table) -> None:
    found = again(report, some(0.3, rows))
    assert (found.verdict, found.score("copies").value) == ("copies", 0.3)
    assert report.verdict != "copies"


def test_rows_close_to_those_held_out_are_seen_though_none_is_equal(report: Report) -> None:
    close = some(0.5, HELD)
    income = np.asarray(close["income"]) + np.where(np.arange(ROWS) < ROWS / 2, 1.0, 0.0)
    found = again(report, close.set_column(0, close.schema.field(0), pa.array(np.round(income, 2))))
    assert found.score("copies").value == 0.0
    assert (found.score("privacy").value or 0) > 0.8 and found.verdict == "copies"


def test_a_row_that_is_likelier_than_to_the_twin_is_known(report: Report) -> None:
    nats = np.random.default_rng(0).normal(size=300)
    other = Evidence(likelihoods=Likelihoods(nats, nats))
    assert again(report, table(ROWS, 4), other, other).score("membership").value == 0.5
    found = again(report, table(ROWS, 4), Evidence(likelihoods=Likelihoods(nats, nats + 1.5)), other)
    assert found.verdict == "leaks" and (found.score("membership").value or 0) > 0.8


def test_a_value_guessed_of_those_held_out_more_often_than_by_the_twin_is_known(report: Report) -> None:
    often, seldom = np.arange(300) % 10 < 9, np.arange(300) % 2 == 0

    def guesses(unseen: np.ndarray) -> Evidence:
        return Evidence(guesses=[Guesses("job", often.astype(float), unseen.astype(float))])

    assert again(report, table(ROWS, 4), guesses(seldom), guesses(seldom)).verdict == report.verdict
    assert again(report, table(ROWS, 4), guesses(often), guesses(seldom)).verdict == "leaks"


def test_what_one_held_out_person_alone_has_is_found(report: Report) -> None:
    fresh = table(ROWS, 4)
    shown = pa.array(np.r_[np.asarray(HELD["income"])[:150], np.asarray(fresh["income"])[150:]])
    found = again(report, fresh.set_column(0, fresh.schema.field(0), shown))
    assert found.verdict == "leaks" and "one training entity alone" in found.headline


def test_a_second_training_that_went_wrong_is_no_generator(report: Report) -> None:
    found = again(report, table(ROWS, 4).take(pa.array(np.arange(ROWS) % 7)))
    assert found.verdict == "collapsed" and "its twin" in found.headline


def test_a_twin_that_is_refused_clears_nothing() -> None:
    copied = evaluate_tables(TRAIN, HELD, TRAIN.slice(0, ROWS), TABLE)
    assert copied.verdict == "copies" and again(copied, table(ROWS, 4)).verdict == "copies"
