"""One picture: opened within limits whatever its header claims, turned to plain pixels, written as PNG."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np

from genpipe.errors import DataError
from genpipe.sources.files import File

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF")  # AVIF where Pillow has it
Fit = Literal["crop", "pad", "stretch"]
DEEP_COLOUR = "RGB of 16 bits"
Levels = tuple[float, float]
MOST_BYTES = 256 * 2**20
LARGE = 2**20  # pixels
_ONE_LARGE = threading.Lock()


def to_picture(pixels: np.ndarray) -> Any:
    """(H, W) or (H, W, 3) uint8 as Pillow has it."""
    from PIL import Image as Pillow

    return Pillow.fromarray(pixels)


def to_png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 -> PNG without metadata."""
    sink = io.BytesIO()
    to_picture(pixels).save(sink, format="PNG", compress_level=4)
    return sink.getvalue()


def mode_of(picture: Any) -> str:
    """Pillow's mode of a picture; of colours of 16 bits it reads but the upper ones, and has no mode."""
    raw = next((str(t[3]) for t in getattr(picture, "tile", [])), "")
    return DEEP_COLOUR if picture.mode.startswith("RGB") and ";16" in raw else str(picture.mode)


def deep(picture: Any) -> bool:
    """Whether its greys have more than 8 bits."""
    return bool(picture.mode.startswith(("I", "F")))


def extremes(picture: Any, file: File) -> Levels:
    """The darkest and the brightest value of a picture of deep greys. Raises DataError ``IMAGE``."""
    with _ONE_LARGE if picture.width * picture.height > LARGE else nullcontext(), _decoding(file):
        values = np.asarray(picture)
        low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        found, fix = "a pixel that is not a number", "export it again"
        raise DataError("NONFINITE", where=file.uri, found=found, expected="finite values", fix=fix)
    return low, high


def levels_of(low: float, high: float) -> Levels | None:
    """Black and white for values from `low` to `high`: round ones, a 16th of the range apart at most, as no
    pixel is anybody's business. None where they are bytes.
    """
    if low >= 0 and 1 < high <= 255:
        return None
    span = high - low or 1.0
    step = 2.0 ** (np.ceil(np.log2(span)) - 4)
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step) or 1.0


def _flat(picture: Any, levels: Levels | None) -> Any:
    """Deep greys as bytes. Without levels those of 16 bits are, where a value is above 255."""
    from PIL import Image as Pillow

    values = np.asarray(picture)
    if levels is not None:
        scaled = (values.astype(np.float32) - levels[0]) * (255.0 / (levels[1] - levels[0]))
        return Pillow.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))
    if picture.mode.startswith("F"):
        return picture
    values = values.astype(np.int64)
    return Pillow.fromarray(
        (values >> 8 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8)
    )


def to_channels(picture: Any, channels: int, levels: Levels | None = None) -> Any:
    """Any Pillow mode -> L or RGB. Deep greys are scaled to `levels`, transparency lies on white."""
    if deep(picture):
        picture = _flat(picture, levels)
    if picture.mode in ("LA", "PA", "RGBA", "P") and (
        "A" in picture.getbands() or "transparency" in picture.info
    ):
        from PIL import Image as Pillow

        picture = picture.convert("RGBA")
        picture = Pillow.alpha_composite(Pillow.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if channels == 1 else "RGB")


def upright(picture: Any, channels: int, file: File, levels: Levels | None = None) -> Any:
    """The picture decoded, turned as its EXIF says, as L or RGB. Raises DataError ``IMAGE``."""
    from PIL import ImageOps

    # a large one takes several times its pixels while it is converted, so these are decoded one at a time
    with _ONE_LARGE if picture.width * picture.height > LARGE else nullcontext(), _decoding(file):
        picture.load()
        turned = picture if orientation(picture) == 1 else ImageOps.exif_transpose(picture)
        return to_channels(turned, channels, levels)


def orientation(picture: Any) -> int:
    """As EXIF numbers it, 1 to 8; 1 where there is none, or none that can be read."""
    try:
        found = picture.getexif().get(0x0112, 1)
    except Exception:  # a damaged description, which no pixel depends on; Pillow raises many kinds
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def resized(picture: Any, width: int, height: int, fit: Fit = "stretch") -> Any:
    """crop: what is beyond the shape is cut off on both sides; pad: black on both; stretch: neither."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    how = Pillow.Resampling.BOX if picture.width > width else Pillow.Resampling.BICUBIC
    if fit == "crop":
        return ImageOps.fit(picture, (width, height), how)
    if fit == "pad":
        return ImageOps.pad(picture, (width, height), how)
    return picture.resize((width, height), how)


@contextmanager
def _decoding(file: File) -> Iterator[None]:
    """Whatever Pillow and its libraries make of hostile bytes is an error of that file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about damaged metadata, and sizes that our own limit is below of
            yield
    except DataError:
        raise
    except Exception as error:  # OSError, SyntaxError, struct.error, zlib.error, and others without a list
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        code = "PIXELS" if type(error).__name__ == "DecompressionBombError" else "IMAGE"
        raise DataError(
            code,
            where=file.uri,
            found=f"a picture that does not decode ({reason})",
            expected="a whole file",
            fix="fetch it again or remove it",
        ) from None


def open_picture(file: File, max_pixels: int) -> Any:
    """The picture, not decoded yet: one of FORMATS, still, and of at most `max_pixels`."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    if file.size == 0:
        raise DataError(
            "IMAGE", where=file.uri, found="0 bytes", expected="a picture", fix="fetch it again or remove it"
        )
    with _decoding(file):
        data = file.read(MOST_BYTES)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # our cap below is lower
                picture = Pillow.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise DataError(
                "IMAGE",
                where=file.uri,
                found="not a picture, whatever its name",
                expected=", ".join(FORMATS),
                fix="remove or convert it",
            ) from None
        if picture.width * picture.height > max_pixels:
            raise DataError(
                "PIXELS",
                where=file.uri,
                found=f"{picture.width}x{picture.height} pixels",
                expected=f"at most {max_pixels} in all",
                fix="scale it down or raise max_pixels=",
            )
        # is_animated looks for a second frame, n_frames counts all of them
        if getattr(picture, "is_animated", False):
            raise DataError(
                "FRAMES",
                where=file.uri,
                found="several frames",
                expected="a still picture",
                fix="extract one frame",
            )
    return picture
