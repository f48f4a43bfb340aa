"""Ingest finds what holds between columns, keeps what all rows hold, and offers what nearly all do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.dataset import Dataset
from genpipe.sources.schema_file import schema_from_yaml, schema_to_yaml
from genpipe.verbs import ingest

ROWS = 1200


def rides() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    casual, registered = rng.integers(0, 90, ROWS), rng.integers(5, 400, ROWS)
    fare = np.round(rng.lognormal(2, 0.6, ROWS), 2)
    start = pd.Timestamp("2024-03-01 08:00") + pd.to_timedelta(rng.integers(0, 90 * 1440, ROWS), unit="min")
    return pd.DataFrame(
        {
            "casual": casual,
            "registered": registered,
            "total": casual + registered,
            "fare": fare,
            "paid": fare,
            "start": start,
            "end": start + pd.to_timedelta(rng.integers(2, 90, ROWS), unit="min"),
            "billed": np.where(np.arange(ROWS) % 40 == 5, fare + 1, fare).round(2),
            "cost": (fare * rng.uniform(0.4, 0.9, ROWS)).round(2),
        }
    )


def taken(frame: pd.DataFrame, path: Path, **options: object) -> Dataset:
    frame.to_csv(path / "rides.csv", index=False)
    return ingest(str(path / "rides.csv"), name=path.name, **options)


def shown(dataset: Dataset) -> list[str]:
    return [str(c) for c in dataset.schema.constraints]


def test_what_all_rows_keep_is_a_constraint_with_its_reason_and_generated(tmp_path: Path) -> None:
    dataset = taken(rides(), tmp_path)
    assert shown(dataset) == ["paid = fare", "total = casual + registered", "start <= end"]
    assert {c.reason for c in dataset.schema.constraints} == {
        f"found: all {ROWS} rows that have these columns keep it"
    }
    codec = fit(TabularCodec, dataset.schema, dataset.batches("train"), CodecConfig())
    vocabulary = np.array(codec.spec("tokens").vocabulary)
    x = np.random.default_rng(0).integers(0, vocabulary, (500, len(vocabulary)))
    made = codec.decode(
        {"x": x, "condition": np.zeros((500, 0), np.int64)}, "tokens", np.random.default_rng(0)
    ).to_pandas()
    assert (made.total == made.casual + made.registered).all() and (made.paid == made.fare).all()
    assert (made.start <= made.end).all()


def test_what_nearly_all_rows_keep_is_offered_as_lines_that_can_be_uncommented(tmp_path: Path) -> None:
    dataset = taken(rides(), tmp_path)
    offered = dataset.manifest.origin["offered"]
    assert [(o["constraint"]["type"], o["broken"]) for o in offered] == [("sum", 30), ("inequality", 0)]
    text = schema_to_yaml(dataset.schema, offered)
    assert "97.5 % of 1200 rows" in text and "all 1200 rows" in text
    assert any("seen and not kept: billed = fare" in note for note in dataset.manifest.origin["notices"])
    (tmp_path / "as-it-is.yaml").write_text(text)
    assert schema_from_yaml(str(tmp_path / "as-it-is.yaml")) == dataset.schema
    (tmp_path / "kept.yaml").write_text(text.replace("# - {", "- {"))
    kept = schema_from_yaml(str(tmp_path / "kept.yaml"))
    assert [str(c) for c in kept.constraints[3:]] == ["billed = fare", "cost <= fare"]


def test_one_row_in_all_rows_that_breaks_it_makes_it_an_offer(tmp_path: Path) -> None:
    frame = pd.concat([rides()] * 5, ignore_index=True)
    frame.loc[17, "total"] += 1
    dataset = taken(frame, tmp_path)
    assert "total = casual + registered" not in shown(dataset)
    offered = {o["constraint"].get("total"): o for o in dataset.manifest.origin["offered"]}
    assert (offered["total"]["rows"], offered["total"]["broken"]) == (5 * ROWS, 1)


@pytest.mark.parametrize("how", ["option", "schema file", "entity"])
def test_nothing_is_kept_that_was_not_asked_for(how: str, tmp_path: Path) -> None:
    frame = rides()
    if how == "option":
        dataset = taken(frame, tmp_path, relations=False)
        assert "offered" not in dataset.manifest.origin
    elif how == "schema file":
        first = taken(frame, tmp_path)
        bare = first.schema.model_copy(update={"constraints": ()})
        (tmp_path / "schema.yaml").write_text(schema_to_yaml(bare))
        dataset = taken(frame, tmp_path, schema=str(tmp_path / "schema.yaml"))
    else:  # several rows a person are learnt together, and a constraint would have them learnt by row
        frame.insert(0, "rider_id", np.arange(ROWS) // 6)
        dataset = taken(frame, tmp_path, entity="rider_id")
        assert len(dataset.manifest.origin["offered"]) == 5
    assert dataset.schema.constraints == ()


def test_codes_within_other_columns_are_found_with_their_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    state, nth = rng.integers(0, 9, 4_000), rng.integers(0, 20, 4_000)
    frame = pd.DataFrame(
        {"state": state, "postal": 10_000 + 313 * state + 7 * nth, "n": rng.integers(0, 50, 4_000)}
    )
    frame["state"] = "S" + frame["state"].astype(str)
    dataset = taken(frame, tmp_path)
    assert shown(dataset) == ["postal within state"] and "codes" in dataset.schema.constraints[0].reason
    assert any("postal within state" in note for note in dataset.manifest.origin["notices"])
    assert schema_from_yaml(_saved(dataset, tmp_path)) == dataset.schema
    (tmp_path / "without").mkdir()
    assert not shown(taken(frame, tmp_path / "without", relations=False))


def _saved(dataset: Dataset, path: Path) -> str:
    (path / "schema.yaml").write_text(schema_to_yaml(dataset.schema))
    return str(path / "schema.yaml")
