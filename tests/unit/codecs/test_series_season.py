"""Days and weeks: found where there are some, at the place at which each series begins, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.series import SeriesCodec
from genpipe.codecs.series_season import find_season, read_season
from genpipe.fields import Series
from genpipe.schema import Schema

DAY, WEEK, STEPS = 8, 56, 160


def weeks(rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(N, T, 2) of a channel of days and free days and one of noise; and where in the week each begins."""
    rng = np.random.default_rng(seed)
    begins = rng.integers(0, WEEK, rows)
    at = begins[:, None] + np.arange(STEPS)
    free = at // DAY % 7 >= 5
    course = np.where(free, 0.4, 1.0) * np.cos(2 * np.pi * at / DAY) - 0.5 * free
    level = rng.normal(0, 0.5, (rows, 1))
    noise = rng.normal(0, 0.3, (2, rows, STEPS))
    return np.stack([course + level + noise[0], noise[1].cumsum(1) / 5], -1), begins


def codec_of(x: np.ndarray, **config: Any) -> tuple[SeriesCodec, pa.RecordBatch]:
    schema = Schema(kind="series", fields=tuple(Series(name=n, length=STEPS, decimals=3) for n in "ab"))
    columns = [pa.array(list(x[..., c].round(3))) for c in range(2)]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema.arrow())
    codec = fit(SeriesCodec, schema, [batch], CodecConfig(**config))
    assert isinstance(codec, SeriesCodec)
    return codec, batch


def test_day_and_week_are_found_and_where_series_begin() -> None:
    x, begins = weeks()
    season = find_season(x, 5)
    assert season is not None and season.periods == (WEEK, DAY)
    turned = (season.places(x) - begins) % WEEK  # the course may begin on any day
    assert (turned == np.bincount(turned).argmax()).mean() > 0.99


def test_a_walk_and_noise_have_no_season() -> None:
    rng = np.random.default_rng(1)
    walk = rng.normal(size=(200, STEPS, 2)).cumsum(1)
    assert find_season(walk, 5) is None
    assert find_season(rng.normal(size=(200, STEPS, 1)), 5) is None
    assert find_season(weeks()[0][:, :12], 5) is None  # too short to see anything twice


def test_a_history_is_placed_by_what_is_given_of_it() -> None:
    x, _ = weeks()
    season = find_season(x, 5)
    assert season is not None
    begun = x.copy()
    begun[:, WEEK + DAY :] = np.nan
    assert (season.places(begun) == season.places(x)).mean() > 0.95


def test_beginnings_are_drawn_as_often_as_they_come() -> None:
    x, begins = weeks(2000)
    season = find_season(x[begins % DAY == 3], 1)  # always at one hour of the day
    assert season is not None
    drawn = season.draw(500, np.random.default_rng(0))[:, 1]
    assert len(np.unique(drawn % DAY)) == 1 and len(np.unique(drawn)) == 7


def test_places_of_few_series_are_not_told_apart() -> None:
    x, _ = weeks(300)
    season = find_season(x, 50)
    assert season is not None and len(np.unique(season.begins[season.begins > 0])) == 1


def test_levels_hold_about_equally_many_series() -> None:
    x, _ = weeks()
    season = find_season(x, 5)
    assert season is not None
    level = season.conditions(x)[:, 0]
    assert np.bincount(level).min() >= 15 and np.bincount(level).max() <= 35 and len(season.edges) == 11
    high = (x.mean(1) @ season.along).argsort()
    assert (np.diff(level[high]) >= 0).all()


def test_codec_tells_the_place_and_leaves_it_out_of_the_rows() -> None:
    codec, batch = codec_of(weeks()[0], season=True)
    assert codec.spec("sequence").periods == (WEEK, DAY)
    again = SeriesCodec.from_json(codec.schema, json.loads(json.dumps(codec.to_json())))
    arrays = again.encode(batch, "sequence")
    np.testing.assert_array_equal(arrays["condition"], codec.encode(batch, "sequence")["condition"])
    assert arrays["condition"].shape == (300, 2)
    assert again.decode(arrays, "sequence", np.random.default_rng(0)).schema.names == ["a", "b"]
    assert again.draw_conditions(7, np.random.default_rng(0)).shape == (7, 2)


def test_without_being_asked_nothing_is_told() -> None:
    codec, batch = codec_of(weeks()[0])
    assert "season" not in codec.to_json() and codec.spec("sequence").conditions == ()
    assert codec.encode(batch, "sequence")["condition"].shape == (300, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"periods": [WEEK, 5]},
        {"periods": []},
        {"begins": [0.0] * WEEK},
        {"begins": [0.5] * 3},
        {"course": [[float("nan"), 0.0]] * WEEK},
        {"course": [[0.0]] * WEEK},
        {"along": [1.0]},
        {"edges": [1.0, 0.0]},
        {"extra": 1},
    ],
)
def test_what_a_stranger_says_of_a_season_is_checked(changed: dict[str, Any]) -> None:
    season = find_season(weeks()[0], 5)
    assert season is not None and read_season(season.to_json(), 2) is not None
    with pytest.raises(ValueError):
        read_season(season.to_json() | changed, 2)


def test_one_entity_of_many_series_does_not_make_a_place_common() -> None:
    x, begins = weeks(400)
    who = np.arange(400)
    mine = begins == begins[0]
    x = np.concatenate([x, np.repeat(x[:1], 200, 0)])  # somebody whose series all begin at one hour
    who = np.concatenate([who, np.full(200, who[mine][0])])
    season = find_season(x, 5, who)
    assert season is not None
    alone = find_season(x[:400], 5, who[:400])
    assert alone is not None and np.array_equal(season.begins, alone.begins)
    assert find_season(x, 5, np.zeros(len(x), np.uint64)) is None  # one entity has no course to tell


def test_edges_of_levels_say_where_many_are() -> None:
    x, _ = weeks()
    season = find_season(x, 5)
    assert season is not None and len(season.edges) > 3
    levels = np.sort(x.mean(1) @ season.along)
    for edge in season.edges:  # no edge is some series' own mean, to the last digit
        assert np.abs(levels - edge).min() > 1e-6
