"""MNIST IDX files: big-endian headers, raw bytes, and the labels file found beside by its name."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from genpipe.errors import DataError, UsageError
from genpipe.sources.files import CODECS, File, open_stream

MOST_PIXELS = 2**24  # of one picture
MOST_UNPACKED, MOST_RATIO = 256 * 2**20, 400  # bytes of a compressed file, or times its size


def is_idx(file: File) -> bool:
    return "ubyte" in file.name or file.suffix in (".idx3", ".idx1") or "-idx" in file.name


def is_labels(file: File) -> bool:
    return "label" in file.name or "idx1" in file.name


def pair_labels(files: tuple[File, ...]) -> tuple[File, ...]:
    """An IDX images file named alone brings the labels file that lies beside it."""
    for file in files:
        wanted = _labels_name(file)
        if is_labels(file) or not is_idx(file) or wanted == file.name or labels_of(file, files):
            continue
        folder = file.uri[: -len(file.name)]
        beside = [File(folder + name, 0, "", file.root).now() for name in (wanted, wanted + ".gz")]
        files += tuple(f for f in beside if f)[:1]
    images = [f for f in files if is_idx(f) and not is_labels(f)]
    if any(is_idx(f) for f in files) and not images:
        raise UsageError(
            "IDX",
            where=files[0].uri,
            found="a labels file alone",
            fix="name the images file (…images-idx3-ubyte); its labels are found beside it",
        )
    return files


def _labels_name(file: File) -> str:
    return file.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")


def labels_of(file: File, files: tuple[File, ...]) -> File | None:
    """The labels file of an images file, among those listed."""
    wanted = _labels_name(file)
    return next((f for f in files if f.name.removesuffix(".gz") == wanted and f != file), None)


def exactly(stream: pa.NativeFile, size: int, file: File) -> bytes:
    try:
        data = stream.read(size)
    except OSError as error:
        raise DataError(
            "TRUNCATED",
            where=file.uri,
            found=f"damaged compressed file ({str(error).splitlines()[0]})",
            fix="fetch it again",
        ) from None
    if len(data) < size:
        raise _ends(file, size - len(data))
    return data


def _ends(file: File, early: int) -> DataError:
    return DataError(
        "TRUNCATED",
        where=file.uri,
        found=f"the file ends {early} bytes early",
        expected="as many records as its header says",
        fix="fetch it again",
    )


def idx_shape(file: File, axes: int) -> tuple[int, ...]:
    with open_stream(file) as stream:
        head = exactly(stream, 4 + 4 * axes, file)
    if head[:2] != b"\0\0" or head[2] != 8 or head[3] != axes:
        raise DataError(
            "IDX",
            where=file.uri,
            found=f"first bytes {head[:4].hex()}",
            expected=f"0000080{axes}, an IDX file of bytes with {axes} axes",
            fix="is it another format, or the labels file?",
        )
    shape = struct.unpack(f">{axes}I", head[4:])
    early = len(head) + math.prod(shape) - file.size
    packed = file.uri.lower().endswith(tuple(CODECS))
    if early > 0 and not packed:
        raise _ends(file, early)
    most = max(MOST_UNPACKED, MOST_RATIO * file.size) if packed else file.size
    if math.prod(shape) > most or 0 in shape or math.prod(shape[1:]) > MOST_PIXELS:
        raise DataError(
            "IDX",
            where=file.uri,
            found=f"a header that says {'x'.join(map(str, shape))}, in a file of {file.size} bytes",
            expected=f"sizes above 0 that fit the file, of at most {MOST_PIXELS} bytes a picture",
            fix="fetch it again" + (", or decompress it yourself if you trust it" if packed else ""),
        )
    return shape


def idx_labels(beside: File, count: int, file: File) -> pa.NativeFile:
    """The labels file, open at its first label, if it has one for each of `count` pictures."""
    (have,) = idx_shape(beside, 1)
    if have != count:
        raise DataError(
            "LABELS",
            where=beside.uri,
            found=f"{have} labels",
            expected=f"{count}, one per picture of {file.name}",
            fix="use the two files of one set",
        )
    stream = open_stream(beside)
    exactly(stream, 8, beside)
    return stream


def idx_blocks(
    file: File, beside: File | None, count: int, block: int
) -> Iterator[tuple[int, np.ndarray, list[str] | None]]:
    """(number of the first picture, (n, H, W) uint8, their classes if there is a file of them)."""
    height, width = idx_shape(file, 3)[1:]
    labels = idx_labels(beside, count, file) if beside else None
    with open_stream(file) as stream:
        exactly(stream, 16, file)
        for start in range(0, count, block):
            n = min(block, count - start)
            data = exactly(stream, n * height * width, file)
            pixels = np.frombuffer(data, np.uint8).reshape(n, height, width)
            classes = np.frombuffer(exactly(labels, n, beside), np.uint8) if labels and beside else None
            yield start, pixels, None if classes is None else [str(v) for v in classes]
