"""Folders of files with a class each: from their folders or from a sheet beside them; and splits by folder.

photos/cat/1.png           the class is the first folder that differs
photos/train/cat/1.png     train, test, val, .. are splits and no classes, if all folders there are such
photos/metadata.csv        file_name,label: as Hugging Face's imagefolder has it; labels.csv, .jsonl, too
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from genpipe.errors import UsageError, few
from genpipe.fields import Category
from genpipe.schema import Schema
from genpipe.sources.base import Options, Source
from genpipe.sources.files import File, check_same
from genpipe.sources.sheet import Sheet, read_sheets

SHEETS = tuple(f"{stem}.{suffix}" for stem in ("metadata", "labels") for suffix in ("csv", "jsonl", "tsv"))
TRAIN = ("train", "training")
HELD = ("test", "testing", "val", "valid", "validation", "dev", "eval", "holdout")


class Layout(NamedTuple):
    """skip: folders that all files share and that say nothing. split: the level of the splits, if any."""

    skip: int = 0
    split: int | None = None


def layout_of(files: Sequence[File]) -> Layout:
    """Which folders are classes and which are splits."""
    paths = [f.relative.split("/")[:-1] for f in files]
    if not paths:
        return Layout()
    skip, shortest = 0, min(map(len, paths))
    while skip < shortest - 1 and len({p[skip] for p in paths}) == 1:
        skip += 1
    for level in range(skip, min(skip + 2, shortest)):
        names = {p[level].lower() for p in paths}
        if names & set(TRAIN) and names & set(HELD) and names <= {*TRAIN, *HELD}:
            return Layout(skip, level)
    return Layout(skip)


class Labelled(Source):
    """A source of files that have a class: `label_of` each, and `held`, those the folders hold out.

    A schema's target is a column of the sheets, where there are any.
    """

    options: Options
    sheets: ClassVar[tuple[str, ...]] = SHEETS

    def __init__(self, files: tuple[File, ...], options: Options) -> None:
        self.tables = tuple(f for f in files if f.name.lower() in self.sheets)
        super().__init__(tuple(f for f in files if f not in set(self.tables)), options)
        if not self.files:
            found = f"{few([f.name for f in files])} and no file that it tells of"
            raise UsageError("KIND", found=found, expected=f"{self.kind} files beside it")

    @property
    def identity(self) -> list[Any]:
        told = [[f.uri, f.size, f.stamp] for f in self.tables]
        return [*super().identity, *([["sheets", *told]] if told else [])]

    def check_unchanged(self, units: Iterable[int]) -> None:
        super().check_unchanged(units)
        for file in self.tables:
            check_same(file)

    @cached_property
    def layout(self) -> Layout:
        return layout_of(self.files)

    @cached_property
    def sheet(self) -> Sheet | None:
        return read_sheets(self.tables, self.files, self.options.memory) if self.tables else None

    def classes(self, target: str | None) -> tuple[Category, ...]:
        """The field of classes that a sheet tells, if there is one."""
        assert self.sheet is not None
        name = self.sheet.choose(target)
        if name is None:
            return ()
        lacking = len(self.files) - len(self.sheet.labels(name))
        reason = f"column {name!r} of {few(sorted({f.name for f in self.tables}))}"
        reason += f", {lacking} files without one" if lacking else ""
        return (Category(name=name, nullable=lacking > 0, reason=reason),)

    def folder_of(self, file: File) -> str:
        """The folder that is the class; empty for a file in none."""
        parts = file.relative.split("/")[:-1]
        told = [p for i, p in enumerate(parts) if i >= self.layout.skip and i != self.layout.split]
        return told[0] if told else ""

    def label_of(self, file: File, field: str) -> str | None:
        """The class of a file, as a sheet or its folder has it. field: the schema's name for classes."""
        if self.sheet is not None:
            return self.sheet.labels(field).get(file.uri)
        return self.folder_of(file) or (None if self.layout.split is not None else "")

    def held(self, files: Sequence[File]) -> np.ndarray | None:
        """(B,) bool of files that the folders hold out; None where they do not say."""
        level = self.layout.split
        if level is None:
            return None
        return np.array([f.relative.split("/")[level].lower() in HELD for f in files], bool)

    def unused(self, schema: Schema, *, inferred: bool) -> list[str]:
        said, level = [], self.layout.split
        if level is not None:
            held = sum(f.relative.split("/")[level].lower() in HELD for f in self.files)
            names = few(sorted({f.relative.split("/")[level] for f in self.files}))
            said.append(
                f"the folders {names} are splits and no classes: {len(self.files) - held} files are to train "
                f"on, {held} are held out, whatever holdout= says"
            )
        elif classes := {self.folder_of(f) for f in self.files}:
            named = sorted(c for c in classes if c.lower() in {*TRAIN, *HELD})
            both = {c.lower() for c in named}
            if both & {*TRAIN} and both & {*HELD}:
                said.append(f"the folders {few(named)} are classes and no splits, for others are beside them")
        return said + (self.sheet.notices(schema.target, len(self.files)) if self.sheet is not None else [])
