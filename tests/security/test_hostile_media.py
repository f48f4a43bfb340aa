"""Media of strangers: WAV, IDX and pictures that lie, refused with a code in the memory of a small file."""

from __future__ import annotations

import gzip
import io
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fuzz.targets import IDX, TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import png, wav
from PIL import Image as Pillow

from genpipe.errors import DataError, GenpipeError, UsageError
from genpipe.media.png import SIGNATURE, _chunk, read_pngs
from genpipe.sources import open_source
from genpipe.sources.base import Reject
from genpipe.sources.pictures import FORMATS
from genpipe.verbs import ingest

MEMORY = 300 * 2**20  # bytes the process may grow by; the bombs ask for gigabytes


@pytest.fixture
def bounded() -> Iterator[None]:
    """Few seconds of processor time, and no more memory than any small file takes."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - start < 10
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY


def read(path: Path, kind: str, **options: object) -> None:
    """What ingest does with one piece; the first bad file is raised."""
    source = open_source(str(path), kind=kind, options=options)
    for unit in range(len(source.units)):
        rejects: list[Reject] = []
        stats = source.observe(unit)
        if stats.rejects:
            raise stats.rejects[0].error
        schema = source.schema(stats, target=None, key=())
        for _ in source.read(unit, schema, skip=frozenset(), rejects=rejects):
            pass
        if rejects:
            raise rejects[0].error


def riff(*chunks: tuple[bytes, int, bytes], form: bytes = b"WAVE") -> bytes:
    """A RIFF file of (name, claimed size, bytes) chunks."""
    body = b"".join(name + struct.pack("<I", claimed) + data for name, claimed, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + form + body


def fmt(
    tag: int = 1, channels: int = 1, rate: int = 8000, align: int = 2, bits: int = 16, more: bytes = b""
) -> tuple[bytes, int, bytes]:
    data = struct.pack("<HHIIHH", tag, channels, rate % 2**32, 0, align, bits) + more
    return b"fmt ", len(data), data


SAMPLES = (b"data", 8, bytes(8))
EXTENSIBLE = struct.pack("<HHIH", 22, 16, 0, 3)  # 16 bits, and a subformat of floats, which 16 bits are not
NOT_A_NUMBER = (b"data", 8, b"\0\0\0\0\0\0\xc0\x7f")
WAVS: list[tuple[str, bytes, str, str]] = [
    ("3 million empty chunks", riff(*[(b"junk", 0, b"")] * 3_000_000), "LIMIT", "more than 1000 chunks"),
    ("a chunk of 2**32-1", riff((b"junk", 2**32 - 1, b""), fmt(), SAMPLES), "LIMIT", "4294967296 bytes"),
    ("a format of 2**32-1", riff((b"fmt ", 2**32 - 1, fmt()[2]), SAMPLES), "LIMIT", "of something else"),
    ("data that lies", riff(fmt(), (b"data", 2**32 - 3, bytes(8))), "WAVTRUNC", "4 frames; expected 21474"),
    ("data of a stream", riff(fmt(), (b"data", 2**32 - 1, b"")), "LENGTH", "0 frames"),
    ("data before format", riff(SAMPLES, fmt()), "WAV", "no format or no data"),
    ("headers only", riff(fmt()), "WAV", "no format or no data"),
    ("no chunk", riff(), "WAV", "no format or no data"),
    ("half a header", b"RIFF\0\0", "MAGIC", "something else"),
    ("zero block align", riff(fmt(align=0), SAMPLES), "WAVHDR", "0 bytes a frame"),
    ("65535 channels", riff(fmt(channels=65535, align=65534), SAMPLES), "WAVHDR", "65535 channels"),
    ("no channel", riff(fmt(channels=0, align=0), SAMPLES), "WAVHDR", "0 channels"),
    ("0 Hz", riff(fmt(rate=0), SAMPLES), "WAVHDR", "0 Hz"),
    ("2**32-1 Hz", riff(fmt(rate=-1), SAMPLES), "WAVHDR", "4294967295 Hz"),
    ("0 bits", riff(fmt(bits=0, align=0), SAMPLES), "WAVFMT", "0 bits"),
    ("65 bits", riff(fmt(bits=65, align=8), SAMPLES), "WAVFMT", "65 bits"),
    ("an extension that lies", riff(fmt(tag=0xFFFE, more=EXTENSIBLE), SAMPLES), "WAVFMT", "coding 3 with 16"),
    ("a short extension", riff(fmt(tag=0xFFFE), SAMPLES), "WAVFMT", "coding 65534"),
    ("MP3 in WAV", riff(fmt(tag=0x55), SAMPLES), "WAVFMT", "coding 85"),
    ("RF64", b"RF64" + riff(fmt(), SAMPLES)[4:], "MAGIC", "RF64 under a .wav name"),
    ("another RIFF", riff(fmt(), SAMPLES, form=b"AVI "), "MAGIC", "something else"),
    ("floats that are none", riff(fmt(3, align=4, bits=32), NOT_A_NUMBER), "NONFINITE", "frame 1"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "code", "found"), [c[1:] for c in WAVS], ids=[c[0] for c in WAVS])
def test_wav_files_that_lie(data: bytes, code: str, found: str, tmp_path: Path, bounded: None) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(DataError, match=found) as caught:
        read(tmp_path / "a.wav", "audio")
    assert caught.value.code == code
    if len(data) < 2**20:  # compressed, the size of the file tells nothing
        (tmp_path / "b.wav.gz").write_bytes(gzip.compress(data))
        with pytest.raises(DataError):
            read(tmp_path / "b.wav.gz", "audio")


@pytest.mark.parametrize("claimed", [2**32 - 2, 2**32 - 1, 0])
def test_a_wav_file_of_a_terabyte(claimed: int, tmp_path: Path, bounded: None) -> None:
    head = riff(fmt(), (b"data", claimed, b""))
    with open(tmp_path / "a.wav", "wb") as file:
        file.write(head)
        file.truncate(2**40)
    with pytest.raises(
        DataError, match=r"frames \(\d+\.\d s\); expected more than 0 and at most max_seconds=600"
    ):
        read(tmp_path / "a.wav", "audio")


def test_a_compressed_wav_bomb_ends_at_the_longest_clip(tmp_path: Path, bounded: None) -> None:
    packer = zlib.compressobj(9, wbits=31)
    data = packer.compress(riff(fmt(channels=64, align=128), (b"data", 2**32 - 1, b"")))
    data += b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    (tmp_path / "a.wav.gz").write_bytes(data)
    with pytest.raises(DataError, match="at most max_seconds=100"):
        read(tmp_path / "a.wav.gz", "audio", max_seconds=100.0)
    noise = np.random.default_rng(0).bytes(2**18)
    (tmp_path / "a.wav.gz").write_bytes(gzip.compress(riff(fmt(), (b"data", len(noise), noise)))[: -(2**17)])
    with pytest.raises(DataError, match="damaged or cut off compressed file"):
        read(tmp_path / "a.wav.gz", "audio")


def test_long_clips_are_held_only_as_far_as_they_are_kept(tmp_path: Path, bounded: None) -> None:
    for n in range(3):  # 40 MB each, which as float64 would be 320
        data = bytes([128]) * 40_000_000
        (tmp_path / f"{n}.wav").write_bytes(
            riff(fmt(rate=96_000, align=1, bits=8), (b"data", len(data), data))
        )
    read(tmp_path, "audio", frames=1000, label="none")


def test_frames_of_a_spec_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(riff(fmt(), SAMPLES))
    with pytest.raises(UsageError, match=r"clips of 200000000 frames .*at most max_seconds=600"):
        read(tmp_path / "a.wav", "audio", frames=200_000_000)
    for options in ({"frames": -1}, {"max_seconds": float("inf")}, {"frames": 2**40}):
        with pytest.raises(UsageError):
            read(tmp_path / "a.wav", "audio", **options)


def idx_header(*sizes: int, magic: int | None = None) -> bytes:
    return struct.pack(f">I{len(sizes)}I", 0x800 + len(sizes) if magic is None else magic, *sizes)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (idx_header(2**32 - 1, 2**32 - 1, 2**32 - 1), "ends .* bytes early"),
        (idx_header(2**32 - 1, 1, 1), "ends .* bytes early"),
        (idx_header(1, 2**16, 2**16), "ends .* bytes early"),
        (idx_header(0, 4, 4), "a header that says 0x4x4"),
        (idx_header(3, 0, 0), "a header that says 3x0x0"),
        (idx_header(3, 4, 4, magic=0x8FF), "first bytes"),
        (idx_header(3, 4, 4, magic=0xD03), "first bytes"),
        (idx_header(3, 4, 4, magic=0xFFFFFFFF), "first bytes"),
        (idx_header(*[1] * 255), "first bytes"),
        (b"\0\0", "ends 14 bytes early"),
        (b"", "ends 16 bytes early"),
    ],
    ids=lambda v: ascii(v)[:32],
)
def test_idx_headers_that_lie(data: bytes, found: str, tmp_path: Path, bounded: None) -> None:
    (tmp_path / "t-images-idx3-ubyte").write_bytes(data)
    with pytest.raises(DataError, match=found):
        read(tmp_path / "t-images-idx3-ubyte", "image")
    (tmp_path / "t-images-idx3-ubyte").unlink()
    (tmp_path / "t-images-idx3-ubyte.gz").write_bytes(gzip.compress(data, mtime=0))
    with pytest.raises(DataError):
        read(tmp_path / "t-images-idx3-ubyte.gz", "image")


def test_idx_bombs(tmp_path: Path, bounded: None) -> None:
    path = tmp_path / "t-images-idx3-ubyte"
    with open(path, "wb") as file:
        file.write(idx_header(2, 2**16, 2**15))
        file.truncate(2**33)
    with pytest.raises(DataError, match="at most 16777216 bytes a picture"):
        read(path, "image")
    packed = tmp_path / "u-images-idx3-ubyte.gz"
    packed.write_bytes(gzip.compress(idx_header(2**20, 32, 32) + bytes(2**25), 9))
    with pytest.raises(DataError, match="decompress it yourself if you trust it"):
        read(packed, "image")


@pytest.mark.parametrize(("count", "labels", "found"), [(3, 2, "2 labels"), (3, 2**32 - 1, "bytes early")])
def test_idx_labels_that_lie(count: int, labels: int, found: str, tmp_path: Path) -> None:
    (tmp_path / "t-images-idx3-ubyte").write_bytes(IDX)
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(idx_header(labels) + bytes(min(labels, count)))
    with pytest.raises(DataError, match=found):
        read(tmp_path / "t-images-idx3-ubyte", "image")


def picture(format: str, size: tuple[int, int] = (4, 3), **how: object) -> bytes:
    sink = io.BytesIO()
    Pillow.new("L", size).save(sink, format, **how)  # type: ignore[arg-type]
    return sink.getvalue()


def png_head(width: int, height: int, *chunks: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", head) + b"".join(chunks) + _chunk(b"IEND", b"")


def moving(format: str) -> bytes:
    frames, sink = [Pillow.new("L", (4, 3), shade) for shade in range(0, 250, 5)], io.BytesIO()
    frames[0].save(sink, format, save_all=True, append_images=frames[1:])
    return sink.getvalue()


def tiff(width: int, height: int) -> bytes:
    """One strip of a grey picture, of which no byte is there."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: width * height}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value % 2**32) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


ZEROS = zlib.compress(bytes(200_000_000), 9)  # 200 kB
LINES = struct.pack("<ii", 2**31 - 1, -(2**31) + 1)
TEXTS = [_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20)))] * 99
PICTURES: list[tuple[str, str, bytes]] = [
    ("PNG of 2**31 lines", "PIXELS|IMAGE", png_head(2**31 - 1, 2**31 - 1)),
    ("PNG of 100,000 x 100,000", "PIXELS", png_head(100_000, 100_000)),
    ("PNG whose pixels are none", "IMAGE", png_head(4, 3, _chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 40))),
    ("PNG of a text bomb", "IMAGE", png_head(4, 3, _chunk(b"zTXt", b"a\0\0" + ZEROS))),
    ("PNG of many texts", "IMAGE", png_head(4, 3, *TEXTS)),
    ("PNG of an ICC bomb", "IMAGE", png_head(4, 3, _chunk(b"iCCP", b"a\0\0" + ZEROS))),
    ("PNG of an ITXT bomb", "IMAGE", png_head(4, 3, _chunk(b"iTXt", b"a\0\1\0\0\0" + ZEROS))),
    ("PNG cut off", "IMAGE", picture("PNG", (64, 64))[:60]),
    ("JPEG cut off", "IMAGE", picture("JPEG", (64, 64))[:200]),
    (
        "JPEG of 65,535 x 65,535",
        "PIXELS",
        picture("JPEG").replace(b"\x08\0\x03\0\x04", b"\x08" + b"\xff" * 4),
    ),
    ("BMP of 2**31 lines", "PIXELS|IMAGE", picture("BMP")[:18] + LINES + bytes(32)),
    ("PPM of 10**9 pixels", "PIXELS", b"P5 1000000000 1 255 "),
    ("PPM of endless digits", "IMAGE", b"P5 " + b"9" * 100_000),
    ("TIFF of 10**5 x 10**5", "PIXELS", tiff(100_000, 100_000)),
    (
        "AVIF of 65,535 x 65,535",
        "PIXELS|IMAGE",
        picture("AVIF").replace(struct.pack(">II", 4, 3), struct.pack(">II", 65_535, 65_535)),
    ),
    ("AVIF cut off", "IMAGE", picture("AVIF", (64, 64))[:200]),
    ("moving AVIF", "FRAMES", moving("AVIF")),
    ("moving GIF", "FRAMES", moving("GIF")),
    ("moving PNG", "FRAMES", moving("PNG")),
    ("moving WebP", "FRAMES", moving("WEBP")),
    ("TIFF of pages", "FRAMES", moving("TIFF")),
    ("EPS", "IMAGE", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n%%EOF\n"),
    ("PDF", "IMAGE", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"),
    ("SVG", "IMAGE", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
    ("ICNS", "IMAGE", b"icns\0\0\0\x10" + bytes(64)),
    ("a script", "IMAGE", b"#!/bin/sh\ntouch /tmp/taken\n"),
    ("a zip", "IMAGE", b"PK\3\4" + bytes(64)),
]


@pytest.mark.parametrize(("codes", "data"), [c[1:] for c in PICTURES], ids=[c[0] for c in PICTURES])
def test_pictures_that_are_bombs_or_none(codes: str, data: bytes, tmp_path: Path, bounded: None) -> None:
    for name in ("a.png", "b.jpg"):  # whatever the name says
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError) as caught:
            read(tmp_path / name, "image")
        assert caught.value.code in codes.split("|"), caught.value


def test_the_bytes_decide_which_library_reads_and_only_listed_ones_may() -> None:
    assert set(FORMATS) == {"PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF"}


def test_a_picture_that_is_also_a_zip_loses_what_follows_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("PNG") + b"PK\3\4" + b"payload" * 9)
    source = open_source(str(tmp_path / "a.png"), kind="image")
    schema = source.schema(source.observe(0), target=None, key=())
    (rows,) = source.read(0, schema, skip=frozenset(), rejects=[])
    assert b"payload" not in rows.batch.column("image")[0].as_py()["bytes"]


@pytest.mark.parametrize(
    "name", ["a\nb.png", "a\x1b[2J.png", "-rf.png", "é\u202e.png", "$(id).png", "%s%n.png"]
)
def test_odd_names_are_names(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(png(np.zeros((4, 3), np.uint8)))
    read(tmp_path, "image")
    (tmp_path / name).write_bytes(b"none")
    with pytest.raises(DataError):
        read(tmp_path, "image")


def test_stored_pictures_are_inflated_no_further_than_their_size(bounded: None) -> None:
    bomb = png_head(3, 4, _chunk(b"IDAT", ZEROS))
    with pytest.raises(DataError, match="5000x5000 pixels"):
        read_pngs([bomb, png_head(5_000, 5_000)], height=4, width=3, channels=1)
    for data in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 4\n", picture("TIFF", (3, 4)), b"", None):
        with pytest.raises(DataError, match="unreadable image"):
            read_pngs([data], height=4, width=3, channels=1)


def test_a_bad_file_ends_the_command_with_a_code(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(riff(*[(b"junk", 0, b"")] * 2000))
    command = [sys.executable, "-m", "genpipe.cli", "ingest", str(tmp_path / "a.wav")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 3 and "E-LIMIT" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_folder_of_a_hundred_thousand_files(tmp_path: Path, home: Path, bounded: None) -> None:
    small = png(np.zeros((2, 2), np.uint8))
    for n in range(100_000):
        (tmp_path / f"{n}.png").write_bytes(small)
    source = open_source(str(tmp_path), kind="image")
    assert len(source.files) == 100_000 and source.observe(0).sizes.total() == 4096


def altered(wholes: list[bytes]) -> st.SearchStrategy[bytes]:
    """Whole files with bytes exchanged, sizes overstated, or cut off."""
    extreme = st.sampled_from(
        [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0"]
    )
    cuts = st.lists(st.tuples(st.integers(0, 200), extreme | st.binary(max_size=4)), max_size=3)

    def change(whole: bytes, cuts: list[tuple[int, bytes]], end: int) -> bytes:
        for at, new in cuts:
            at %= len(whole)
            whole = whole[:at] + new + whole[at + len(new) :]
        return whole[: len(whole) - end]

    return st.builds(change, st.sampled_from(wholes), cuts, st.sampled_from([0, 0, 0, 1, 9, 40]))


@pytest.mark.parametrize("name", ["wav", "waves", "idx", "image", "pixels"])
def test_any_bytes_are_media_or_an_error(name: str) -> None:
    target, wholes = TARGETS[name]
    fast = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    fast(given(altered(wholes) | st.binary(max_size=100))(target))()


def test_whole_media_are_read(tmp_path: Path, home: Path) -> None:
    for n in range(30):
        (tmp_path / f"{n}.wav").write_bytes(wav(np.sin(n + np.arange(100 + n)), 8000))
    dataset = ingest(str(tmp_path), name="clips", kind="audio", label="none", frames=64)
    assert dataset.rows("train") + dataset.rows("holdout") == 30
    with pytest.raises(GenpipeError, match="sampling rates"):
        (tmp_path / "x.wav").write_bytes(wav(np.sin(np.arange(100)), 16_000))
        ingest(str(tmp_path), name="mixed", kind="audio", label="none")
