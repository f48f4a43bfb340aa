"""Image folders by class and MNIST IDX files -> PNG records with a label.

Pixels are counted from the header before anything is decoded; every picture is turned upright, stripped of
metadata and brought to one size and one number of channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, model_validator

from genpipe.errors import DataError
from genpipe.fields import BLOB, AnyField, Category, Image
from genpipe.schema import Schema
from genpipe.sources.base import Options, Reject, Rows, attempt, ordered, unset
from genpipe.sources.files import File
from genpipe.sources.idx import idx_blocks, idx_shape, is_idx, is_labels, labels_of, pair_labels
from genpipe.sources.image_stats import ImageStats
from genpipe.sources.labelled import Labelled
from genpipe.sources.pictures import (
    Fit,
    Levels,
    deep,
    extremes,
    levels_of,
    mode_of,
    open_picture,
    orientation,
    resized,
    to_picture,
    to_png,
    upright,
)

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".pgm", ".ppm")
IDX = re.compile(r"(.*)images?([-_.]idx3)?([-_.]?ubyte)?(\.gz)?$")
SUFFIXES = (*PICTURES, "-ubyte", "-ubyte.gz", ".idx3", ".idx1", "-idx3-ubyte", "-idx1-ubyte")
BATCH = 512


class ImageOptions(Options):
    """size: resize to squares of so many pixels; height, width: to another shape; by default all pictures
    must have one size. fit: of pictures of another shape, cut off what is beyond (crop: the default with
    size), pad with black, or stretch (the default with height and width); alone it resizes to the commonest
    size. channels: 1 grey, 3 colour. levels: what is black and what is white in greys of more than 8 bits; by
    default the range of all of them. max_pixels: larger pictures are refused unread.
    """

    size: int | None = Field(default=None, exclude_if=unset, gt=0, le=16_384)
    fit: Fit | None = Field(default=None, exclude_if=unset)
    levels: tuple[FiniteFloat, FiniteFloat] | None = Field(default=None, exclude_if=unset)
    height: int | None = Field(default=None, gt=0, le=16_384)
    width: int | None = Field(default=None, gt=0, le=16_384)
    channels: Literal[1, 3] | None = None
    max_pixels: int = Field(default=16 * 2**20, gt=0, le=2**28)

    @model_validator(mode="after")
    def _one_size(self) -> ImageOptions:
        if self.size and (self.height or self.width):
            raise ValueError("size= alone, or height= and width=")
        if self.levels and not self.levels[0] < self.levels[1]:
            raise ValueError("levels=[black, white], white above black, such as [0, 4096]")
        return self

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) to resize to; None = none is asked for."""
        height, width = self.height or self.size or self.width, self.width or self.size or self.height
        return (height, width) if height and width else None

    @property
    def fits(self) -> Fit:
        return self.fit or ("stretch" if self.height or self.width else "crop")


class ImageSource(Labelled):
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
                total.add(*seen, self.folder_of(file), file.uri)
        return total

    def _header(self, file: File) -> tuple[tuple[int, int], str, Levels | None]:
        """(height, width), the mode, and the range of greys of more than 8 bits, which are decoded for it."""
        with open_picture(file, self.options.max_pixels) as picture:
            # only these formats can be asked without decoding the picture
            turned = picture.format in ("JPEG", "TIFF", "WEBP", "AVIF") and orientation(picture) >= 5
            size = picture.size if turned else picture.size[::-1]
            ends = extremes(picture, file) if deep(picture) and self.options.levels is None else None
            return (size[0], size[1]), mode_of(picture), ends

    def damaged(self, unit: int) -> list[Reject]:
        files = [f for f in self.units[unit] if not is_idx(f)]
        return [r for r in ordered(self._fault, files) if r is not None]

    def _fault(self, file: File) -> Reject | None:
        found: list[Reject] = []
        attempt(self._whole, file, found)
        return found[0] if found else None

    def _whole(self, file: File) -> None:
        with open_picture(file, self.options.max_pixels) as picture:
            upright(picture, 1, file)

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
                levels=self._levels(stats),
                reason=f"{height}x{width} pictures; modes: {modes}",
            ),
        )
        if self.sheet is not None:
            fields += self.classes(target)
        elif set(stats.labels) != {""}:
            how = "labels file beside the images" if "idx" in stats.labels else f"{len(stats.labels)} folders"
            lacking = self.layout.split is not None and "" in stats.labels
            fields += (Category(name="label", nullable=lacking, reason=how),)
        label = fields[1].name if len(fields) == 2 else None
        return Schema(kind="image", fields=fields, target=target or label, key=key)

    def _levels(self, stats: ImageStats) -> Levels | None:
        return self.options.levels or (levels_of(stats.low, stats.high) if stats.deep else None)

    def _size(self, stats: ImageStats) -> tuple[int, int]:
        (height, width), _ = min(stats.sizes.items(), key=lambda kv: (-kv[1], kv[0]))
        if self.options.shape:
            return self.options.shape
        if len(stats.sizes) > 1 and not self.options.fit:
            shown = "; ".join(
                f"{n} of {h}x{w}, such as {stats.places.get((h, w), '')}"
                for (h, w), n in sorted(stats.sizes.items(), key=lambda kv: (-kv[1], kv[0]))[:3]
            )
            raise DataError(
                "SHAPE",
                found=f"pictures of {len(stats.sizes)} sizes: {shown}",
                expected="one size",
                fix=f"pass height={height}, width={width}, or size=64, to resize; fit= says how",
            )
        return height, width

    def notices(self, stats: ImageStats) -> list[str]:
        return stats.notices(self._size(stats), self.options.fits, self._levels(stats))

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
            kept = [f for f, _ in good]
            labels = [self.label_of(f, c.name) for f in kept for c in schema.of_kind("category")]
            yield Rows(
                _batch(schema, [d for _, d in good], [f.relative for f in kept], labels),
                held=self.held(kept),
            )

    def _picture(self, file: File, shape: Image) -> bytes | Reject:
        rejects: list[Reject] = []
        return attempt(partial(self._decode, shape=shape), file, rejects) or rejects[0]

    def _decode(self, file: File, shape: Image) -> bytes:
        with open_picture(file, self.options.max_pixels) as picture:
            flat = upright(picture, shape.channels, file, shape.levels)
            if flat.size != (shape.width, shape.height):
                if not (self.options.shape or self.options.fit):
                    raise DataError(
                        "SHAPE",
                        where=file.uri,
                        found=f"{flat.size[1]}x{flat.size[0]}",
                        expected=f"{shape.height}x{shape.width} as in the schema",
                        fix=f"pass height={shape.height}, width={shape.width} to resize",
                    )
                flat = resized(flat, shape.width, shape.height, self.options.fits)
            return to_png(np.asarray(flat))

    def _read_idx(self, file: File, schema: Schema, shape: Image) -> Iterator[Rows]:
        count, height, width = idx_shape(file, 3)
        if (height, width) != (shape.height, shape.width) and not (self.options.shape or self.options.fit):
            raise DataError(
                "SHAPE",
                where=file.uri,
                found=f"{height}x{width} pictures",
                expected=f"{shape.height}x{shape.width}",
                fix="ingest them apart, or pass size=",
            )

        def packed(pictures: np.ndarray) -> list[bytes]:
            return [to_png(self._shaped(x, shape)) for x in pictures]

        block = min(BATCH * 8, max(1, self.options.part // (height * width)))
        for start, pixels, classes in idx_blocks(file, labels_of(file, self.files), count, block):
            blobs = [p for chunk in ordered(packed, np.array_split(pixels, 4)) for p in chunk]
            names = [f"{file.name.split('.')[0]}/{i:06d}.png" for i in range(start, start + len(pixels))]
            yield Rows(_batch(schema, blobs, names, classes or [""] * len(pixels)))

    def _shaped(self, pixels: np.ndarray, shape: Image) -> np.ndarray:
        if pixels.shape == (shape.height, shape.width):
            return pixels
        return np.asarray(resized(to_picture(pixels), shape.width, shape.height, self.options.fits))


def _batch(
    schema: Schema, blobs: list[bytes], paths: list[str], labels: Sequence[str | None]
) -> pa.RecordBatch:
    made = {
        schema.of_kind("image")[0].name: pa.array(
            [{"bytes": b, "path": p} for b, p in zip(blobs, paths, strict=True)], BLOB
        )
    }
    made |= {f.name: pa.array(labels, pa.string()) for f in schema.of_kind("category")}
    return pa.RecordBatch.from_arrays([made[name] for name in schema.names], schema=schema.arrow())
