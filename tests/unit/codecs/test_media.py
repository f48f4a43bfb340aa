"""Images, series, text and audio: what each does with its own awkward cases."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from genpipe.codecs import CODECS
from genpipe.codecs.audio import AudioCodec, fitting
from genpipe.codecs.base import Codec, CodecConfig, fit
from genpipe.codecs.pace import Pace
from genpipe.errors import DataError, UsageError
from genpipe.fields import AnyField, Audio, Category, Image, Integer, Series, Text
from genpipe.kinds import DataKind
from genpipe.media.png import SIGNATURE, _chunk, read_pngs, write_png
from genpipe.media.wav import read_clips, write_clip
from genpipe.schema import Schema


def batch_of(kind: DataKind, *columns: tuple[AnyField, list]) -> pa.RecordBatch:
    schema = Schema(kind=kind, fields=tuple(f for f, _ in columns))
    return pa.RecordBatch.from_arrays([pa.array(v, f.arrow()) for f, v in columns], schema=schema.arrow())


def codec_of(batch: pa.RecordBatch, **config: int) -> Codec:
    schema, rare = Schema.from_arrow(batch.schema), {"rare": "protect" if "rare_below" in config else "keep"}
    return fit(CODECS[schema.kind], schema, [batch], CodecConfig(**rare | config))


def blobs(*data: bytes | None) -> list[dict]:
    return [{"bytes": d, "path": None} for d in data]


@pytest.mark.parametrize("channels", [1, 3])
def test_our_png_is_a_png(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    with Pillow.open(io.BytesIO(write_png(pixels))) as picture:
        picture.verify()
    with Pillow.open(io.BytesIO(write_png(pixels))) as picture:
        assert picture.mode == ("L" if channels == 1 else "RGB")
        assert (np.asarray(picture).reshape(pixels.shape) == pixels).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(9, 13), (70, 80)])
def test_every_picture_reads_as_pillow_reads_it(channels: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    height, width = size
    y, x = np.mgrid[:height, :width]
    smooth = (x * 3 + y * 2 + np.sin(x / 2) * 20)[..., None] + np.arange(channels) * 30
    pictures, blobs = [], []
    for i in range(40):
        pixels = (smooth + rng.normal(size=smooth.shape) * i).clip(0, 255).astype(np.uint8)
        picture = Pillow.fromarray(pixels[..., 0] if channels == 1 else pixels)
        file = io.BytesIO()
        if i % 10 == 9:  # a palette, and thus not a plain PNG
            picture = picture.quantize(16)
        picture.save(file, "PNG", compress_level=i % 10)
        blobs.append(file.getvalue())
        pictures.append(np.asarray(picture.convert("L" if channels == 1 else "RGB")).reshape(pixels.shape))
    filters = {f for b in blobs for f in zlib.decompress(b[b.index(b"IDAT") + 4 :])[:: 1 + width * channels]}
    assert filters >= {1, 2, 4}
    read = read_pngs([*blobs], height=height, width=width, channels=channels)
    assert (read == np.stack(pictures)).all()


def test_the_average_filter_is_undone() -> None:
    lines = np.array(
        [[[0, 10, 20, 30], [3, 5, 6, 250]]], dtype=np.uint8
    )  # raw(x) = value + (left + above) // 2
    head = struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0)
    blob = (
        SIGNATURE
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(lines.tobytes()))
        + _chunk(b"IEND", b"")
    )
    assert read_pngs([blob], height=2, width=3, channels=1)[0, 1, :, 0].tolist() == [10, 21, 19]
    assert np.asarray(Pillow.open(io.BytesIO(blob)))[1].tolist() == [10, 21, 19]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\nbroken", "picture:row 1: unreadable image"),
        (None, "picture:row 1: unreadable image"),
        (
            write_png(np.zeros((4, 6, 1), np.uint8)),
            "picture:row 1: 6x4 pixels; expected a picture of 4x4 pixels",
        ),
        (write_png(np.zeros((4, 4, 1), np.uint8))[:-30], "picture:row 1: unreadable image"),
    ],
)
def test_a_bad_image_is_named(data: bytes | None, message: str) -> None:
    field = Image(name="picture", height=4, width=4, channels=1)
    codec = codec_of(batch_of("image", (field, blobs(write_png(np.zeros((4, 4, 1), np.uint8))))))
    good = write_png(np.zeros((4, 4, 1), np.uint8))
    with pytest.raises(DataError, match=message):
        codec.encode(batch_of("image", (field, blobs(good, data))), "grid")


def test_a_field_no_codec_of_the_kind_can_make_is_refused() -> None:
    image = Image(name="picture", height=1, width=1, channels=1)
    with pytest.raises(UsageError, match="weight: a integer field in image data; expected image, the target"):
        codec_of(batch_of("image", (image, blobs(b"")), (Integer(name="weight"), [1])))
    with pytest.raises(UsageError, match="2 text fields; expected exactly one in text data"):
        codec_of(batch_of("text", (Text(name="a"), ["x"]), (Text(name="b"), ["y"])))


def test_series_gaps_are_learnt_and_filled() -> None:
    rows = [[None, 1.0, None, 4.0], None, [2.0, 3.0, 5.0, 0.5]]
    field = Series(name="v", length=4, nullable=True)
    batch = batch_of("series", (field, rows))
    codec = codec_of(batch)
    x = codec.encode(batch, "sequence")["x"]
    assert x.shape == (3, 4, 2)
    assert (x[:, :, 1] > 0).tolist() == [[True, False, True, False], [True] * 4, [False] * 4]
    assert x[0, 0, 0] == x[0, 1, 0] == x[0, 2, 0] != x[0, 3, 0]
    plain = codec_of(batch_of("series", (Series(name="v", length=4), [rows[2]])))
    assert plain.spec("sequence").shape == (4, 1)


@pytest.mark.parametrize("nothing", [None, [None, None]])
def test_a_channel_that_is_always_missing_stays_missing(nothing: object) -> None:
    empty = Series(name="empty", length=2, nullable=True)
    batch = batch_of("series", (empty, [nothing] * 2), (Series(name="v", length=2), [[1.0, 2.0], [3.0, 4.0]]))
    codec = codec_of(batch)
    arrays = codec.encode(batch, "sequence")
    assert arrays["x"].shape == (2, 2, 1)
    made = codec.decode(arrays, "sequence", np.random.default_rng(0))
    assert made.column("empty").flatten().null_count == 4
    np.testing.assert_allclose(made.column("v").flatten(), [1, 2, 3, 4], rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0], [1.0]], "v:row 1: 1 steps; expected 2 as the schema says"),
        ([[1.0, float("inf")]], "v: the number inf; expected at most"),
        ([[3.0, 3.0], [3.0, 3.0]], "no channel to learn"),
    ],
)
def test_a_bad_series_is_named(rows: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        codec_of(batch_of("series", (Series(name="v", length=2), rows)))


def test_text_ends_where_it_ends() -> None:
    batch = batch_of("text", (Text(name="t"), ["ab", "", "abcdefgh", "a\x00b"]))
    codec = codec_of(batch, context=5)
    arrays = codec.encode(batch, "tokens")
    assert codec.spec("tokens").shape == (5,)
    assert arrays["mask"].sum(1).tolist() == [3, 1, 5, 4]
    assert (arrays["x"][0, 2:] == 0).all() and (arrays["x"][:, 0] > 0).tolist() == [True, False, True, True]
    back = codec.decode(arrays, "tokens", np.random.default_rng(0))
    assert back.column("t").to_pylist() == ["ab", "", "abcde", "a\x00b"]
    short = codec_of(batch_of("text", (Text(name="t"), ["ab", "abc"])))
    assert short.spec("tokens").shape == (4,)  # no longer than the longest text and its end


def test_of_runs_of_a_longer_text_no_end_is_learnt_and_what_is_drawn_ends_with_a_word() -> None:
    runs = ["the king and ", "queen went to the", "\nold town "]
    codec = codec_of(batch_of("text", (Text(name="t", runs=True), runs)))
    arrays = codec.encode(batch_of("text", (Text(name="t", runs=True), runs)), "tokens")
    assert codec.spec("tokens").shape == (17,)
    assert arrays["mask"].sum(1).tolist() == [13, 17, 10]  # their characters, and no end
    assert decoded(codec, arrays) == runs[:1] + ["queen went to "] + runs[2:]
    whole = codec_of(batch_of("text", (Text(name="t", runs=True), ["a" * 9, "aaaa aaaa"])))
    arrays = whole.encode(batch_of("text", (Text(name="t", runs=True), ["a" * 9, "a aaaaaaa"])), "tokens")
    assert decoded(whole, arrays) == ["a" * 9, "a aaaaaaa"]  # no blank in the second half


def decoded(codec: Codec, arrays: dict[str, np.ndarray]) -> list[str]:
    return codec.decode(arrays, "tokens", np.random.default_rng(0)).column("t").to_pylist()


def test_a_text_is_learnt_whole_up_to_a_thousand_characters() -> None:
    whole = codec_of(batch_of("text", (Text(name="t"), ["a" * 300])))
    assert (whole.spec("tokens").shape, whole.notice) == ((301,), "")
    cut = codec_of(batch_of("text", (Text(name="t"), ["a" * 3000])))
    assert cut.spec("tokens").shape == (1024,)
    assert cut.notice.startswith("texts of up to 3001 characters are learnt up to 1024 of them")


def test_rare_and_unseen_characters_are_unknown() -> None:
    batch = batch_of("text", (Text(name="t"), ["aaaa", "bbbb", "aaQb"]))
    codec = codec_of(batch, rare_below=2)
    assert ord("Q") not in codec.to_json()["points"]
    assert codec.tolerance("tokens")["t"] == pytest.approx(2 / 12)  # told to the next multiple of two
    new = batch_of("text", (Text(name="t"), ["aQ\U0001f600b"]))
    assert (
        codec.decode(codec.encode(new, "tokens"), "tokens", np.random.default_rng(0)).column("t")[0].as_py()
        == "a��b"
    )
    with pytest.raises(DataError, match="no characters to learn"):
        codec_of(batch_of("text", (Text(name="t"), ["", ""])))


def tone(field: Audio, hertz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(field.frames) / field.rate) * 0.6


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_decoded_tone_has_its_pitch_and_loudness(rate: int) -> None:
    field = Audio(name="a", rate=rate, frames=rate // 4)
    codec = codec_of(
        batch_of("audio", (field, blobs(*(write_clip(tone(field, h), field) for h in (300, 1_000))))),
        frames=rate,
    )
    assert isinstance(codec, AudioCodec)
    batch = batch_of("audio", (field, blobs(write_clip(tone(field, 1_000), field))))
    back = codec.decode(codec.encode(batch, "grid"), "grid", np.random.default_rng(0))
    now = read_clips(back.column("a"), field)[0]
    assert len(now) == field.frames
    loudest = np.abs(np.fft.rfft(now)).argmax() * rate / field.frames
    assert abs(loudest - 1_000) < 60
    softer = 20 * np.log10(0.6 / np.sqrt(2) / np.sqrt((now**2).mean()))
    assert -1 < softer < 3  # decibels; a band is wider than a tone, which is spread over it


def test_no_decoded_clip_is_cut_off_at_full_scale() -> None:
    """Sweeps as of birds at .95, some of which come back above 1; quieter ones stay as they come."""
    field = Audio(name="a", rate=22_050, frames=8192)
    at = np.arange(field.frames) / field.rate
    sweeps = [0.95 * np.sin(2 * np.pi * (low * at + 6000 * at**2)) for low in (2000, 2700, 3400, 4100)]
    batch = batch_of("audio", (field, blobs(*(write_clip(x.astype(np.float32), field) for x in sweeps))))
    codec = codec_of(batch)
    back = read_clips(codec.decode(codec.encode(batch, "grid"), "grid", np.random.default_rng(0))[0], field)
    assert np.abs(back).max() >= 0.999 and ((np.abs(back) >= 0.999).sum(1) <= 2).all()
    loud = np.array([[0.5, -0.2], [0.5, -2.0]], np.float32)
    np.testing.assert_allclose(fitting(loud), [[0.5, -0.2], [0.25, -1.0]])


def test_clips_beyond_the_learnt_frames_end_in_silence() -> None:
    field = Audio(name="a", rate=8_000, frames=3_000)
    batch = batch_of("audio", (field, blobs(write_clip(tone(field, 500), field))))
    codec = codec_of(batch, frames=1_024)
    back = codec.decode(codec.encode(batch, "sequence"), "sequence", np.random.default_rng(0))
    now = read_clips(back.column("a"), field)[0]
    assert np.abs(now[:1_024]).max() > 0.3 and np.abs(now[1_024:]).max() == 0.0
    assert codec.notice.startswith("clips of 0.38 s are learnt up to 0.13 s")
    whole = codec_of(batch)
    assert isinstance(whole, AudioCodec) and (whole.frames, whole.notice) == (3_000, "")


def test_of_long_clips_ten_seconds_are_learnt() -> None:
    field = Audio(name="a", rate=1_000, frames=12_000)
    codec = codec_of(batch_of("audio", (field, blobs(write_clip(tone(field, 200), field)))))
    assert isinstance(codec, AudioCodec) and codec.frames == 10_000
    assert codec.notice.startswith("clips of 12 s are learnt up to 10 s")


def lengths(batch: pa.RecordBatch) -> list[int]:
    clips = batch.column("a").to_pylist()
    return [wave.open(io.BytesIO(clip["bytes"])).getnframes() for clip in clips]


def paced() -> tuple[Audio, pa.RecordBatch, list[int]]:
    """Tones of 500 Hz of 10 to 29 steps of 128 samples."""
    field = Audio(name="a", rate=8_000, frames=32 * 128)
    ends = [128 * (10 + k % 20) for k in range(40)]
    clips = [write_clip(tone(field, 500)[:end], field) for end in ends]
    return field, batch_of("audio", (field, blobs(*clips))), ends


@pytest.mark.parametrize("layout", ["grid", "sequence"])
def test_clips_of_several_lengths_are_stretched_to_one_and_come_back_as_long(layout: str) -> None:
    field, batch, ends = paced()
    codec = codec_of(batch)
    assert isinstance(codec, AudioCodec) and codec.pace is not None and codec.steps == 24
    arrays = codec.encode(batch, layout)
    x = arrays["x"][:, 0] if layout == "grid" else arrays["x"].transpose(0, 2, 1)
    assert x[:, :-1].max(1).min() > 0  # none ends in silence
    assert np.ptp(x[0, -1]) == 0 and x[0, -1, 0] < -0.4 and x[19, -1, 0] > 0.4
    back = codec.decode(arrays, layout, np.random.default_rng(0))
    assert lengths(back) == ends
    now = read_clips(back.column("a"), field)
    for clip, end in zip(now, ends, strict=True):
        loudest = np.abs(np.fft.rfft(clip[:end])).argmax() * field.rate / end
        assert abs(loudest - 500) < 60  # the pitch is as it was


def test_the_pace_is_read_again_and_clips_of_one_length_have_none() -> None:
    field, batch, _ = paced()
    codec = codec_of(batch)
    content = codec.to_json()
    again = AudioCodec.from_json(codec.schema, content)
    assert again.to_json() == content and content["pace"] == [12, 27, 24]
    one = codec_of(batch_of("audio", (field, blobs(*[write_clip(tone(field, 500), field)] * 3))))
    assert "pace" not in one.to_json()
    back = one.decode(one.encode(batch, "grid"), "grid", np.random.default_rng(0))
    assert lengths(back) == [field.frames] * len(back)
    with pytest.raises(ValueError, match="expected low < high"):
        AudioCodec.from_json(codec.schema, content | {"pace": [28, 28, 24]})


def test_the_length_of_few_clips_is_told_of_none() -> None:
    """Of twenty clips five are as short as the shortest length that a bundle tells."""
    lengths = Counter(range(100, 120))
    pace = Pace.of(lengths)
    assert pace is not None and (pace.low, pace.high) == (104, 115)
    assert Pace.of(Counter(range(100, 109))) is None and Pace.of(Counter({10: 30, 90: 4})) is None


def test_an_audio_codec_of_before_hears_sixty_decibels() -> None:
    """A tone 75 dB below the loudest is silence to it, and something to one of today."""
    field = Audio(name="a", rate=8_000, frames=2_048)
    clips = blobs(*(write_clip(tone(field, 500) * level, field) for level in (1.0, 10 ** (-75 / 20))))
    batch = batch_of("audio", (field, clips))
    now = codec_of(batch)
    content = now.to_json()
    before = AudioCodec.from_json(
        now.schema, {k: v for k, v in content.items() if k not in ("range_db", "resolution")}
    )
    assert now.encode(batch, "grid")["x"][1].max() > -0.9
    assert before.encode(batch, "grid")["x"][1].max() == -1.0
    assert before.to_json() == content | {"range_db": 60.0, "resolution": [256, 128, 64]}
    assert before.spec("grid").shape == (1, 64, 16)


def test_of_long_clips_the_steps_are_longer_and_not_more() -> None:
    field = Audio(name="a", rate=8_000, frames=80_000)
    batch = batch_of("audio", (field, blobs(write_clip(tone(field, 500), field))))
    codec = codec_of(batch)
    assert isinstance(codec, AudioCodec) and codec.spec("grid").shape == (1, 80, 160)
    assert codec.notice.startswith("clips of up to 10 s are learnt in steps of 64 ms and not of 16, so")
    short = codec_of(batch, frames=8_000)
    assert isinstance(short, AudioCodec) and short.resolution.hop == 128
    back = codec.decode(codec.encode(batch, "grid"), "grid", np.random.default_rng(0))
    now = read_clips(back.column("a"), field)[0]
    assert np.abs(np.fft.rfft(now)).argmax() / 10 == pytest.approx(500, abs=15)  # bands are 23 Hz apart there
    content = codec.to_json()
    assert AudioCodec.from_json(codec.schema, content).to_json() == content
    for wrong in ([512, 300, 96], [128, 128, 96], [512, 128, 0], [512, 128]):
        with pytest.raises(ValueError, match=r"windows of|greater than|at least 3"):
            AudioCodec.from_json(codec.schema, content | {"resolution": wrong})


def test_hits_are_told_by_shorter_windows_than_tones() -> None:
    field, rng = Audio(name="a", rate=8_000, frames=4_000), np.random.default_rng(0)
    fall = np.exp(-np.arange(4_000) / 60)
    hits = [write_clip(rng.normal(0, 0.2, 4_000) * fall, field) for _ in range(6)]
    tones = [write_clip(tone(field, 200 + 50 * k), field) for k in range(18)]
    hops = {}
    for name, clips in {"hits": hits, "tones": tones, "some": hits + tones, "most": hits[:5] + tones}.items():
        codec = codec_of(batch_of("audio", (field, blobs(*clips))))
        assert isinstance(codec, AudioCodec) and codec.resolution.window == 4 * codec.hop
        hops[name] = codec.hop
    assert hops == {"hits": 64, "tones": 128, "some": 128, "most": 128}
    few = codec_of(batch_of("audio", (field, blobs(*hits, *tones[:17]))))
    assert isinstance(few, AudioCodec) and few.hop == 64 and not few.notice


def test_chunks_of_long_clips_sound_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    field, batch, _ = paced()
    codec = codec_of(batch)
    arrays = codec.encode(batch, "grid")
    whole = codec.decode(arrays, "grid", np.random.default_rng(0))
    monkeypatch.setattr("genpipe.codecs.audio.MOST_VALUES", 3 * 32 * 257)
    assert np.allclose(codec.encode(batch, "grid")["x"], arrays["x"], atol=1e-5)
    few = codec.decode(arrays, "grid", np.random.default_rng(0))
    both = [read_clips(table.column("a"), field) for table in (whole, few)]
    assert np.abs(both[0] - both[1]).max() < 0.02


def wav(rate: int, width: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(b"\x01" * 64)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RIFFnope", "a:row 0: unreadable WAV"),
        (None, "a:row 0: unreadable WAV"),
        (wav(44_100, 2), "a:row 0: 44100 Hz, 1 channels, 16 bits; expected 8000 Hz"),
        (wav(8_000, 1), "a:row 0: 8000 Hz, 1 channels, 8 bits"),
        (write_clip(np.zeros(16), Audio(name="a", rate=8_000, frames=16)), "nothing but silence"),
    ],
)
def test_a_bad_clip_is_named(data: bytes | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        codec_of(batch_of("audio", (Audio(name="a", rate=8_000, frames=16), blobs(data))))


def test_unseen_classes_count_as_the_commonest_and_conditions_are_checked() -> None:
    fields = (Text(name="t"), Category(name="c"))
    schema = Schema(kind="text", fields=fields, target="c")
    batch = pa.RecordBatch.from_pydict({"t": ["x", "y", "z"], "c": ["b", "b", "a"]}, schema.arrow())
    codec = fit(CODECS["text"], schema, [batch], CodecConfig(rare="keep"))
    new = pa.RecordBatch.from_pydict({"t": ["x"], "c": ["q"]}, schema.arrow())
    assert codec.encode(new, "tokens")["condition"].tolist() == [[1]]
    rng = np.random.default_rng(0)
    assert codec.conditions.code("c", "a") == 0
    assert abs(codec.draw_conditions(3_000, rng).mean() - 2 / 3) < 0.04
    with pytest.raises(UsageError, match="c: 'q'; expected one of a, b"):
        codec.conditions.code("c", "q")
    with pytest.raises(UsageError, match="unknown condition 'd'; expected one of c"):
        codec.conditions.code("d", "q")
