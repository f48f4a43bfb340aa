"""Quantiles, scores, cells, offsets, series, text and mel bands against numbers worked out by hand."""

from __future__ import annotations

from math import log, log10, pi
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest
from media_files import png, wav

from genpipe.codecs import CODECS
from genpipe.codecs.audio import AudioCodec
from genpipe.codecs.base import Codec, CodecConfig, fit
from genpipe.codecs.fitting import make_score
from genpipe.codecs.holders import coarse
from genpipe.codecs.scale import Axis, Cells, Score, bin_levels
from genpipe.codecs.sketch import quantiles
from genpipe.codecs.tabular.choice import Choice
from genpipe.codecs.tabular.numeric import log_density
from genpipe.codecs.tabular.offsets import Offset
from genpipe.constraints import Inequality, Sum
from genpipe.fields import AnyField, Audio, Category, Image, Integer, Number, Series, Text
from genpipe.kinds import DataKind
from genpipe.schema import Schema


class Uniform:
    """A generator whose uniform numbers are told."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = np.array(numbers)

    def random(self, size: int) -> np.ndarray:
        return self.numbers[:size]


def fitted(kind: DataKind, *columns: tuple[AnyField, list]) -> tuple[Codec, pa.RecordBatch]:
    schema = Schema(kind=kind, fields=tuple(f for f, _ in columns))
    arrays = [pa.array(v, f.arrow()) for f, v in columns]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())
    return fit(CODECS[kind], schema, [batch], CodecConfig(rare="keep")), batch


def test_quantiles_are_linear_between_the_middles_of_ranks() -> None:
    """0 once, 10 twice, 20 once: the middles are 1/8, 1/2 and 7/8."""
    found = quantiles(np.array([0.0, 10, 20]), np.array([1, 2, 1]), np.array([0, 1 / 8, 5 / 16, 0.5, 1]))
    assert found.tolist() == pytest.approx([0, 0, 5, 10, 20])


def test_counts_are_told_in_steps_of_k() -> None:
    assert coarse([0, 1, 7, 8, 12, 13, 100], 5).tolist() == [0, 5, 5, 10, 10, 15, 100]
    assert coarse([0, 1, 7], 1).tolist() == [0, 1, 7]


def test_scores_are_normal_quantiles_scaled_to_one() -> None:
    """Of 1 to 9 even ranks the middle one is 0 and the first and last are -1 and 1; a quarter of the way from
    the bottom is Φ⁻¹(¼) of what the outermost knot is, at 1 / 20 of the mass.
    """
    values = np.linspace(0.0, 1.0, 201)
    score = make_score(values, np.ones(201, np.int64), (0.0, 1.0))
    ends = NormalDist().inv_cdf(0.5 / 40)  # 201 rows, five a knot: the deepest knot
    assert score.encode(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-9)
    for share in (0.25, 0.75, 0.375):
        at = (share * 201 - 0.5) / 200  # the value at this share, by the middles of ranks
        expected = NormalDist().inv_cdf(share) / -ends
        assert score.encode(np.array([at]))[0] == pytest.approx(expected, abs=1e-6)


def test_a_score_is_linear_between_its_knots_both_ways() -> None:
    score = Score(np.array([0.0, 10.0, 30.0]), np.array([-1.0, 0.0, 1.0]))
    assert score.encode(np.array([-5.0, 5.0, 20.0, 99.0])).tolist() == [-1.0, -0.5, 0.5, 1.0]
    assert score.decode(np.array([-2.0, -0.5, 0.5, 2.0])).tolist() == [0.0, 5.0, 20.0, 30.0]


def test_inner_bins_are_cut_evenly_and_outer_ones_by_halves_towards_the_extremes() -> None:
    assert bin_levels(3, 4).tolist() == [
        [0, 1 / 8, 1 / 4, 1 / 2, 1],
        [0, 1 / 4, 1 / 2, 3 / 4, 1],
        [0, 1 / 2, 3 / 4, 7 / 8, 1],
    ]


# an atom at 5 between two bins of two pieces, 0 to 4 and 6 to 10
CELLS = Cells(np.array([5.0]), np.array([[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]), 2, False, 0.0)


def test_cells_are_numbered_in_the_order_of_the_axis() -> None:
    assert CELLS.size == 3
    assert CELLS.encode(np.array([0.0, 3.9, 5.0, 6.5, 10.0])).tolist() == [0, 0, 1, 2, 2]


def test_a_draw_in_a_cell_is_even_inside_its_piece() -> None:
    """Both bins are outer ones: half of the mass in each piece. .25 is halfway through the first, .75 through
    the second; the atom stays what it is.
    """
    found = CELLS.decode(np.array([0, 0, 1, 2]), Uniform(0.25, 0.75, 0.5, 0.25))  # type: ignore[arg-type]
    assert found.tolist() == [1.0, 3.0, 5.0, 7.0]


def test_the_density_of_a_value_is_the_mass_of_its_piece_over_its_width() -> None:
    """½ / 2 in every piece; of an atom the whole."""
    found = log_density(CELLS, np.array([1.0, 3.0, 5.0, 9.0]))
    assert found.tolist() == pytest.approx([log(0.25), log(0.25), 0.0, log(0.25)])


def test_on_a_lattice_what_lies_between_atoms_closes_up() -> None:
    """Whole numbers 0 .. 5 without the atom 2: coordinates 0 1 . 2 3 4, and back."""
    cells = Cells(np.array([2]), np.array([[-0.5, 4.5]]), 1, True, 0)
    assert cells.coordinate(np.array([0, 1, 3, 4, 5])).tolist() == [0, 1, 2, 3, 4]
    assert cells.point(np.array([0.0, 1.0, 2.0, 3.0, 4.0])).tolist() == [0, 1, 3, 4, 5]


def test_an_axis_counts_in_steps_and_decimals() -> None:
    steps = Axis(Integer(name="n"), 5, None, 0, 10)
    assert steps.points(np.array([0, 25, 999])).tolist() == [0, 5, 10]
    assert steps.arrow(np.array([3, 12]), None).to_pylist() == [15, 50]
    cents = Axis(Number(name="n", decimals=2), 0, 2, -100, 999)
    assert cents.points(np.array([1.234, -9.0])).tolist() == [123, -100]


INEQUALITY = Offset(
    "low <= high",
    Inequality(low="low", high="high"),
    Integer(name="high"),
    (Integer(name="low"),),
)


def column(**columns: list) -> dict[str, pa.Array]:
    return {name: pa.array(values) for name, values in columns.items()}


def test_an_inequality_is_learnt_as_the_difference_and_restored_as_the_sum() -> None:
    """high 7, 3, 9 over low 4, 3, none: 3 and 0 beyond; alone only where there is no low."""
    beyond, alone = INEQUALITY.names
    told = INEQUALITY.reduce({"low": pa.array([4, 3, None]), "high": pa.array([7, 3, 9])})
    assert told[beyond].to_pylist() == [3, 0, None] and told[alone].to_pylist() == [None, None, 9]
    back = INEQUALITY.restore(
        {"low": pa.array([10, 20, None]), beyond: pa.array([3, 0, 5]), alone: pa.array([1, 2, 9])}
    )
    assert back["high"].to_pylist() == [13, 20, 9]
    assert INEQUALITY.holds(column(low=[1, 2, 3], high=[1, 1, 4])).tolist() == [True, False, True]


def test_a_strict_inequality_is_at_least_one_step_beyond() -> None:
    strict = Offset(
        "low < high",
        Inequality(low="low", high="high", strict=True),
        Integer(name="high"),
        (Integer(name="low"),),
    )
    beyond, alone = strict.names
    back = strict.restore(
        {"low": pa.array([4, 4]), beyond: pa.array([0, 3]), alone: pa.array([None, None], pa.int64())}
    )
    assert back["high"].to_pylist() == [5, 7]
    assert strict.holds(column(low=[1, 1], high=[1, 2])).tolist() == [False, True]


def test_a_total_is_the_sum_of_its_parts() -> None:
    total = Offset(
        "total = a + b",
        Sum(total="total", parts=("a", "b")),
        Integer(name="total"),
        (Integer(name="a"), Integer(name="b")),
    )
    none = dict.fromkeys(total.names, pa.array([0, 0]))
    back = total.restore({**column(a=[1, 2], b=[10, 20]), **none})
    assert back["total"].to_pylist() == [11, 22]
    assert total.holds(column(a=[1, 2], b=[10, 20], total=[11, 23])).tolist() == [True, False]


def test_choices_are_coded_by_falling_count_with_their_shares() -> None:
    codec, batch = fitted(
        "tabular", (Category(name="c"), ["b"] * 5 + ["a"] * 3 + ["z"] * 2), (Integer(name="n"), [*range(10)])
    )
    column = next(c for c in codec.columns if isinstance(c, Choice))  # type: ignore[attr-defined]
    assert column.values == ("b", "a", "z") and column.shares == pytest.approx((0.5, 0.3, 0.2))
    assert column.encode(batch.column("c")).tolist() == [0] * 5 + [1] * 3 + [2] * 2
    assert column.encode_vector(batch.column("c"))[5].tolist() == [0, 1, 0]


def test_gaps_of_a_series_hold_the_last_value_and_leading_ones_the_first() -> None:
    """Values 1 .. 4, so the scores are those of what fills the gaps."""
    rows = [[None, 1.0, 4.0, None], [1.0, 2.0, 3.0, 4.0]]
    codec, batch = fitted("series", (Series(name="v", length=4, nullable=True), rows))
    scores, gaps = np.moveaxis(codec.encode(batch, "sequence")["x"], -1, 0)
    one, four = scores[1, 0], scores[1, 3]
    assert (one, four) == (-1.0, 1.0)
    assert scores[0].tolist() == [one, one, four, four]
    assert gaps.tolist() == [[1, -1, -1, 1], [-1, -1, -1, -1]]


def test_a_text_ends_once_and_its_filling_is_masked() -> None:
    """Codes: 0 the end, 2 and 3 the letters a and b."""
    codec, batch = fitted("text", (Text(name="t"), ["ab", "b", ""]))
    arrays = codec.encode(batch, "tokens")
    assert arrays["x"].tolist() == [[2, 3, 0], [3, 0, 0], [0, 0, 0]]
    assert arrays["mask"].tolist() == [[True, True, True], [True, True, False], [True, False, False]]


def test_pixels_come_and_go_as_they_are() -> None:
    pixels = np.array([[0, 51], [204, 255]], np.uint8)
    codec, batch = fitted(
        "image",
        (Image(name="i", height=2, width=2, channels=1), [{"bytes": png(pixels), "path": None}]),
    )
    arrays = codec.encode(batch, "grid")
    assert arrays["x"].tolist() == [[[[0, 51], [204, 255]]]]


RATE = 8000  # windows of 512 samples, a quarter of which is a hop; 15.625 Hz between two frequencies


def tone_codec(hertz: float, *, loud: float) -> tuple[AudioCodec, np.ndarray]:
    field = Audio(name="a", rate=RATE, frames=2048)
    wave = loud * np.sin(2 * pi * hertz * np.arange(2048) / RATE)
    blob = {"bytes": wav(wave, RATE), "path": None}
    codec, batch = fitted("audio", (field, [blob]))
    assert isinstance(codec, AudioCodec)
    return codec, codec.encode(batch, "sequence")["x"][0]


def triangle(band: int, hertz: float) -> float:
    """Of 80 bands whose 82 corners lie evenly on the mel scale, 2595 log10(1 + f / 700), up to 4,000 Hz."""
    low, middle, high = (700 * ((1 + 4000 / 700) ** ((band + k) / 81) - 1) for k in range(3))
    return max(0.0, min((hertz - low) / (middle - low), (high - hertz) / (high - middle)))


def test_a_pure_tone_is_as_loud_in_each_band_as_its_three_frequencies_are() -> None:
    """1,000 Hz is the 64th frequency of the window of N = 512. After Hann's window a tone of amplitude a is a
    N / 4 there and half of it at its two neighbours. 1 stands for a N / 2, -1 for 90 dB less.
    """
    _, x = tone_codec(1000.0, loud=0.5)
    assert x.shape == (16, 80)
    for band in range(32, 43):
        share = sum(w * triangle(band, h) for w, h in ((0.25, 984.375), (0.5, 1000.0), (0.25, 1015.625)))
        expected = max(-1.0, 1 + 2 * 20 * log10(max(share, 1e-9)) / 90)
        assert x[8, band] == pytest.approx(expected, abs=0.02 if expected > -0.5 else 0.5)
    assert x[8].max() > 0.8


def test_half_as_loud_is_six_decibels_less() -> None:
    """90 dB are two units of x, so 20 log10(2) = 6.0206 dB are .1338 of them."""
    field = Audio(name="a", rate=RATE, frames=2048)
    tone = np.sin(2 * pi * 1000 * np.arange(2048) / RATE)
    blobs = [{"bytes": wav(loud * tone, RATE), "path": None} for loud in (0.5, 0.25)]
    codec, batch = fitted("audio", (field, blobs))
    x = codec.encode(batch, "sequence")["x"]
    assert (x[0] - x[1])[8].max() == pytest.approx(2 * 20 * log10(2) / 90, abs=2e-3)
    assert x.min() == -1.0  # 90 dB below, and all that is softer
