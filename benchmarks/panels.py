"""Can rows of made-up entities be told from real ones, each beside what its entity's rows have in common?

A classifier sees every row with the mean, spread, least, greatest and number of values of each column over
the rows of its entity, and the difference to the row before ("discriminative detection with aggregation",
Hudovernik, Jurkovič & Štrumbelj 2024, arXiv 2410.03411). Entities are never on both sides of a fold.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def numeric(table: pd.DataFrame, like: pd.DataFrame, who: str) -> pd.DataFrame:
    """Every column as numbers: dates as days, words by how common they are in `like`."""
    out = {}
    for name in table.columns.drop(who):
        values = like[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            out[name] = table[name].astype(float)
        elif name.endswith(("date", "day")) and not pd.api.types.is_numeric_dtype(values):
            out[name] = pd.to_datetime(table[name]).astype("int64") / 8.64e13
        else:
            rank = {value: place for place, value in enumerate(values.value_counts().index)}
            out[name] = table[name].map(rank).fillna(-1).astype(float)
    return pd.DataFrame(out)


def with_aggregates(table: pd.DataFrame, like: pd.DataFrame, who: str) -> pd.DataFrame:
    rows = numeric(table, like, who)
    by = rows.groupby(table[who].to_numpy(), sort=False)
    told = [by.transform(what).add_suffix(f" {what}") for what in ("mean", "std", "min", "max", "nunique")]
    size = by[rows.columns[0]].transform("size").rename("rows")
    return pd.concat([rows, *told, by.diff().add_suffix(" since"), size], axis=1)


def told_apart(real: pd.DataFrame, made: pd.DataFrame, who: str) -> float:
    """AUC of the classifier, cross-validated by entity; 0.5 cannot tell."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    x = pd.concat([with_aggregates(t, real, who) for t in (real, made)], ignore_index=True)
    y = np.repeat([0, 1], [len(real), len(made)])
    of = np.concatenate([pd.factorize(real[who])[0], -1 - pd.factorize(made[who])[0]])
    names, group = np.unique(of, return_inverse=True)
    group = np.random.default_rng(0).permutation(len(names))[group]
    score = np.zeros(len(y))
    for fit, judge in GroupKFold(5).split(x, y, group):
        model = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(x.iloc[fit], y[fit])
        score[judge] = model.predict_proba(x.iloc[judge])[:, 1]
    return float(roc_auc_score(y, score))


def constant(table: pd.DataFrame, who: str, columns: list[str]) -> float:
    """The least share of entities in whose rows one of these columns is the same."""
    return float((table.groupby(who)[columns].nunique(dropna=False) <= 1).mean().min())


def counts_apart(real: pd.DataFrame, made: pd.DataFrame, who: str) -> float:
    """Kolmogorov-Smirnov distance of the numbers of rows an entity."""
    from scipy.stats import ks_2samp

    return float(ks_2samp(real.groupby(who).size(), made.groupby(who).size()).statistic)
