"""FLAC, Ogg, MP3, AIFF: what libsndfile decodes is what went in; what breaks it is an error of the file."""

from __future__ import annotations

import io
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pytest
import soundfile

import genpipe
from genpipe import store
from genpipe.errors import DataError
from genpipe.media.wav import read_clips
from genpipe.sources.files import File, list_files
from genpipe.sources.sound import SoundReader

RATE = 8000
EXACT = {"flac": "FLAC", "aiff": "AIFF"}
LOSSY = {"ogg": "OGG", "mp3": "MP3"}
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


def encoded(samples: np.ndarray, format: str, rate: int = RATE) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, samples, rate, format=format)
    return sink.getvalue()


def read(path: Path, max_seconds: float = 60.0, keep: int = 2**62):
    return SoundReader().read(list_files(str(path))[0], max_seconds, keep)


@pytest.mark.parametrize(("suffix", "format"), EXACT.items())
def test_what_keeps_every_bit_is_read_to_the_bit(suffix: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(TONE, format))
    found = read(path)
    assert (found.rate, found.frames) == (RATE, len(TONE)) and found.coding.endswith(" mono")
    assert np.abs(found.samples - np.rint(TONE * 32768)).max() <= 1


@pytest.mark.parametrize(("suffix", "format"), LOSSY.items())
def test_what_loses_bits_is_read_nearly(suffix: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(np.stack([TONE, TONE], 1), format))
    found = read(path)
    assert found.coding.endswith("2 channels") and abs(found.frames - len(TONE)) < 2500
    spectrum = np.abs(np.fft.rfft(found.samples[:RATE]))
    assert abs(spectrum.argmax() - 440) <= 1 and 0.4 < np.abs(found.samples).max() / 32768 < 0.6


def test_frames_beyond_those_asked_for_are_counted_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(encoded(TONE, "FLAC"))
    found = read(path, keep=100)
    assert (len(found.samples), found.frames) == (100, RATE)


def bad() -> dict[str, tuple[str, bytes, str]]:
    whole = encoded(TONE, "FLAC")
    return {
        "nothing": ("a.flac", b"", "SOUND"),
        "text": ("a.mp3", b"no sound at all" * 10, "SOUND"),
        "cut": ("a.flac", whole[: len(whole) // 2], "SOUND"),
        "no frames": ("a.aiff", encoded(TONE[:0], "AIFF"), "LENGTH"),
        "hours": ("a.flac", encoded(np.zeros(70 * RATE, np.float32), "FLAC"), "LENGTH"),
        "rate": ("a.aiff", encoded(TONE, "AIFF", rate=500), "SOUND"),
        "noise after the header": ("a.flac", whole[:60] + bytes(range(256)) * 40, "SOUND"),
    }


def test_a_bad_file_is_named_and_the_next_is_read(tmp_path: Path) -> None:
    """All by one decoder, which most of them leave alive."""
    reader = SoundReader()
    good = tmp_path / "good.flac"
    good.write_bytes(encoded(TONE, "FLAC"))
    for what, (name, data, code) in bad().items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match=name) as caught:
            reader.read(list_files(str(path))[0], 60.0)
        assert caught.value.code == code, what
        assert reader.read(list_files(str(good))[0], 60.0).frames == RATE, what
    assert len(reader.idle) == 1


def test_a_decoder_that_dies_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(encoded(TONE, "FLAC"))
    reader, file = SoundReader(), list_files(str(path))[0]
    reader.read(file, 60.0)
    (child,) = reader.idle
    assert psutil.Process(child.pid).rlimit(psutil.RLIMIT_AS)[1] < 2**32
    child.kill()
    child.wait()
    with pytest.raises(DataError, match=r"a\.flac.*libsndfile dies"):
        reader.read(file, 60.0)
    assert reader.read(file, 60.0).frames == RATE


def test_an_object_store_is_read_by_the_owner_of_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ogg"
    path.write_bytes(encoded(TONE, "OGG"))
    monkeypatch.setattr(store, "scheme_of", lambda uri: "s3")
    monkeypatch.setattr(store, "filesystem", lambda uri: fsspec.filesystem("file"))
    assert SoundReader().read(File(str(path), path.stat().st_size, "", ""), 60.0).rate == RATE


def test_a_folder_of_several_formats_is_one_dataset(home: Path, tmp_path: Path) -> None:
    for k in range(24):
        suffix, format = list((EXACT | LOSSY).items())[k % 4]
        label = tmp_path / "clips" / f"class{k % 2}"
        label.mkdir(parents=True, exist_ok=True)
        (label / f"{k}.{suffix}").write_bytes(encoded(TONE * (0.2 + 0.03 * k), format))
    dataset = genpipe.ingest(str(tmp_path / "clips"))
    assert dataset.schema.kind == "audio" and dataset.rows("train") + dataset.rows("holdout") == 24
    clips = read_clips(dataset.table("train").column("audio").combine_chunks(), dataset.schema.fields[0])
    assert (np.abs(clips).max(1) > 0.05).all() and len(dataset.schema.names) == 2
