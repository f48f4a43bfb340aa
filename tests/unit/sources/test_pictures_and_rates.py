"""Pictures of any depth and shape, and sound of any rate, as one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.signal import resample_poly

from genpipe.media.resample import resample
from genpipe.sources.pictures import levels_of, resized, to_channels


@pytest.mark.parametrize(
    ("low", "high", "levels"),
    [
        (0, 4094, (0, 4096)),  # 12 bits of 16
        (3, 65_535, (0, 65_536)),
        (7003, 7991, (6976, 8000)),  # warm things on a thermal camera
        (-1024, 3071, (-1024, 3072)),  # Hounsfield units
        (0.02, 0.98, (0, 1)),
        (0, 0, (0, 1)),
        (0, 255, None),
        (12, 200, None),
    ],
)
def test_levels_are_round_and_span_what_is_there(
    low: float, high: float, levels: tuple[float, float]
) -> None:
    assert levels_of(low, high) == levels
    if levels and high > low:
        assert levels[0] <= low and high <= levels[1]
        assert (levels[1] - levels[0]) <= (1 + 2 / 8) * (high - low)  # two steps of a 16th of up to twice it


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_greys_are_scaled_alike_in_dark_and_bright_pictures(dtype: type) -> None:
    bright, dark = np.full((4, 4), 4096, dtype), np.full((4, 4), 256, dtype)
    for pixels, grey in ((bright, 255), (dark, 16)):
        assert np.asarray(to_channels(Image.fromarray(pixels), 1, (0, 4096))).max() == grey


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_wide_picture_becomes_a_square(fit: str) -> None:
    pixels = np.zeros((10, 30), np.uint8)
    pixels[:, :10], pixels[:, 10:20], pixels[:, 20:] = 50, 100, 200
    made = np.asarray(resized(Image.fromarray(pixels), 10, 10, fit))  # type: ignore[arg-type]
    assert made.shape == (10, 10)
    if fit == "crop":
        assert (made == 100).all()
    elif fit == "pad":
        assert (made[0] == 0).all() and (made[-1] == 0).all() and made[5, 0] == 50 and made[5, -1] == 200
    else:
        assert made[0, 0] == 50 and made[0, -1] == 200 and (made == made[0]).all()


@pytest.mark.parametrize(
    ("old", "new"), [(44_100, 16_000), (8_000, 22_050), (48_000, 8_000), (44_101, 16_000)]
)
def test_blocks_are_resampled_as_the_whole_is(old: int, new: int) -> None:
    whole = np.random.default_rng(0).integers(-20_000, 20_000, 600_001).astype(np.int16)
    step = np.gcd(old, new)
    wanted = np.clip(np.rint(resample_poly(whole.astype(float), new // step, old // step)), -32768, 32767)
    assert np.array_equal(resample(whole, old, new), wanted.astype(np.int16))


def test_a_tone_keeps_its_pitch_and_its_loudness() -> None:
    tone = (9000 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)).astype(np.int16)
    made = resample(tone, 44_100, 8000)
    assert len(made) == 8000 and np.abs(np.fft.rfft(made)).argmax() == 440
    assert 8900 < np.abs(made[200:-200]).max() < 9100
