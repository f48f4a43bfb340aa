"""cluster and classify: what codes know of labels. The encoder is never told the target it is asked for.

N rows · Z numbers of a code
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.dataset import Dataset
from genpipe.errors import UsageError
from genpipe.evaluation.base import one_thread
from genpipe.evaluation.learners import linear
from genpipe.fields import Category, Integer, Number
from genpipe.progress import Event, Progress, silent
from genpipe.requests import Classify, Cluster
from genpipe.schema import Schema
from genpipe.seeds import derive, numpy_rng
from genpipe.stages.latent.opened import Block, Opened, codes_of_block, open_rows
from genpipe.stages.latent.rows import as_batch, each_block, labels, values_of

MOST_FIT, MOST_TEST, MOST_PAIRS = 10_000, 10_000, 5_000  # rows fitted to, tested on, compared pair by pair
TRIES = 5  # draws of few labelled rows, whose accuracies are averaged
WIDEST = 64  # numbers of a code whose covariances a mixture learns


def cluster(asked: Cluster, *, progress: Progress = silent) -> Dataset:
    """The group of each row: `cluster`, from 0, and `distance` of its code to the middle of its group.

    Fitted to the codes of at most 10,000 rows. Scores: the silhouette (Rousseeuw 1987; 1 is far apart, 0
    touching) of codes; against a label column the adjusted Rand index (Hubert & Arabie 1985; 0 is chance, 1
    equal) and the normalised mutual information, beside those of the same method on the rows' own values.
    """
    opened = open_rows(asked, blind=True, columns=[asked.against] if asked.against else [])
    target = asked.against or next(iter(opened.bundle.schema.conditions), "")
    target = target if target in opened.data.schema.names else ""
    schema = Schema(kind="tabular", fields=opened.fields(Integer(name="cluster"), Number(name="distance")))
    scores = dict[str, Any]()

    def made() -> Iterator[pa.RecordBatch]:
        each = max(1, MOST_FIT // len(opened.splits))
        tables = [opened.some(split, each, asked.seed) for split in opened.splits]
        table = pa.concat_tables(tables)
        if table.num_rows < asked.clusters:
            found = f"{asked.clusters} clusters of {table.num_rows} rows"
            raise UsageError("CLUSTERS", where="clusters", found=found, expected="no more than rows")
        progress(Event("cluster", note=f"fitting {asked.clusters} groups to {table.num_rows:,} codes"))
        codes, raw = opened.codes(table, blind=True), values_of(opened.bundle, table)
        truth = labels(table.column(target).combine_chunks()) if target else None
        model = _grouped(asked, codes)
        scores.update(_agreement(asked, model, codes, raw, truth))
        middles = model.cluster_centers_ if asked.method == "kmeans" else model.means_
        for block, z in each_block(opened, codes_of_block, True):
            with one_thread():
                mine = model.predict(z.astype(np.float64))
            apart = np.linalg.norm(z - middles[mine], axis=1)
            columns = {
                "cluster": pa.array(mine.astype(np.int64)),
                "distance": pa.array(apart.astype(np.float64)),
            }
            yield as_batch(opened.keys(block) | columns, schema)

    return opened.write(made(), schema, progress, lambda: scores)


def _grouped(asked: Cluster, points: np.ndarray) -> Any:
    """k-means, or a mixture of Gaussians, fitted to points (N, Z)."""
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    seed = derive(asked.seed, "cluster") % 2**32
    with one_thread():
        if asked.method == "kmeans":
            return KMeans(asked.clusters, n_init=4, random_state=seed).fit(points.astype(np.float64))
        kind = "full" if points.shape[1] <= WIDEST else "diag"
        model = GaussianMixture(asked.clusters, covariance_type=kind, reg_covar=1e-3, random_state=seed)
        return model.fit(points.astype(np.float64))


def _agreement(
    asked: Cluster, model: Any, codes: np.ndarray, raw: np.ndarray, truth: np.ndarray | None
) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

    with one_thread():
        mine = model.predict(codes.astype(np.float64))
        few = slice(0, MOST_PAIRS)
        found = dict[str, Any]()
        if 1 < len(np.unique(mine[few])) < len(mine[few]):
            found["silhouette"] = float(silhouette_score(codes[few], mine[few]))
        if truth is None:
            return found
        plain = _grouped(asked, raw).predict(raw.astype(np.float64))
    for name, groups in (("", mine), ("_of_raw_values", plain)):
        found[f"adjusted_rand{name}"] = float(adjusted_rand_score(truth, groups))
        found[f"mutual_information{name}"] = float(normalized_mutual_info_score(truth, groups))
    return found | {"labels": len(np.unique(truth))}


def classify(asked: Classify, *, progress: Progress = silent) -> Dataset:
    """The label of each held-out row that a linear classifier of codes reads: `label`, `predicted`,
    `probability` of that.

    It learns from at most 10,000 training rows, or from `labelled` rows of each label, drawn five times and
    averaged (the rows delivered are of the first draw), and is tested on at most 10,000 held-out ones. Of a
    dataset of one split a fifth is held out. Scores: accuracy, beside that of the same classifier on the
    rows' own values with the same labels, and that of always saying the commonest label.
    """
    opened = open_rows(asked, blind=True, columns=[asked.target] if asked.target else [])
    target = _target(opened, asked)
    fields = (Category(name="label"), Category(name="predicted"), Number(name="probability"))
    schema = Schema(kind="tabular", fields=opened.fields(*fields))
    scores = dict[str, Any]()
    rows = _places(opened, asked.seed)

    def made() -> Iterator[pa.RecordBatch]:
        progress(Event("classify", note="reading codes"))
        (split, learn), (other, test) = rows
        seen, unseen = opened.data.rows_at(split, learn), opened.data.rows_at(other, test)
        y, y_test = (labels(t.column(target).combine_chunks()) for t in (seen, unseen))
        if len(np.unique(y)) < 2:
            found = f"{len(np.unique(y))} label in {len(y)} rows"
            raise UsageError("TARGET", where=target, found=found, expected="two or more")
        codes = [opened.codes(table, blind=True) for table in (seen, unseen)]
        raw = [values_of(opened.bundle, table) for table in (seen, unseen)]
        model, told = _learnt(asked, codes, y, y_test, raw, progress)
        scores.update(told)
        chances = model.predict_proba(codes[1])
        predicted = model.classes_[chances.argmax(1)]
        for start in range(0, len(test), opened.bundle.block_rows):
            piece = slice(start, start + opened.bundle.block_rows)
            batch = unseen.slice(start, opened.bundle.block_rows).combine_chunks().to_batches()[0]
            keys = opened.keys(Block(other, 0, batch)) | {"row": pa.array(test[piece])}
            columns = {
                "label": pa.array(y_test[piece].tolist()),
                "predicted": pa.array(predicted[piece].tolist()),
            }
            yield as_batch(keys | columns | {"probability": pa.array(chances[piece].max(1))}, schema)

    return opened.write(made(), schema, progress, lambda: scores, rows=len(rows[1][1]))


def _target(opened: Opened, asked: Classify) -> str:
    """The label column. Raises where there is none, or the code was made from it."""
    schema = opened.bundle.schema
    name = asked.target or next(iter(schema.conditions), "")
    if not name or name not in opened.data.schema.names:
        fix = "say which column holds the labels (--target)"
        raise UsageError("TARGET", where="target", found=f"no column {name!r}" if name else "none", fix=fix)
    if opened.data.schema.field(name).kind not in ("category", "boolean", "integer"):
        found = f"a column of {opened.data.schema.field(name).kind}"
        raise UsageError("TARGET", where=name, found=found, expected="a choice of few")
    if schema.kind == "tabular" and name in schema.names and name not in schema.conditions:
        raise UsageError(
            "TARGET",
            where=name,
            found="a column that codes are made from, so they hold it",
            expected="the generator's target, or a column it did not learn",
            fix=f"ingest with --target {name}, and train again",
        )
    return name


def _places(opened: Opened, seed: int) -> tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]:
    """(split, rows) to learn from and to test on."""
    rng, splits = numpy_rng(seed, "classify", "rows"), opened.splits
    first = rng.permutation(opened.count(splits[0]))
    if len(splits) > 1:
        learn, test = first, rng.permutation(opened.count(splits[1]))
    else:
        learn, test = np.split(first, [len(first) - len(first) // 5])
    if len(learn) < 2 or not len(test):
        found = f"{len(first)} rows"
        raise UsageError(
            "ROWS", where=opened.data.uri, found=found, expected="rows to learn from and to test"
        )
    return (splits[0], np.sort(learn[:MOST_FIT])), (splits[-1], np.sort(test[:MOST_TEST]))


def _learnt(
    asked: Classify,
    codes: list[np.ndarray],
    y: np.ndarray,
    y_test: np.ndarray,
    raw: list[np.ndarray],
    progress: Progress,
) -> tuple[Any, dict[str, Any]]:
    """The classifier of codes (of the first draw of labelled rows), and what was measured."""
    models, right = list[Any](), dict[str, list[float]]()
    tries = TRIES if asked.labelled else 1
    for number in range(tries):
        chosen = _chosen(y, asked.labelled, asked.seed, number)
        progress(
            Event("classify", number, tries, "draws", note=f"learning from {len(chosen):,} labelled rows")
        )
        for name, (x, x_test) in (("accuracy", codes), ("accuracy_of_raw_values", raw)):
            with one_thread():
                model = linear().fit(x[chosen], y[chosen])
                right.setdefault(name, []).append(float((model.predict(x_test) == y_test).mean()))
            models += [model] if name == "accuracy" else []
    names, counts = np.unique(y, return_counts=True)
    told = {name: float(np.mean(each)) for name, each in right.items()}
    told |= {f"{name}_deviation": float(np.std(each)) for name, each in right.items() if tries > 1}
    told["accuracy_of_commonest"] = float((y_test == names[counts.argmax()]).mean())
    told |= {"labelled": len(chosen), "tested": len(y_test), "labels": len(names), "draws": tries}
    return models[0], told


def _chosen(y: np.ndarray, each: int | None, seed: int, number: int) -> np.ndarray:
    """Places of so many rows of each label, or of all rows."""
    if each is None:
        return np.arange(len(y))
    order = numpy_rng(seed, "classify", number).permutation(len(y))
    return np.sort(np.concatenate([order[y[order] == name][:each] for name in np.unique(y)]))
