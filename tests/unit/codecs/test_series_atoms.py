"""Values that are frequent, such as no rain, come back from what is near them on the scale of scores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.channel import spaced
from genpipe.codecs.scale import Score
from genpipe.codecs.series import SeriesCodec
from genpipe.fields import Series
from genpipe.schema import Schema

STEPS = 24


@pytest.mark.parametrize("rare", ["protect", "keep"])
def test_no_light_at_night_is_none(rare: str) -> None:
    rng = np.random.default_rng(0)
    light = np.where(rng.random((400, STEPS)) < 0.4, 0.0, rng.uniform(0, 600, (400, STEPS))).round(1)
    schema = Schema(kind="series", fields=(Series(name="light", length=STEPS, decimals=1),))
    batch = pa.RecordBatch.from_arrays([pa.array(list(light))], schema=schema.arrow())
    codec = fit(SeriesCodec, schema, [batch], CodecConfig(rare=rare))
    x = codec.encode(batch, "sequence")["x"]
    read = SeriesCodec.from_json(schema, codec.to_json())

    def decoded(scores: np.ndarray) -> np.ndarray:
        arrays = {"x": scores.astype(np.float32), "condition": np.zeros((400, 0), np.int64)}
        made = read.decode(arrays, "sequence", rng).column(0).to_numpy(zero_copy_only=False)
        return np.stack(made)

    high = codec.channels[0].axis.high / 10  # a round number, which no single row decides
    assert np.abs(decoded(x) - light.clip(max=high)).max() <= codec.tolerance("sequence")["light"]
    noisy = decoded((x + rng.normal(0, 0.01, x.shape)).clip(-1, 1))
    assert (noisy[light == 0] == 0).all() and (noisy[light > 5] > 0).all()
    assert np.median(np.abs(noisy - light)[light > 5] / light[light > 5]) < 0.1


def test_room_is_made_on_both_sides_where_there_is_any() -> None:
    score = Score(np.array([0.0, 10.0, 11.0, 30.0]), np.array([-1.0, 0.0, 0.2, 1.0]))
    points, shares = np.array([0, 10, 11, 12, 30]), np.array([0.1, 0.5, 0.01, 0.01, 0.38])
    found = spaced(score, points, shares)
    assert found.knots.tolist() == [0, 1, 9, 10, 11, 29, 30]
    assert found.scores.tolist() == pytest.approx([-1, -0.2, -0.16, 0, 0.2, 0.36, 1])
    assert spaced(score, points, np.full(5, 0.01)).knots.tolist() == score.knots.tolist()
