"""How a number is written may follow from its row: then it is learnt, and comes back so."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.endings import on_step, steps
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.codecs.tabular.numeric import Scale
from genpipe.fields import Integer, Number
from genpipe.schema import Schema

ROWS = 8_000
LADDER = (1, 5, 10, 100)


def survey(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Shares of two decimals before 1990, of five since; a count that knows nothing of the year."""
    year = rng.integers(1980, 2000, ROWS)
    share = np.round(rng.uniform(0, 100, ROWS), 5)
    other = np.round(rng.lognormal(3, 1, ROWS), 5)
    early = year < 1990
    return {
        "year": year,
        "share": np.where(early, np.round(share, 2), share),
        "other": np.where(early, np.round(other, 2), other),
        "count": np.rint(rng.lognormal(7, 1, ROWS)).astype(int),
    }


def fitted(rows: dict[str, np.ndarray], **config: object) -> tuple[TabularCodec, pa.RecordBatch]:
    kinds = {"i": Integer, "f": Number}
    places = {"decimals": 5}
    fields = tuple(
        kinds[v.dtype.kind](name=n, nullable=True, **(places if v.dtype.kind == "f" else {}))
        for n, v in rows.items()
    )
    schema = Schema(kind="tabular", fields=fields)
    batch = pa.RecordBatch.from_arrays(
        [pa.array(v, from_pandas=True) for v in rows.values()], names=list(rows)
    )
    codec = fit(TabularCodec, schema, [batch.cast(schema.arrow())], CodecConfig(**config))  # type: ignore[arg-type]
    assert isinstance(codec, TabularCodec)
    return codec, batch.cast(schema.arrow())


def ladders(codec: TabularCodec) -> dict[str, tuple[int, ...]]:
    return {c.field.name: c.cells.ladder for c in codec.columns if isinstance(c, Scale) and c.cells.ladder}


@pytest.mark.parametrize("rare", ["protect", "keep"])
def test_decimals_of_a_row_come_back_as_they_were(rare: str) -> None:
    rows = survey(np.random.default_rng(0))
    rows["other"][::10] = np.nan
    codec, batch = fitted(rows, rare=rare)
    assert set(ladders(codec)) == {"share", "other"} and ladders(codec)["share"][:2] == (1, 10)
    codec = TabularCodec.from_json(codec.schema, json.loads(json.dumps(codec.to_json())))
    codes = codec.encode(batch, "tokens")
    made = codec.decode(codes, "tokens", np.random.default_rng(1))
    assert np.mean(codec.encode(made, "tokens")["x"] == codes["x"]) > 0.999
    early = batch["year"].to_numpy() < 1990
    for name in ("share", "other"):
        values = made[name].to_numpy(zero_copy_only=False)
        there = ~np.isnan(values)
        assert (there == ~np.isnan(batch[name].to_numpy(zero_copy_only=False))).all()
        two = np.abs(values * 100 - np.rint(values * 100)) < 1e-6
        assert two[early & there].mean() > 0.999 and two[~early & there].mean() < 0.01


def test_columns_that_tell_nothing_of_each_other_cost_no_token() -> None:
    rng = np.random.default_rng(0)
    rows = {name: rng.permutation(values) for name, values in survey(rng).items()}
    codec, _ = fitted(rows)
    assert not ladders(codec) and codec.spec("tokens").shape == (4,)


def test_of_few_rows_none_is_found() -> None:
    rows = {name: values[:400] for name, values in survey(np.random.default_rng(0)).items()}
    assert not ladders(fitted(rows)[0])


def test_densities_of_a_bin_and_its_steps_add_up_to_one() -> None:
    codec, _ = fitted(survey(np.random.default_rng(0)))
    column = next(c for c in codec.learnt if c.field.name == "share")
    assert isinstance(column, Scale)
    values = pa.array(np.arange(5_000_000, 5_400_000) / 1e5)
    codes, density = column.encode(values), np.exp(column.log_density(values))
    whole = np.bincount(codes, density)[np.unique(codes)]
    inside = np.unique(codes // column.steps)[1:-1]  # bins that lie in this stretch from end to end
    within = np.isin(np.unique(codes) // column.steps, inside)
    assert len(inside) > 1 and whole[within] == pytest.approx(1.0, abs=0.1)


def test_points_move_to_the_step_that_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    points, nth = rng.integers(0, 10_000, 5_000), rng.integers(0, len(LADDER), 5_000)
    ends = np.tile([0, 10_000], (5_000, 1))
    made = on_step(points, nth, LADDER, ends, rng)
    assert (steps(made, LADDER) == nth).all() and np.abs(made - points).max() <= 100
    narrow = on_step(np.array([7]), np.array([3]), LADDER, np.array([[3, 9]]), rng)
    assert narrow.tolist() == [7]  # no multiple of a hundred lies there


@pytest.mark.parametrize("ladder", [[2, 4], [1, 10, 15], [1, 10, 10]])
def test_a_ladder_whose_steps_do_not_divide_each_other_is_refused(ladder: list[int]) -> None:
    codec, _ = fitted(survey(np.random.default_rng(0)))
    content = json.loads(json.dumps(codec.to_json()))
    content["columns"]["share"]["cells"]["endings"]["ladder"] = ladder
    with pytest.raises(Exception, match=r"ladder|shares"):
        TabularCodec.from_json(codec.schema, content)
