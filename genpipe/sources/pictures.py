"""One picture: opened within limits whatever its header claims, turned to plain pixels, written as PNG."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np

from genpipe.errors import DataError
from genpipe.sources.files import File

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


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


def open_picture(file: File, max_pixels: int) -> Any:
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    if file.size == 0:
        raise DataError(
            "IMAGE", where=file.uri, found="0 bytes", expected="a picture", fix="fetch it again or remove it"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # our own cap below is lower
            picture = Pillow.open(io.BytesIO(file.read(256 * 2**20)), formats=FORMATS)
    except UnidentifiedImageError:
        raise DataError(
            "IMAGE",
            where=file.uri,
            found="not a picture, whatever its name",
            expected=", ".join(FORMATS),
            fix="remove or convert it",
        ) from None
    except (Pillow.DecompressionBombError, OSError, SyntaxError, ValueError, struct.error) as error:
        code = "PIXELS" if isinstance(error, Pillow.DecompressionBombError) else "IMAGE"
        raise DataError(
            code, where=file.uri, found=str(error), expected=f"a whole picture of at most {max_pixels} pixels"
        ) from None
    if picture.width * picture.height > max_pixels:
        raise DataError(
            "PIXELS",
            where=file.uri,
            found=f"{picture.width}x{picture.height} pixels",
            expected=f"at most {max_pixels} in all",
            fix="scale it down or raise max_pixels=",
        )
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise DataError(
            "FRAMES",
            where=file.uri,
            found=f"{frames} frames",
            expected="a still picture",
            fix="extract one frame",
        )
    return picture
