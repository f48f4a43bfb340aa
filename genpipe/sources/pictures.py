"""One picture: opened within limits whatever its header claims, turned to plain pixels, written as PNG."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from genpipe.errors import DataError
from genpipe.sources.files import File

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MOST_BYTES = 256 * 2**20
LARGE = 2**20  # pixels
_ONE_LARGE = threading.Lock()


def to_png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 -> PNG without metadata."""
    from PIL import Image as Pillow

    sink = io.BytesIO()
    Pillow.fromarray(pixels).save(sink, format="PNG", compress_level=4)
    return sink.getvalue()


def to_channels(picture: Any, channels: int) -> Any:
    """Any Pillow mode -> L or RGB. Sixteen bits are scaled, transparency lies on white."""
    if picture.mode.startswith("I"):
        from PIL import Image as Pillow

        values = np.asarray(picture).astype(np.int64)
        picture = Pillow.fromarray(
            (values >> 8 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8)
        )
    if picture.mode in ("LA", "PA", "RGBA", "P") and (
        "A" in picture.getbands() or "transparency" in picture.info
    ):
        from PIL import Image as Pillow

        picture = picture.convert("RGBA")
        picture = Pillow.alpha_composite(Pillow.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if channels == 1 else "RGB")


def upright(picture: Any, channels: int, file: File) -> Any:
    """The picture decoded, turned as its EXIF says, as L or RGB. Raises DataError ``IMAGE``."""
    from PIL import ImageOps

    # a large one takes several times its pixels while it is converted, so these are decoded one at a time
    with _ONE_LARGE if picture.width * picture.height > LARGE else nullcontext(), _decoding(file):
        picture.load()
        turned = picture if orientation(picture) == 1 else ImageOps.exif_transpose(picture)
        return to_channels(turned, channels)


def orientation(picture: Any) -> int:
    """As EXIF numbers it, 1 to 8; 1 where there is none, or none that can be read."""
    try:
        found = picture.getexif().get(0x0112, 1)
    except Exception:  # a damaged description, which no pixel depends on; Pillow raises many kinds
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def resized(picture: Any, width: int, height: int) -> Any:
    from PIL import Image as Pillow

    how = Pillow.Resampling.BOX if picture.width > width else Pillow.Resampling.BICUBIC
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
