"""What rows cost in bytes: as rounded codes, and without loss in the format of their kind."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.bundle import Bundle
from genpipe.evaluation.image import decode as pixels_of
from genpipe.evaluation.series import windows
from genpipe.fields import Audio, Image, Series
from genpipe.media.wav import read_clips

LEVEL = 9  # of DEFLATE


def packed(z: np.ndarray, condition: np.ndarray, step: float) -> bytes:
    """Codes (B, Z) in multiples of `step`, each number by itself over the rows, and the classes (B, K)."""
    whole = np.clip(np.rint(z / step), -(2**15), 2**15 - 1).astype("<i2")
    low, high = (np.ascontiguousarray((whole.T >> shift) & 0xFF, dtype=np.uint8) for shift in (0, 8))
    return zlib.compress(low.tobytes() + high.tobytes() + condition.T.astype("<u2").tobytes(), LEVEL)


def plain(bundle: Bundle, batch: pa.RecordBatch) -> tuple[str, int, int]:
    """(name of the format, bytes, values) of rows without loss. Values are pixels times channels, samples,
    steps times channels, or cells of a table.

    PNG as Pillow optimises it and FLAC as libsndfile writes it, a file a row; columns of a table as text,
    series as numbers of 8 bytes, by DEFLATE, a block of rows at a time.
    """
    fields = bundle.schema.fields
    if image := next((f for f in fields if isinstance(f, Image)), None):
        sizes = (image.channels, image.height, image.width)
        pixels = pixels_of(pa.chunked_array([batch.column(image.name)]), *sizes)
        return "png", sum(map(_png, np.rint(pixels * 255).astype(np.uint8))), pixels.size
    if audio := next((f for f in fields if isinstance(f, Audio)), None):
        clips = read_clips(batch.column(audio.name), audio)
        return "flac", sum(_flac(clip, audio.rate) for clip in clips), clips.size
    if series := [f for f in fields if isinstance(f, Series)]:
        channels = [windows(pa.chunked_array([batch.column(f.name)]), f.length, f.name) for f in series]
        numbers = np.stack(channels, -1)
        return "deflate", len(zlib.compress(numbers.tobytes(), LEVEL)), numbers.size
    names = [f.name for f in fields if f.kind != "identifier"]
    columns = (pc.fill_null(batch.column(name).cast(pa.string()), "").to_pylist() for name in names)
    text = "\n".join("\n".join(column) for column in columns)
    return "deflate", len(zlib.compress(text.encode(), LEVEL)), batch.num_rows * len(names)


def _png(pixels: np.ndarray) -> int:
    from PIL import Image as Picture

    sink = io.BytesIO()
    Picture.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(sink, "PNG", optimize=True)
    return len(sink.getvalue())


def _flac(clip: np.ndarray, rate: int) -> int:
    import soundfile

    sink = io.BytesIO()
    soundfile.write(sink, np.rint(clip * 32768.0).clip(-32768, 32767).astype(np.int16), rate, format="FLAC")
    return len(sink.getvalue())
