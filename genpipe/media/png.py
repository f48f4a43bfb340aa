"""PNG bytes <-> pixels, many small pictures at a time.

Pillow takes about 80 microseconds to open a picture however small it is: a minute for a million of them, in
every process that trains. Plain PNGs (8 bits, grey or RGB, not interlaced, as ingest writes them) are
therefore inflated one by one and their line filters undone for all pictures at once (PNG specification,
section 9); every other picture goes through Pillow. Written PNGs use no filter: the same pixels are the same
bytes whatever Pillow is installed.

    B pictures · H lines · S = W * C bytes of a line
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from genpipe.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FORMATS = ("PNG", "JPEG")  # others call more code than a dataset needs, EPS even Ghostscript
SMALL = 64 * 64  # pixels; beyond it Pillow's fixed cost no longer counts
_TYPE = {1: 0, 3: 2}  # PNG's colour type by channels


def read_pngs(
    blobs: list[bytes | None], *, height: int, width: int, channels: int, where: str = "image"
) -> np.ndarray:
    """(B, H, W, C) uint8; a picture that is none, or of another size, is a DataError naming its row."""
    out = np.empty((len(blobs), height, width * channels), dtype=np.uint8)
    lines = np.empty((len(blobs), height, 1 + width * channels), dtype=np.uint8)
    plain = np.zeros(len(blobs), dtype=bool)
    for i, data in enumerate(blobs):
        inflated = _inflate(data, height, width, channels) if height * width <= SMALL and data else None
        if inflated is not None:
            lines[i] = np.frombuffer(inflated, np.uint8).reshape(height, -1)
            plain[i] = True
        else:
            out[i] = _open(data, height, width, channels, f"{where}:row {i}").reshape(height, -1)
    if plain.any():
        out[plain] = _unfilter(lines[plain], channels)
    return out.reshape(len(blobs), height, width, channels)


def _inflate(data: bytes, height: int, width: int, channels: int) -> bytes | None:
    """The filtered lines of a plain PNG; None for anything else, which Pillow then reads or refuses."""
    if data[:8] != SIGNATURE or data[16:29] != struct.pack(
        ">IIBBBBB", width, height, 8, _TYPE[channels], 0, 0, 0
    ):
        return None
    at, parts = 33, []
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name == b"tRNS":
            return None
        if name == b"IDAT":
            parts.append(data[at + 8 : at + 8 + length])
        at += 12 + length
    size = height * (1 + width * channels)
    try:
        lines = zlib.decompressobj().decompress(b"".join(parts), size + 1)  # no more, however much is in it
    except zlib.error:
        return None
    return lines if len(lines) == size and max(lines[:: size // height]) <= 4 else None


def _open(data: bytes | None, height: int, width: int, channels: int, where: str) -> np.ndarray:
    from PIL import Image

    expected = f"a picture of {width}x{height} pixels"
    try:
        with Image.open(io.BytesIO(data or b""), formats=FORMATS) as picture:
            if picture.size != (width, height):  # before its pixels are made
                found = f"{picture.width}x{picture.height} pixels"
                raise DataError("IMAGE", where=where, found=found, expected=expected)
            return np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow has no list of what damaged bytes may raise
        found = f"unreadable image ({str(error)[:200]})"
        raise DataError("IMAGE", where=where, found=found, expected=expected) from None


def _unfilter(lines: np.ndarray, channels: int) -> np.ndarray:
    """(B, H, 1 + S), each line led by its filter -> (B, H, S). Sums wrap around at 256, as PNG wants."""
    out = lines[:, :, 1:].copy()
    above = np.zeros_like(out[:, 0])
    for r in range(out.shape[1]):
        kind, line = lines[:, r, 0], out[:, r]
        sub = np.flatnonzero(kind == 1)
        pixels = line[sub].reshape(len(sub), line.shape[1] // channels, channels)
        line[sub] = pixels.cumsum(1, dtype=np.uint8).reshape(line[sub].shape)
        line[kind == 2] += above[kind == 2]
        for which, predict in ((3, _average), (4, _paeth)):
            rows = np.flatnonzero(kind == which)
            if len(rows):
                line[rows] = _predicted(line[rows], above[rows], channels, predict)
        above = line
    return out


def _predicted(line: np.ndarray, above: np.ndarray, channels: int, predict: object) -> np.ndarray:
    """Pixel after pixel, from the one to the left, the one above and the one above that."""
    raw = line.reshape(len(line), -1, channels)
    over = above.reshape(raw.shape).astype(np.int16)
    left = corner = np.zeros((len(line), channels), dtype=np.int16)
    for x in range(raw.shape[1]):
        guess = predict(left, over[:, x], corner)  # type: ignore[operator]
        raw[:, x] += guess.astype(np.uint8)
        left, corner = raw[:, x].astype(np.int16), over[:, x]
    return raw.reshape(line.shape)


def _average(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    return (left + up) >> 1


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Whichever of the three is nearest to left + up - corner, in this order."""
    to_left, to_up = np.abs(up - corner), np.abs(left - corner)
    to_corner = np.abs(left + up - 2 * corner)
    second = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, second)


def write_png(pixels: np.ndarray) -> bytes:
    """(H, W, 1 or 3) uint8 -> PNG bytes."""
    height, width, channels = pixels.shape
    lines = np.zeros((height, 1 + width * channels), dtype=np.uint8)  # every line begins with its filter, 0
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _TYPE[channels], 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 6)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
