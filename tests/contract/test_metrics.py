"""What every kind's metrics promise: bounded, repeatable, falling as rows get worse, and honest about
extremes.
"""

from __future__ import annotations

from functools import cache

import pyarrow as pa
import pytest
from evaluation_samples import Sample, sample

from genpipe.errors import PrivacyError, QualityError
from genpipe.evaluation import JUDGES, Fidelity, Report, evaluate_tables, fidelity
from genpipe.kinds import KINDS

ROWS = 300


@cache
def samples(kind: str) -> Sample:
    return sample(kind, rows=ROWS)


@cache
def report(kind: str, which: str) -> Report:
    s = samples(kind)
    made = {"copied": s.train.slice(0, ROWS), "fresh": sample(kind, rows=ROWS, seed=40).holdout}.get(which)
    return evaluate_tables(s.train, s.holdout, getattr(s, which) if made is None else made, s.schema)


def test_every_kind_has_a_judge() -> None:
    assert tuple(JUDGES) == tuple(KINDS)
    assert all(judge.kind == kind for kind, judge in JUDGES.items())


@pytest.mark.parametrize("kind", KINDS)
def test_fidelity_falls_from_real_to_noisy_to_shuffled_to_constant(kind: str) -> None:
    s = samples(kind)
    judge = Fidelity(s.holdout, s.schema)
    real, noisy, shuffled, constant = (
        judge.score(t) for t in (s.train.slice(0, ROWS), s.noisy, s.shuffled, s.constant)
    )
    assert 1.0 >= real > 0.85
    assert real > noisy + 0.04
    assert noisy > shuffled + 0.1
    assert shuffled > constant + 0.001
    assert constant < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_fidelity_rises_step_by_step_while_scrambled_rows_give_way_to_real_ones(kind: str) -> None:
    s = samples(kind)
    judge = Fidelity(s.holdout, s.schema)
    scores = []
    for good in (0, 100, 200, 300):
        mixed = pa.concat_tables([s.train.slice(0, good), s.shuffled.slice(0, ROWS - good)])
        scores.append(judge.score(mixed))
    assert scores == sorted(scores) and scores[-1] > scores[0] + 0.2, scores


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_and_seed_give_the_same_report_to_the_bit(kind: str) -> None:
    s = samples(kind)
    again = evaluate_tables(s.train, s.holdout, s.noisy, s.schema)
    assert again.model_dump_json() == report(kind, "noisy").model_dump_json()
    assert Report.model_validate_json(again.model_dump_json()) == again
    assert fidelity(s.holdout, s.noisy, s.schema) == again.metrics["fidelity"]


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_real_rows_reach_the_ceiling_and_shuffled_ones_lie_on_the_floor(kind: str) -> None:
    fresh, shuffled = report(kind, "fresh"), report(kind, "shuffled")
    assert fresh.verdict == "excellent", fresh.headline
    fresh.check()
    assert shuffled.verdict == "poor", shuffled.headline
    for name in ("fidelity", "usefulness"):
        score = fresh.score(name)
        assert score.value is not None and score.ceiling is not None and score.floor is not None
        assert abs(score.value - score.ceiling) < 0.08
        assert score.ceiling > score.floor + 0.1
        assert shuffled.score(name).position < 0.35
    assert abs(fresh.score("privacy").value - 0.5) < 4 * fresh.score("privacy").error
    assert abs(shuffled.score("privacy").value - 0.5) < 4 * shuffled.score("privacy").error


@pytest.mark.parametrize("kind", KINDS)
def test_handing_out_training_rows_is_called_copying(kind: str) -> None:
    copied = report(kind, "copied")
    assert copied.verdict == "copies"
    assert copied.score("privacy").value > 0.8
    assert copied.score("copies").value == 1.0
    with pytest.raises(PrivacyError, match="hug the training rows"):
        copied.check()


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_for_ever_is_called_collapsed_however_real_that_row_is(kind: str) -> None:
    constant = report(kind, "constant")
    assert constant.collapsed
    with pytest.raises(QualityError, match="collapsed: only"):
        constant.check()


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_holdout_rows_are_refused_with_the_number(kind: str) -> None:
    s = samples(kind)
    with pytest.raises(
        PrivacyError, match="not enough hold-out rows for the privacy test: 49; expected at least 50"
    ):
        evaluate_tables(s.train, s.holdout.slice(0, 49), s.noisy, s.schema)


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_and_table_hold_every_applicable_score(kind: str) -> None:
    found = report(kind, "noisy")
    metrics = found.metrics
    assert {
        "fidelity",
        "fidelity_ceiling",
        "fidelity_floor",
        "privacy",
        "copies",
        "coverage",
        "usefulness",
    } <= set(metrics)
    assert all(isinstance(v, float) for v in metrics.values())
    assert [row[0].split(" (")[0] for row in found.table()] == [
        "Fidelity",
        *(["Careful reader", "Rules kept"] if kind == "tabular" else []),
        "Usefulness",
        "Coverage",
        "Privacy signal",
        "Exact copies",
        "Membership",
        *{
            "tabular": ["One person's values", "One person's pairs"],
            "text": ["Passages by heart", "Longest passage", "Names"],
        }.get(kind, []),
    ]
