"""The small models behind usefulness and telling-apart: fitted in well under a second, seeded."""

from __future__ import annotations

from typing import Any

import numpy as np

from genpipe.evaluation.base import Usefulness

FOLDS = 3
# beyond 200,000 rows trees bin a sample, by default one of the global generator
TREES: dict[str, Any] = {"max_iter": 100, "max_leaf_nodes": 15, "early_stopping": False, "random_state": 0}


def area_under_curve(positive: np.ndarray, score: np.ndarray) -> float:
    """ROC AUC by ranks, ties at half; 0.5 where one side is empty."""
    from scipy.stats import rankdata

    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not n_pos or not n_neg:
        return 0.5
    return float((rankdata(score)[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def tell_apart(real: np.ndarray, other: np.ndarray, seed: int, *, rounds: int = 30) -> float:
    """Cross-validated AUC of gradient boosting that tells two matrices apart (Lopez-Paz & Oquab, 2017,
    arXiv 1610.06545): 0.5 = cannot, 1 = always."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    x = np.concatenate([real, other])
    y = np.repeat([0, 1], [len(real), len(other)])
    if min(len(real), len(other)) < FOLDS:
        return 1.0
    found = []
    for fit, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(x, y):
        model = HistGradientBoostingClassifier(**TREES | {"max_iter": rounds, "learning_rate": 0.15})
        seen = x[:, ~np.isnan(x[fit]).all(0)]  # a column that is missing in all of these has no bins
        if not seen.shape[1]:
            return 0.5
        model.fit(seen[fit], y[fit])
        found.append(area_under_curve(y[test] == 1, model.predict_proba(seen[test])[:, 1]))
    return float(np.mean(found))


def linear() -> Any:
    """A linear classifier of standardised values (logistic regression), not fitted yet."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.3))


def classify(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, *, trees: bool
) -> Usefulness:
    """AUC (trees: macro one-against-rest) or accuracy (linear) on the test rows.

    Classes the fitted side lacks get probability 0, so a generator that drops a class pays for it.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    measure = "AUC" if trees else "accuracy"
    y, y_test = y.astype(str), y_test.astype(str)
    classes, counts = np.unique(y_test, return_counts=True)
    chance = 0.5 if trees else float(counts.max() / counts.sum())
    if len(classes) < 2:
        return Usefulness(measure, None, chance, "the real holdout has a single class")
    if len(np.unique(y)) < 2:
        constant = 0.5 if trees else float((y_test == y[0]).mean()) if len(y) else 0.0
        return Usefulness(measure, constant, chance)
    model = HistGradientBoostingClassifier(**TREES) if trees else linear()
    known = model.fit(x, y).classes_
    given = model.predict_proba(x_test)
    if not trees:
        return Usefulness(measure, float((known[given.argmax(1)] == y_test).mean()), chance)
    column = {c: given[:, i] for i, c in enumerate(known)}
    nothing = np.zeros(len(y_test))
    asked = classes[1:] if len(classes) == 2 else classes
    aucs = [area_under_curve(y_test == c, column.get(c, nothing)) for c in asked]
    return Usefulness(measure, float(np.mean(aucs)), chance)


def regress(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, *, trees: bool
) -> Usefulness:
    """R² on the test rows; worse than the mean counts as 0."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    total = float(((y_test - y_test.mean(0)) ** 2).sum())
    if total <= 0 or len(y) < 2:
        return Usefulness(
            "R²",
            None if total <= 0 else 0.0,
            0.0,
            "the real holdout's target is constant" if total <= 0 else "",
        )
    model = HistGradientBoostingRegressor(**TREES) if trees else make_pipeline(StandardScaler(), Ridge(1.0))
    predicted = model.fit(x, y).predict(x_test)
    return Usefulness("R²", max(0.0, 1.0 - float(((predicted - y_test) ** 2).sum()) / total))
