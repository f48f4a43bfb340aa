"""Scores, distances and attacks against numbers worked out by hand, on a handful of rows each."""

from __future__ import annotations

from math import log10, sqrt

import numpy as np
import pyarrow as pa
import pytest

from genpipe.evaluation.audio import log_mel
from genpipe.evaluation.base import Points, total_variation
from genpipe.evaluation.feature_space import FeatureSpace, frechet
from genpipe.evaluation.learners import area_under_curve, classify, regress, tell_apart
from genpipe.evaluation.page.crowd import CROWD, bins, crowded
from genpipe.evaluation.privacy import nearest as privacy
from genpipe.evaluation.privacy.findings import CERTAIN, Excess, Finding, told
from genpipe.evaluation.privacy.inference import Guesses, read_off
from genpipe.evaluation.privacy.membership import Likelihoods, area, by_entity, judged
from genpipe.evaluation.privacy.singling_out import Distinct, Shown
from genpipe.evaluation.privacy.verbatim import RUN, names, runs
from genpipe.evaluation.report import Score
from genpipe.evaluation.series import correlations
from genpipe.evaluation.tabular import TabularJudge, associations
from genpipe.evaluation.verdict import conclude
from genpipe.fields import Category, Number
from genpipe.schema import Schema


def points(*rows: float, codes: list[int] | None = None) -> Points:
    return Points(np.array(rows)[:, None], np.array(codes or [0] * len(rows))[:, None])


def test_the_frechet_distance_has_the_means_and_the_covariances() -> None:
    """Apart by (1, 2): 5. Covariances [[2, 1], [1, 2]] (roots of the values 1 and 3) and the identity:
    tr = 4 + 2 - 2 (1 + √3).
    """
    a = (np.array([0.0, 0.0]), np.array([[2.0, 1.0], [1.0, 2.0]]))
    b = (np.array([1.0, 2.0]), np.eye(2))
    assert frechet(a, b) == pytest.approx(5 + 6 - 2 * (1 + sqrt(3)))


def test_fidelity_of_features_falls_with_the_distance_by_the_steepness() -> None:
    """Standard normal features moved by ½: squared distance ¼ of a total variance of 1 gives 1 / (1 + 5 /
    4).
    """
    real = np.random.default_rng(0).normal(size=(4000, 1))
    found = FeatureSpace(real, None).parts(real + 0.5 * real.std(), None)
    assert found["frechet"] == pytest.approx(1 / (1 + 5 * 0.25), rel=0.01)
    same = FeatureSpace(real, None).parts(real, None)
    assert same == pytest.approx({"frechet": 1.0, "coverage": 1.0, "precision": 1.0}, abs=1e-6)


def test_coverage_counts_real_rows_and_precision_generated_ones() -> None:
    """Eleven real rows in each of two far clumps; all generated rows but one in a third place lie in the
    first clump: half is covered, three of four are inside.
    """
    rng = np.random.default_rng(0)
    clump = rng.normal(0, 0.01, (11, 2))
    real = np.concatenate([clump, clump + 10])
    made = np.concatenate([clump[:1], clump[:1], clump[:1], [[99.0, -99.0]]])
    found = FeatureSpace(real, None).parts(made, None)
    assert found["precision"] == pytest.approx(0.75) and found["coverage"] <= 0.5
    every = FeatureSpace(real, None).parts(np.concatenate([clump, [[99.0, -99.0]]]), None)
    assert every["coverage"] == pytest.approx(0.5) and every["precision"] == pytest.approx(11 / 12)


def test_coverage_reaches_as_far_as_the_kth_real_neighbour() -> None:
    """Real rows at 0 .. 4: with two neighbours, 0 and 4 reach 2, the others 1. One row at 5.9 covers 4 alone,
    one at 2.5 covers 2, 3 and 4.
    """
    real = points(0, 1, 2, 3, 4)
    for made, covered in ((5.9, 0.2), (6.1, 0.0), (2.5, 0.6), (2.0, 1.0)):
        assert privacy.coverage(real, points(made), privacy.reach(real, neighbours=2)) == pytest.approx(
            covered
        )


def test_a_choice_that_differs_is_a_distance_of_one() -> None:
    """From 0 with code 2 to .5 with code 1: √(.25 + 1). To 1 with code 2: 1, which is nearer."""
    found = privacy.nearest(points(0.0, codes=[2]), points(0.5, 1.0, codes=[1, 2]))
    assert found.distance[0] == pytest.approx(1.0) and found.index[0] == 1
    other = privacy.nearest(points(0.0, codes=[2]), points(0.5, codes=[1]))
    assert other.distance[0] == pytest.approx(sqrt(1.25))


def test_the_share_nearer_to_train_is_balanced_for_the_sizes() -> None:
    """Nine of ten rows nearer to one of 30 training rows than to one of 10 others, each its own record.
    Chance is ¾; with one draw of chance more, p = (9 + .75) / 11, its odds over 3 are the odds of the share.
    """
    near = privacy.Nearest(np.array([1.0] * 9 + [3.0]), np.arange(10))
    far = privacy.Nearest(np.full(10, 2.0), np.arange(10))
    p = 9.75 / 11
    odds = p / (1 - p) / 3
    share = privacy.share_nearer_train(near, far, 30, 10)
    assert share.value == pytest.approx(odds / (1 + odds))
    assert share.error == pytest.approx(share.value * (1 - share.value) / sqrt(p * (1 - p) * 10))


def test_copies_are_rows_equal_to_a_training_row_and_distinct_ones_differ() -> None:
    train = points(1.0, 2.0, codes=[1, 2])
    made = points(1.0, 1.0, 2.0, 3.0, codes=[1, 2, 2, 1])
    equal = privacy.Equals(made=made)
    equal.see(train)
    assert equal.found["made"].tolist() == [True, False, True, False]
    assert equal.share("made") == 0.5
    assert privacy.distinct(points(1.0, 1.0, 1.0, 2.0)) == 0.5


def test_spread_is_variance_and_half_the_chance_that_choices_differ() -> None:
    """Variance of 1, 3 is 1; of two even choices ½ the chance of ½."""
    assert points(1.0, 3.0, codes=[0, 1]).spread == pytest.approx(1.25)


def test_an_area_is_the_share_of_pairs_in_order() -> None:
    """Of 2 x 3 pairs: 4 beats three, 1 beats one and ties with one."""
    truth, score = np.array([True, True, False, False, False]), np.array([4.0, 1.0, 0.0, 1.0, 2.0])
    assert area_under_curve(truth, score) == pytest.approx(4.5 / 6)
    assert area(np.array([4.0, 1.0]), np.array([0.0, 1.0, 2.0]))[0] == pytest.approx(4.5 / 6)
    assert area_under_curve(np.array([True]), np.array([1.0])) == 0.5


def test_the_error_of_an_area_is_delongs() -> None:
    """Members beat 1, 1/4 of the others; others are beaten by .5, .5, .5, 1. Variances (ddof 1) .28125 and
    .0625, over 2 and 4.
    """
    members, others = np.array([9.0, 1.0]), np.array([2.0, 3.0, 4.0, 0.0])
    assert area(members, others) == pytest.approx((0.625, sqrt(0.28125 / 2 + 0.0625 / 4)))


def test_an_area_that_is_all_one_way_still_has_an_error() -> None:
    assert area(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == pytest.approx((1.0, 1 / (2 * sqrt(4))))


def test_rows_of_an_entity_are_averaged() -> None:
    found = by_entity(np.array([1.0, 3.0, 5.0]), np.array([7, 7, 8]))
    assert found.tolist() == [2.0, 5.0]


def test_membership_is_a_leak_only_where_the_interval_lies_above_the_limit() -> None:
    """Even steps of likelihood: of members shifted by 10 of 50 steps, 1 - ½ (40 / 50)² = .68 of pairs (and no
    tie). The error is about .053, so the interval begins at about .57: no leak. Shifted by 25: .875, a leak.
    """
    steps = np.arange(50.0)
    for shift, expected, leak in ((10.5, 0.68, False), (25.5, 0.875, True)):
        found = judged(Likelihoods(steps + shift, steps))
        assert found.score.value == pytest.approx(expected, abs=0.01)
        assert bool(found.leak) is leak, found


def test_values_read_off_are_told_with_those_of_others_and_agresti_caffos_error() -> None:
    """30 of 40 and 10 of 40: (31/42) (11/42) / 42 and (11/42) (31/42) / 42."""
    found = read_off([Guesses("x", np.repeat([1.0, 0.0], [30, 10]), np.repeat([1.0, 0.0], [10, 30]))])
    assert (found.score.value, found.score.ceiling) == (0.75, 0.25)
    assert found.score.error == pytest.approx(sqrt(2 * (31 / 42) * (11 / 42) / 42))
    assert found.leak
    fair = read_off([Guesses("x", np.repeat([1.0, 0.0], [12, 28]), np.repeat([1.0, 0.0], [10, 30]))])
    assert not fair.leak


def test_more_columns_need_more_evidence() -> None:
    """Bonferroni: 1.96 standard errors of one look (2.5 %), 3.02 of twenty."""
    excess = Excess("x", value=0.5, chance=0.2, error=0.1)
    assert CERTAIN == 0.025
    assert excess.low(1) == pytest.approx(0.3 - 0.195996, abs=1e-5)
    assert excess.low(20) == pytest.approx(0.3 - 0.302334, abs=1e-5)
    assert Excess("x", 0.5, 0.2, 0.1, luck=0.2).low(1) == -1.0


def test_a_leak_is_beyond_its_limit_and_what_chance_excuses() -> None:
    """value - chance - 1.96 errors = .2: above a limit of .1, and not above .1 + 2 times a chance of .2."""
    worst = [Excess("x", value=0.4196, chance=0.2, error=0.01)]
    assert told("n", "t", "m", worst, 0.1, leak="It tells").leak
    assert not told("n", "t", "m", worst, 0.1, leak="It tells", excused=2.0).leak


def test_what_one_entity_alone_has_is_told_of_its_side() -> None:
    """Generated: 1 twice, 2, 3 and 4 once. 1 is of training entity 10 alone, 2 of unseen 20 alone, 3 of both,
    4 of two training entities, 9 is not shown.
    """

    def keys(*numbers: int) -> np.ndarray:
        return np.array(numbers, np.uint64) << np.uint64(50)

    shown = Shown(keys(1, 1, 2, 3, 4))
    shown.see(keys(1, 1, 3, 4, 4, 9), np.array([10, 10, 10, 10, 11, 12], np.uint64), member=True)
    shown.see(keys(2, 3), np.array([20, 20], np.uint64), member=False)
    assert shown.tally(member=True).tolist() == [2] and shown.tally(member=False).tolist() == [1]
    found = shown.excess("x", 30, 10)
    assert (found.value, found.chance) == (0.4, 0.6)  # 2 of 5; 1 of 5, as if of three times as many
    assert found.error == pytest.approx(sqrt((4 + 1) + 9 * (1 + 1)) / 5)


def test_different_keys_are_counted_once() -> None:
    seen = Distinct()
    seen.see(np.array([1, 1, 2], np.uint64))
    seen.see(np.array([2, 3], np.uint64))
    assert seen.count == 3


def test_runs_and_names_of_documents() -> None:
    """A document of RUN + 2 characters has three runs; none spans two. Names are two capitals in a row."""
    first, second = "abcdefgh" * 4 + "xy", "ab" * 8
    assert RUN == 32
    keys, place = runs([first, second])
    assert len(keys) == 3 and place.tolist() == [0, 0, 0]
    assert len(runs([second, second])[0]) == 0
    again, _ = runs(["zz" + first[:32]])
    assert again[-1] == keys[0]
    found, where = names(["yes, Ada Lovelace met Charles Babbage. I am", "ada LOVELACE", "Ada lovelace"])
    assert where.tolist() == [0, 0] and len(set(found.tolist())) == 2


def test_a_score_lies_between_floor_and_ceiling() -> None:
    def position(value: float, ceiling: float, floor: float, goal: str = "max") -> float | None:
        ends = {"value": value, "ceiling": ceiling, "floor": floor}
        return Score.model_validate(
            {"name": "n", "title": "t", "goal": goal, "meaning": "m", **ends}
        ).position

    assert position(0.75, 0.9, 0.3) == pytest.approx(0.75)
    assert position(0.1, 0.9, 0.3) == 0.0 and position(0.95, 0.9, 0.3) == 1.0
    assert position(0.6, 0.5, 1.0, "min") == pytest.approx(0.8)
    assert position(0.4, 0.5, 0.5) == pytest.approx(0.8)  # the floor as high: a share of the ceiling


SCHEMA = Schema(
    kind="tabular", fields=(Number(name="n", nullable=True), Category(name="c"), Category(name="d"))
)


def table(n: list[float | None], c: str, d: str) -> pa.Table:
    columns = {"n": n, "c": list(c), "d": list(d)}
    return pa.table({k: pa.array(v, SCHEMA.field(k).arrow()) for k, v in columns.items()})


def test_shapes_of_columns() -> None:
    """n: distribution functions ½ apart, missing ½ against 0: ½ x ½. c: total variation ¼. d: the same."""
    judge = TabularJudge(table([1.0, 2.0, 3.0, 4.0], "aabb", "xyxy"), SCHEMA)
    made = judge.view(table([3.0, 4.0, None, None], "aaab", "xxyy"))
    assert judge.shapes(made) == pytest.approx({"n": 0.25, "c": 0.75, "d": 1.0})


def test_pairs_of_choices() -> None:
    """c and d alike in real rows, never in generated ones: both marginals right, no pair is."""
    judge = TabularJudge(table([1.0, 1.0, 1.0, 1.0], "aabb", "xxyy"), SCHEMA)
    made = judge.view(table([1.0, 1.0, 1.0, 1.0], "aabb", "yyxx"))
    assert judge.between(made, [(1, 2)], np.array([1.0]))[0] == pytest.approx(0.0)
    assert judge.between(judge.real, [(1, 2)], np.array([1.0]))[0] == pytest.approx(1.0)
    half = judge.view(table([1.0, 1.0, 1.0, 1.0], "aabb", "xyxy"))
    assert judge.between(half, [(1, 2)], np.array([1.0]))[0] == pytest.approx(0.5)


def test_an_association_is_bias_corrected() -> None:
    """10 rows of (0, 0) and (1, 1) each, 5 of (0, 1) and (1, 0): χ² / n = (1/3)² = 1/9, less 1/29 for chance;
    the most possible is 2 - 1/29 - 1.
    """
    digits = np.repeat([[0, 0], [1, 1], [0, 1], [1, 0]], [10, 10, 5, 5], axis=0)
    expected = sqrt((1 / 9 - 1 / 29) / (1 - 1 / 29))
    assert associations(digits, [(0, 1)])[0] == pytest.approx(expected)


def test_total_variation_is_half_the_absolute_differences() -> None:
    """Shares (½, ½, 0) and (¼, ¼, ½)."""
    assert total_variation(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2])) == pytest.approx(0.5)


def test_rows_less_varied_than_real_ones_are_scored_down() -> None:
    """Only the choices vary: real ones even (½ · ½ each), generated ones ¾ to ¼ (½ · 3/8 each)."""
    judge = TabularJudge(table([1.0] * 8, "aaaabbbb", "xxyyxxyy"), SCHEMA)
    view = judge.view(table([1.0] * 8, "aaaaaabb", "xxxxxxyy"))
    assert judge.score_view(view, {"one": 0.8, "two": 0.6}) == pytest.approx(0.7 * 0.75)
    assert judge.score_view(judge.real, {"one": 0.8, "two": 0.6}) == pytest.approx(0.7)


def test_the_two_sample_test_is_a_half_for_equals_and_one_for_others() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    assert tell_apart(a, b, 0) == pytest.approx(0.5, abs=0.08)
    assert tell_apart(a, b + 9, 0) > 0.98
    assert tell_apart(a[:2], b, 0) == 1.0  # too few to ask


def test_usefulness_is_measured_on_rows_the_model_never_saw() -> None:
    """x tells y exactly: 1. Fitted on y turned round: always wrong. R² of twice the values: worse than the
    mean is 0.
    """
    x = np.linspace(-1, 1, 60)[:, None]
    y = np.where(x[:, 0] > 0, "yes", "no")
    turned = np.where(x[:, 0] > 0, "no", "yes")
    for trees in (True, False):
        assert classify(x, y, x, y, trees=trees).value == pytest.approx(1.0)
        assert classify(x, turned, x, y, trees=trees).value == pytest.approx(0.0)
    assert classify(x, y, x[:40], y[:40], trees=False).chance == pytest.approx(30 / 40)
    assert regress(x, x[:, 0], x, x[:, 0], trees=False).value == pytest.approx(1.0, abs=0.01)
    assert regress(x, -x[:, 0], x, x[:, 0], trees=False).value == 0.0


def test_autocorrelation_within_windows_and_correlation_across_channels() -> None:
    """1, -1, 1, -1, .. of 11 steps less its mean: neighbours are opposite, next but one alike. The second
    channel is minus the first.
    """
    one = np.array([1.0, -1.0] * 8)
    auto, cross = correlations(np.stack([one, -one], -1)[None])
    assert auto[:, 0].tolist() == pytest.approx([(-1.0) ** k for k in range(1, 11)])
    assert cross.tolist() == pytest.approx([-1.0, -1.0])  # of values and of increments
    assert correlations(np.ones((1, 5, 1)))[0].tolist() == [[0.0]] * 4  # a constant has none


def test_a_click_is_as_loud_in_narrow_bands_as_in_wide_ones() -> None:
    """A click in the middle of a window has power 1 at all frequencies; over 256 samples that is 1 / 256, on
    average over every band.
    """
    click = np.zeros((1, 256), np.float32)
    click[0, 128] = 1.0
    assert np.exp(log_mel(click, 4000))[0, 0].tolist() == pytest.approx([1 / 256 + 1e-4] * 24, rel=1e-4)


def test_a_tone_is_heard_in_its_band_and_silence_at_the_floor() -> None:
    """1,000 Hz at a rate of 4,000 is band 14: 25 log(1 + 1000/700) / log(1 + 2000/700) = 16.4 corners in."""
    t = np.arange(1024) / 4000
    heard = log_mel(np.sin(2 * np.pi * 1000 * t).astype(np.float32)[None], 4000)[0, 2]
    corner = 25 * log10(1 + 1000 / 700) / log10(1 + 2000 / 700)
    assert abs(int(heard.argmax()) - (corner - 1)) <= 0.6
    silence = log_mel(np.zeros((1, 512), np.float32), 4000)
    assert np.exp(silence).max() == pytest.approx(1e-4, rel=1e-3)


def test_a_place_of_a_chart_needs_five_people() -> None:
    places = np.array([0] * 5 + [1] * 9)
    who = np.array([*range(5), *[7] * 6, 8, 9, 10])
    assert CROWD == 5
    assert crowded(places, who, 3).tolist() == [True, False, False]
    shares = bins(np.array([0.5] * 5 + [1.5] * 9), who, np.array([0.0, 1.0, 2.0]))
    assert shares.tolist() == pytest.approx([5 / 14, 0.0])


def test_chernoffs_bound_of_one_entity_is_its_chance() -> None:
    """One training entity shown and no other: as probable as half of the entities are of training, at
    least.
    """
    shown = Shown(np.array([1 << 50], np.uint64))
    shown.see(np.array([1 << 50], np.uint64), np.array([3], np.uint64), member=True)
    assert shown.excess("x", 10, 10).luck == pytest.approx(0.5, abs=0.01)
    many = np.arange(1, 21, dtype=np.uint64) << np.uint64(50)
    shown = Shown(many)
    shown.see(many, many, member=True)
    assert shown.excess("x", 10, 10).luck == pytest.approx(0.5**20, rel=0.05)


def concluded(
    fidelity: float, useful: float | None = None, *, near: float = 0.5, same: float = 0.0, collapse: str = "",
    leak: str = "",
) -> str:  # fmt: skip
    """The verdict on scores at these positions between floor 0 and ceiling 1. near: share nearer to training
    rows, with an error of .02.
    """
    ends = {"ceiling": 1.0, "floor": 0.0, "meaning": "m", "title": "t", "goal": "max"}
    least = ends | {"ceiling": 0.0, "floor": 1.0, "goal": "min"}
    scores = [
        Score.model_validate({"name": "fidelity", "value": fidelity, **ends}),
        Score.model_validate({"name": "usefulness", "value": useful, **ends}),
        Score.model_validate({"name": "privacy", "value": near, **least, "ceiling": 0.5}),
        Score.model_validate({"name": "copies", "value": same, **least}),
    ]
    findings = [Finding(scores[0], leak)]
    return conclude(scores, privacy.Share(near, 0.02), collapse, findings)[0]


def test_a_grade_is_fidelity_or_half_of_it_and_of_usefulness_if_that_is_less() -> None:
    assert [concluded(f) for f in (0.95, 0.89, 0.69, 0.39)] == ["excellent", "good", "fair", "poor"]
    assert concluded(0.95, 0.8) == "good"  # .875
    assert concluded(0.6, 1.0) == "fair"  # no better than its fidelity


def test_copies_come_before_leaks_before_collapse_before_any_grade() -> None:
    """Copying is a share .1 above chance beyond three errors (.5 + .1 + .06), or a tenth of rows that are
    equal.
    """
    assert concluded(0.95, near=0.65) == "excellent" and concluded(0.95, near=0.67) == "copies"
    assert concluded(0.95, same=0.09) == "excellent" and concluded(0.95, same=0.11) == "copies"
    assert concluded(0.95, near=0.9, leak="It tells") == "copies"
    assert concluded(0.95, leak="It tells", collapse="it repeats") == "leaks"
    assert concluded(0.95, near=0.9, collapse="it repeats") == "collapsed"
