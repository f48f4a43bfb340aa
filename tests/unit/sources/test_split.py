"""How rows are spread over the splits: near the share asked for, and what is of one person together."""

from __future__ import annotations

from pathlib import Path

import pytest

from genpipe.verbs import ingest


@pytest.mark.parametrize("rows", [30, 100, 1000])
@pytest.mark.parametrize("common", [0.0, 0.5, 0.9, 0.99])
def test_the_holdout_has_its_share_however_often_rows_repeat(
    home: Path, tmp_path: Path, rows: int, common: float
) -> None:
    text = "".join(
        f"{'a' if i < common * rows else 'bcd'[i % 3]},{i * (i >= common * rows)}\n" for i in range(rows)
    )
    (tmp_path / "t.csv").write_text("product,amount\n" + text)
    made = ingest(str(tmp_path / "t.csv"), name="t", entity="none: sales, not people")
    assert abs(made.rows("holdout") / rows - 0.2) <= 0.02
    if common:
        commonest = sum(v == "a" for v in made.table("train")["product"].to_pylist())
        assert abs(commonest / made.rows("train") - common) < 0.05
    assert len({p.path.split("/")[1] for p in made.manifest.parts}) == 1


def test_entities_stay_together_and_near_the_share(home: Path, tmp_path: Path) -> None:
    text = "".join(f"{i // 7},{i % 5},{i * 37 % 11}\n" for i in range(420))
    (tmp_path / "t.csv").write_text("person,a,b\n" + text)
    made = ingest(str(tmp_path / "t.csv"), name="t", key="person")
    sides = [set(made.table(split)["person"].to_pylist()) for split in ("train", "holdout")]
    assert not sides[0] & sides[1] and sides[0] | sides[1] == set(range(60))
    assert abs(made.rows("holdout") / 420 - 0.2) <= 0.025


@pytest.mark.parametrize(
    "rows, holdout, said",
    [
        (30, 0.2, "30 rows are too few to tell"),
        (200, 0.2, "held-out rows are few: an evaluation will be cross-fitted"),
        (400, 0.2, ""),
        (1000, 0.02, "held-out rows are too few to judge by (it takes 50); raise holdout="),
    ],
)
def test_what_can_be_checked_is_known_at_ingest(
    home: Path, tmp_path: Path, rows: int, holdout: float, said: str
) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(rows)))
    notices = ingest(str(tmp_path / "t.csv"), name="t", holdout=holdout).manifest.origin["notices"]
    assert any(said in notice for notice in notices) if said else not any("rows are" in n for n in notices)
