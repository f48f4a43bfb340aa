"""The parts by hand-computed values, and the traps of each kind."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from evaluation_samples import AUDIO, SERIES, TABLE, TEXT, audio, image_schema, images, series, table, text

from genpipe.errors import DataError, QualityError
from genpipe.evaluation import Fidelity, evaluate_tables, fidelity
from genpipe.evaluation.base import kolmogorov_smirnov, total_variation
from genpipe.evaluation.feature_space import frechet
from genpipe.evaluation.learners import area_under_curve, classify, regress, tell_apart
from genpipe.evaluation.page.pictures import frequencies
from genpipe.evaluation.tabular import associations
from genpipe.evaluation.text import code_points, grams, predict_next
from genpipe.fields import BLOB, Category, Integer
from genpipe.schema import Schema


def test_distances_of_distributions_by_hand() -> None:
    assert total_variation(np.array([1, 1, 2, 3]), np.array([1, 2, 2, 4])) == pytest.approx(0.5)
    assert kolmogorov_smirnov(np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])) == pytest.approx(0.5)
    assert kolmogorov_smirnov(np.array([]), np.array([1.0])) == 1.0


def test_frechet_distance_of_two_gaussians_by_hand() -> None:
    a = (np.array([0.0, 0.0]), np.diag([1.0, 4.0]))
    b = (np.array([3.0, 4.0]), np.diag([4.0, 4.0]))
    assert frechet(a, b) == pytest.approx(25 + (1 - 2) ** 2)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_area_under_curve_counts_ties_half() -> None:
    assert area_under_curve(
        np.array([True, True, False, False]), np.array([3.0, 1.0, 1.0, 0.0])
    ) == pytest.approx(0.875)


def test_association_of_equal_and_of_independent_columns() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 2000)
    digits = np.stack([a, a, rng.permutation(a)], 1)
    strength = associations(digits, [(0, 1), (0, 2)])
    assert strength[0] == pytest.approx(1.0, abs=1e-6) and strength[1] < 0.06


def test_a_class_never_generated_costs_usefulness() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 100)
    x = rng.normal(np.repeat([0, 3, 6], 100)[:, None], 1, (300, 2))
    whole, lacking = (
        classify(x[:n], y[:n], x, y, trees=trees).value for trees, n in ((False, 300), (False, 200))
    )
    assert whole > 0.9 and lacking < 0.68
    assert classify(x[:100], y[:100], x, y, trees=True).value == 0.5


def test_models_of_usefulness_leave_the_global_generator_alone() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    y = x[:, 0] > 0
    before = np.random.get_state(legacy=False)["state"]
    classify(x, y, x, y, trees=True)
    regress(x, x[:, 1], x, x[:, 1], trees=True)
    tell_apart(x, x + 1, 0)
    after = np.random.get_state(legacy=False)["state"]
    assert before["pos"] == after["pos"] and (before["key"] == after["key"]).all()


def test_pictures_name_values_in_one_order() -> None:
    column = pa.chunked_array([["b", "c", "a", None], ["c", "b"]])
    assert list(frequencies(column).items()) == [
        ("b", 2 / 6),
        ("c", 2 / 6),
        ("(missing)", 1 / 6),
        ("a", 1 / 6),
    ]


def test_next_character_model_by_hand() -> None:
    train = [code_points("abcdeabcdeabcde")]
    assert predict_next(train, [code_points("deabcdeabc")]) == 1.0
    assert predict_next(train, [code_points("xyxyxyxyxy")]) == 0.0
    assert len(grams([code_points("abc"), code_points("abd")], 2)) == 4
    assert len(set(grams([code_points("abc"), code_points("abd")], 2).tolist())) == 3


def test_nan_is_refused_by_name_and_nulls_are_not() -> None:
    real = table(200, 1)
    spoilt = real.set_column(0, "income", pa.array([float("nan")] + [1.0] * 199))
    with pytest.raises(QualityError, match="income: NaN or infinite values"):
        fidelity(real, spoilt, TABLE)
    hollow = real.set_column(2, "debt", pa.array([None] * 200, pa.float64()))
    assert 0 < fidelity(real, hollow, TABLE) < fidelity(real, table(200, 2), TABLE)


def test_nan_inside_a_series_and_wrong_lengths_are_refused() -> None:
    real = series(60, 1)
    rows = real.column("a").to_pylist()
    with pytest.raises(QualityError, match="a, row 3: NaN"):
        fidelity(real, real.set_column(0, "a", pa.array([*rows[:3], [float("nan")] * 24, *rows[4:]])), SERIES)
    with pytest.raises(QualityError, match="a, row 0: 2 steps; expected 24"):
        fidelity(real, real.set_column(0, "a", pa.array([[1.0, 2.0], *rows[1:]])), SERIES)


def test_missing_steps_hold_the_last_value() -> None:
    real = series(80, 1)
    rows = real.column("a").to_pylist()
    gaps = pa.array([[None if (i + j) % 9 == 0 else v for j, v in enumerate(r)] for i, r in enumerate(rows)])
    assert fidelity(real, real.set_column(0, "a", gaps), SERIES) > 0.8


def test_unreadable_media_name_the_row() -> None:
    broken = [{"bytes": b"not a picture", "path": None}] * 3
    with pytest.raises(DataError, match="row 0"):
        fidelity(
            images(60, 1),
            pa.table({"image": pa.array(broken, BLOB), "label": ["bar0"] * 3}),
            image_schema(12),
        )
    with pytest.raises(DataError, match="row 0"):
        fidelity(audio(60, 1), pa.table({"audio": pa.array(broken, BLOB), "label": ["w0"] * 3}), AUDIO)


def test_wrong_labels_cost_image_fidelity() -> None:
    real, made = images(300, 1), images(300, 2)
    rng = np.random.default_rng(0)
    lying = made.set_column(1, "label", pa.array(rng.permutation(made.column("label").to_pylist())))
    judge = Fidelity(real, image_schema(12))
    assert judge.score(lying) < judge.score(made) - 0.2


def test_generating_one_class_of_three_is_seen() -> None:
    train, holdout = images(600, 1), images(300, 2)
    many = images(900, 3)
    one = many.filter(pa.compute.equal(many.column("label"), "bar2")).slice(0, 250)
    report = evaluate_tables(train, holdout, one, image_schema(12))
    assert report.metrics["fidelity"] < 0.6 * report.metrics["fidelity_ceiling"]
    assert any("label" in warning for warning in report.warnings)


def test_large_images_are_judged_at_a_bounded_size() -> None:
    schema = image_schema(96)
    judge = Fidelity(images(60, 1, side=96), schema)
    assert judge.judge.real.x.shape == (60, 32, 32, 1)
    assert judge.score(images(60, 2, side=96)) > judge.score(images(60, 3, side=96, shuffle=True))


def test_without_a_target_usefulness_says_why_not() -> None:
    schema = TABLE.model_copy(update={"target": None})
    found = evaluate_tables(table(300, 1), table(100, 2), table(100, 3), schema)
    score = found.score("usefulness")
    assert score.value is None and score.reason == "the schema names no target column to predict"
    assert "usefulness" not in found.metrics


def test_a_numeric_target_is_predicted() -> None:
    schema = TABLE.model_copy(update={"target": "income"})
    score = evaluate_tables(table(600, 1), table(200, 2), table(300, 3), schema).score("usefulness")
    assert score.unit == "R²" and score.value > 0.5 > score.floor + 0.2


def test_one_column_of_categories_is_enough() -> None:
    schema = Schema(kind="tabular", fields=(Category(name="c"), Integer(name="n")))
    rng = np.random.default_rng(0)
    a, b, c = (pa.table({"c": rng.choice(["x", "y"], 80), "n": pa.array([1] * 80)}) for _ in range(3))
    assert evaluate_tables(a, b, c, schema).metrics["fidelity"] > 0.6


def test_text_of_empty_documents_scores_nothing_and_does_not_crash() -> None:
    assert fidelity(text(60, 1), pa.table({"text": ["", ""]}), TEXT) == 0.0
