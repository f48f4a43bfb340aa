"""Small committed datasets for tests that train: a table with a class, in as many parts as wanted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.dataset import Dataset, commit, new_attempt, write_part
from genpipe.fields import Category, Number
from genpipe.schema import Schema

SCHEMA = Schema(
    kind="tabular",
    fields=(Number(name="height"), Number(name="weight"), Category(name="colour"), Category(name="group")),
    target="group",
)


def small_table(rows: int, *, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, rows)
    height = rng.normal(150 + 15 * group, 5)
    columns = {
        "height": height,
        "weight": 0.5 * height + rng.normal(0, 3, rows),
        "colour": np.array(["red", "green", "blue"])[(group + (rng.random(rows) < 0.2)) % 3],
        "group": np.array(["a", "b", "c"])[group],
    }
    return pa.table({n: pa.array(v) for n, v in columns.items()}, schema=SCHEMA.arrow())


def small_dataset(
    uri: str, *, rows: int = 400, parts: int = 1, holdout: int = 100, schema: Schema = SCHEMA
) -> Dataset:
    """schema: of some of the columns."""
    attempt, written = new_attempt(), []
    for k in range(parts):
        table = small_table(rows // parts, seed=k).select(schema.names)
        written.append(write_part(uri, table, split="train", name=f"train-{k:05d}", attempt=attempt))
    table = small_table(holdout, seed=1000).select(schema.names)
    written.append(write_part(uri, table, split="holdout", name="holdout-00000", attempt=attempt))
    return commit(uri, name="people", schema=schema, parts=written, origin={"stage": "test"})
