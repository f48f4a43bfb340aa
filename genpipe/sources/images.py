"""Image folders by class and MNIST IDX files -> PNG records with a label.

Pixels are counted from the header before anything is decoded; every picture is turned upright, stripped of
metadata and brought to one size and one number of channels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from genpipe.errors import DataError
from genpipe.fields import BLOB, AnyField, Category, Image
from genpipe.schema import Schema
from genpipe.sources.base import Observed, Options, Reject, Rows, Source, attempt, ordered
from genpipe.sources.files import File, open_stream
from genpipe.sources.idx import exactly, idx_labels, idx_shape, is_idx, is_labels, labels_of, pair_labels
from genpipe.sources.pictures import open_picture, orientation, resized, to_png, upright

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
IDX = re.compile(r"(.*)images?([-_.]idx3)?([-_.]?ubyte)?(\.gz)?$")
SUFFIXES = (*PICTURES, "-ubyte", "-ubyte.gz", ".idx3", ".idx1", "-idx3-ubyte", "-idx1-ubyte")
BATCH = 512


class ImageOptions(Options):
    """height, width: resize to; by default all pictures must have one size. channels: 1 grey, 3 colour.

    max_pixels: larger pictures are refused unread.
    """

    height: int | None = Field(default=None, gt=0, le=16_384)
    width: int | None = Field(default=None, gt=0, le=16_384)
    channels: Literal[1, 3] | None = None
    max_pixels: int = Field(default=16 * 2**20, gt=0, le=2**28)


@dataclass
class ImageStats(Observed):
    """Pictures by (height, width), by Pillow mode and by class; the first place of every size."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    places: dict[tuple[int, int], str] = field(default_factory=dict)

    def merge(self, other: ImageStats) -> ImageStats:
        places = {**other.places, **self.places}
        places |= {k: min(self.places[k], other.places[k]) for k in self.places.keys() & other.places.keys()}
        return ImageStats(
            self.rejects + other.rejects,
            self.sizes + other.sizes,
            self.modes + other.modes,
            self.labels + other.labels,
            places,
        )


class ImageSource(Source):
    kind = "image"
    options: ImageOptions

    def __init__(self, files: tuple[File, ...], options: ImageOptions) -> None:
        super().__init__(pair_labels(files), options)

    @cached_property
    def units(self) -> tuple[tuple[File, ...], ...]:
        if any(is_idx(f) for f in self.files):
            return tuple((f,) for f in self.files if is_idx(f) and not is_labels(f))
        return super().units

    def observe(self, unit: int) -> ImageStats:
        total = ImageStats()
        for file in self.units[unit]:
            if is_idx(file):
                count, height, width = idx_shape(file, 3)
                total.sizes[height, width] += count
                total.modes["L"] += count
                total.labels["idx" if labels_of(file, self.files) else ""] += count
                total.places.setdefault((height, width), file.uri)
                continue
            seen = attempt(self._header, file, total.rejects)
            if seen:
                total.sizes[seen[0]] += 1
                total.modes[seen[1]] += 1
                total.labels[_class_of(file)] += 1
                total.places.setdefault(seen[0], file.uri)
        return total

    def _header(self, file: File) -> tuple[tuple[int, int], str]:
        with open_picture(file, self.options.max_pixels) as picture:
            # only these formats can be asked without decoding the picture
            turned = picture.format in ("JPEG", "TIFF", "WEBP") and orientation(picture) >= 5
            size = picture.size if turned else picture.size[::-1]
            return (size[0], size[1]), picture.mode

    def schema(self, stats: ImageStats, *, target: str | None, key: tuple[str, ...]) -> Schema:
        if not stats.sizes:
            raise DataError(
                "EMPTY",
                found="no readable picture",
                expected="PNG or JPEG files in one folder per class, or MNIST IDX files",
            )
        height, width = self._size(stats)
        grey = set(stats.modes) <= {"1", "L", "LA", "I", "I;16", "I;16B", "F"}
        channels = self.options.channels or (1 if grey else 3)
        modes = ", ".join(f"{n} {m}" for m, n in sorted(stats.modes.items()))
        fields: tuple[AnyField, ...] = (
            Image(
                name="image",
                height=height,
                width=width,
                channels=channels,
                reason=f"{height}x{width} pictures; modes: {modes}",
            ),
        )
        if set(stats.labels) != {""}:
            fields += (
                Category(
                    name="label",
                    reason=f"{len(stats.labels)} folders"
                    if "idx" not in stats.labels
                    else "labels file beside the images",
                ),
            )
        return Schema(
            kind="image", fields=fields, target=target or ("label" if len(fields) == 2 else None), key=key
        )

    def _size(self, stats: ImageStats) -> tuple[int, int]:
        (height, width), _ = min(stats.sizes.items(), key=lambda kv: (-kv[1], kv[0]))
        if self.options.height or self.options.width:
            return (
                self.options.height or self.options.width or 0,
                self.options.width or self.options.height or 0,
            )
        if len(stats.sizes) > 1:
            shown = "; ".join(
                f"{n} of {h}x{w}, such as {stats.places.get((h, w), '')}"
                for (h, w), n in sorted(stats.sizes.items(), key=lambda kv: (-kv[1], kv[0]))[:3]
            )
            raise DataError(
                "SHAPE",
                found=f"pictures of {len(stats.sizes)} sizes: {shown}",
                expected="one size",
                fix=f"pass height={height}, width={width} to resize",
            )
        return height, width

    def notices(self, stats: ImageStats) -> list[str]:
        odd = {m: n for m, n in sorted(stats.modes.items()) if m not in ("L", "RGB")}
        return [f"{n} pictures of mode {m} were converted" for m, n in odd.items()]

    def read(
        self, unit: int, schema: Schema, *, skip: frozenset[str], rejects: list[Reject]
    ) -> Iterator[Rows]:
        files = [f for f in self.units[unit] if f.uri not in skip]
        shape = schema.of_kind("image")[0]
        assert isinstance(shape, Image)
        if files and is_idx(files[0]):
            yield from self._read_idx(files[0], schema, shape)
            return
        batch = min(BATCH, max(1, self.options.part // (shape.height * shape.width * shape.channels)))
        for start in range(0, len(files), batch):
            chunk = files[start : start + batch]
            done = list(ordered(lambda f: self._picture(f, shape), chunk))
            rejects += [r for r in done if isinstance(r, Reject)]
            good = [(f, d) for f, d in zip(chunk, done, strict=True) if isinstance(d, bytes)]
            yield Rows(
                _batch(
                    schema,
                    [d for _, d in good],
                    [f.relative for f, _ in good],
                    [_class_of(f) for f, _ in good],
                )
            )

    def _picture(self, file: File, shape: Image) -> bytes | Reject:
        rejects: list[Reject] = []
        return attempt(partial(self._decode, shape=shape), file, rejects) or rejects[0]

    def _decode(self, file: File, shape: Image) -> bytes:
        with open_picture(file, self.options.max_pixels) as picture:
            flat = upright(picture, shape.channels, file)
            if flat.size != (shape.width, shape.height):
                if not (self.options.height or self.options.width):
                    raise DataError(
                        "SHAPE",
                        where=file.uri,
                        found=f"{flat.size[1]}x{flat.size[0]}",
                        expected=f"{shape.height}x{shape.width} as in the schema",
                        fix=f"pass height={shape.height}, width={shape.width} to resize",
                    )
                flat = resized(flat, shape.width, shape.height)
            return to_png(np.asarray(flat))

    def _read_idx(self, file: File, schema: Schema, shape: Image) -> Iterator[Rows]:
        count, height, width = idx_shape(file, 3)
        if (height, width) != (shape.height, shape.width):
            raise DataError(
                "SHAPE",
                where=file.uri,
                found=f"{height}x{width} pictures",
                expected=f"{shape.height}x{shape.width}",
                fix="ingest them apart",
            )
        beside = labels_of(file, self.files)
        labels = idx_labels(beside, count, file) if beside else None
        with open_stream(file) as stream:
            exactly(stream, 16, file)
            block = min(BATCH * 8, max(1, self.options.part // (height * width)))
            for start in range(0, count, block):
                n = min(block, count - start)
                pixels = np.frombuffer(exactly(stream, n * height * width, file), np.uint8).reshape(
                    n, height, width
                )
                blobs = [
                    p
                    for chunk in ordered(lambda c: [to_png(x) for x in c], np.array_split(pixels, 4))
                    for p in chunk
                ]
                classes = np.frombuffer(exactly(labels, n, beside), np.uint8) if labels and beside else None
                names = [f"{file.name.split('.')[0]}/{i:06d}.png" for i in range(start, start + n)]
                yield Rows(
                    _batch(
                        schema,
                        blobs,
                        names,
                        [""] * n if classes is None else [str(v) for v in classes],
                    )
                )


def _class_of(file: File) -> str:
    parts = file.relative.split("/")
    return parts[0] if len(parts) > 1 else ""


def _batch(schema: Schema, blobs: list[bytes], paths: list[str], labels: list[str]) -> pa.RecordBatch:
    made = {
        "image": pa.array([{"bytes": b, "path": p} for b, p in zip(blobs, paths, strict=True)], BLOB),
        "label": pa.array(labels, pa.string()),
    }
    return pa.RecordBatch.from_arrays([made[name] for name in schema.names], schema=schema.arrow())
