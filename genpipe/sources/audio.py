"""Folders of sound -> 16-bit mono clips of one length and rate, with the class from the folder or file name.

The header is never believed: sizes are checked against the bytes that are there before anything is
allocated, and metadata chunks (names, places) are left behind.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from genpipe.errors import DataError, UsageError
from genpipe.fields import BLOB, AnyField, Audio, Category, Identifier
from genpipe.media.resample import TAPS, resample
from genpipe.media.wav import write_wav
from genpipe.schema import Schema
from genpipe.sources.base import Observed, Options, Reject, Rows, attempt, ordered, unset
from genpipe.sources.files import File
from genpipe.sources.labelled import Labelled
from genpipe.sources.limits import beyond
from genpipe.sources.recordings import ENDS, MANY, RECORDING, exactly, pieces, said, seconds_of_pieces
from genpipe.sources.sound import SUFFIXES as SOUNDS
from genpipe.sources.sound import SoundReader
from genpipe.sources.wav import RATES, Wav, read_wav

SUFFIXES = (".wav", ".wave", *SOUNDS)
BATCH = 256
CUT = "clips that are cut to the length of the others (segment=SECONDS takes all of them, in pieces): {n}"
NOTHING = np.empty(0, np.int16)
PREFIX = re.compile(r"^([^_]+)_.+")


class AudioOptions(Options):
    """frames: cut or pad clips to; None = the length 9 of 10 clips fit in. segment: seconds of the pieces
    that recordings are cut into; by default a few long ones are. rate: resample to so many Hz. label: where
    the class is written: folder, prefix (`7_jackson_32.wav` is class 7), none; auto looks at the names.
    max_seconds: longer files are refused.
    """

    frames: int | None = Field(default=None, ge=1, le=2**28)
    segment: float | None = Field(default=None, exclude_if=unset, gt=0, le=3600, allow_inf_nan=False)
    rate: int | None = Field(default=None, exclude_if=unset, ge=RATES[0], le=RATES[1])
    label: Literal["auto", "folder", "prefix", "none"] = "auto"
    max_seconds: float = Field(default=600.0, gt=0, le=36_000, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_length(self) -> AudioOptions:
        if self.segment and self.frames:
            raise ValueError(
                "segment= cuts a recording into pieces, frames= keeps its beginning: one of them"
            )
        return self


@dataclass
class AudioStats(Observed):
    """Clips by rate and by length (in steps of 64 frames); the first place of every rate."""

    rates: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    places: dict[int, str] = field(default_factory=dict)
    converted: Counter[str] = field(default_factory=Counter)

    def merge(self, other: AudioStats) -> AudioStats:
        places = {**other.places, **self.places}
        places |= {k: min(self.places[k], other.places[k]) for k in self.places.keys() & other.places.keys()}
        return AudioStats(
            self.rejects + other.rejects,
            self.rates + other.rates,
            self.lengths + other.lengths,
            places,
            self.converted + other.converted,
        )


class AudioSource(Labelled):
    kind = "audio"
    more = "segment=1 cuts recordings into pieces of a second; "
    options: AudioOptions

    @cached_property
    def labelled(self) -> str:
        """sheet, folder, prefix or none."""
        if self.options.label != "auto":
            return self.options.label
        if self.sheet is not None:
            return "sheet"
        folders = {self.folder_of(f) for f in self.files}
        if "" not in folders and len(folders) > 1:
            return "folder"
        prefixes = Counter(m[1] for f in self.files if (m := PREFIX.match(f.name)))
        return (
            "prefix"
            if prefixes.total() == len(self.files) and 1 < len(prefixes) <= len(self.files) / 2
            else "none"
        )

    def label_of(self, file: File, field: str) -> str | None:
        if self.labelled == "sheet":
            return super().label_of(file, field)
        if self.labelled == "folder":
            return self.folder_of(file)
        found = PREFIX.match(file.name)
        if found is None:
            raise UsageError(
                "LABEL",
                where=file.uri,
                found="no class before an underscore",
                expected="names such as 7_jackson_32.wav",
                fix="pass label='folder' or label='none'",
            )
        return found[1]

    def _wav(self, file: File, sounds: SoundReader, keep: int = 0) -> Wav:
        """The first `keep` frames, and how many there are, at rate= if that is given."""
        found, rate = self._read(file, sounds, keep), self.options.rate
        if rate is None or rate == found.rate:
            return found
        if keep and found.frames > keep:
            found = self._read(file, sounds, -(-(keep + 2 * TAPS) * found.rate // rate))
        samples = resample(found.samples, found.rate, rate)[:keep]
        coding = f"{found.coding} at {found.rate} Hz"
        return Wav(rate, samples, coding, -(-found.frames * rate // found.rate))

    def _read(self, file: File, sounds: SoundReader, keep: int) -> Wav:
        if file.suffix in SOUNDS:
            return sounds.read(file, self.options.max_seconds, keep)
        return read_wav(file, self.options.max_seconds, keep)

    def observe(self, unit: int) -> AudioStats:
        total, sounds = AudioStats(), SoundReader()
        for file in self.units[unit]:
            seen = attempt(partial(self._wav, sounds=sounds), file, total.rejects)
            if seen is None:
                continue
            total.rates[seen.rate] += 1
            total.lengths[-(-seen.frames // 64) * 64] += 1
            total.places.setdefault(seen.rate, file.uri)
            total.converted[seen.coding] += 1
        return total

    def schema(self, stats: AudioStats, *, target: str | None, key: tuple[str, ...]) -> Schema:
        if not stats.rates:
            raise DataError(
                "EMPTY", found="no readable sound file", expected="WAV, FLAC, Ogg, MP3 or AIFF files"
            )
        if len(stats.rates) > 1:
            shown = "; ".join(
                f"{n} at {r} Hz, such as {stats.places[r]}" for r, n in stats.rates.most_common(3)
            )
            raise DataError(
                "RATE",
                found=f"clips of {len(stats.rates)} sampling rates: {shown}",
                expected="one rate",
                fix=f"pass rate={stats.rates.most_common(1)[0][0]} to resample them",
            )
        (rate,) = stats.rates
        segment = self.options.segment
        if not self.options.frames and not segment:
            segment = seconds_of_pieces(stats.lengths, rate)
        frames = max(1, round(segment * rate)) if segment else self.options.frames
        if frames is None:
            wanted, seen = 0.9 * stats.lengths.total(), 0
            for frames in sorted(stats.lengths):
                seen += stats.lengths[frames]
                if seen >= wanted:
                    break
        assert frames
        reason = f"{stats.rates[rate]} clips at {rate} Hz, cut or padded to {frames} frames"
        if segment:
            reason = f"{stats.rates[rate]} recordings at {rate} Hz in pieces of {segment:g} s"
        fields: tuple[AnyField, ...] = (Audio(name="audio", rate=rate, frames=frames, reason=reason),)
        if self.labelled == "sheet":
            fields += self.classes(target)
        elif self.labelled != "none":
            where = "folder" if self.labelled == "folder" else "file name up to the first underscore"
            fields += (Category(name="label", reason=f"the {where}"),)
        label = fields[1].name if len(fields) == 2 else None
        if segment:
            fields += (Identifier(name=RECORDING, reason="the file that pieces are cut from"),)
        many = segment and stats.rates[rate] >= MANY and not key
        entity = (RECORDING,) if many else ()
        return Schema(kind="audio", fields=fields, target=target or label, key=key, entity=entity)

    def notices(self, stats: AudioStats) -> list[str]:
        at = f" at {self.options.rate} Hz" if self.options.rate else ""
        return [
            f"{n} clips of {coding} were converted to 16-bit mono{at}"
            for coding, n in sorted(stats.converted.items())
            if coding != "16-bit mono"
        ]

    def unused(self, schema: Schema, *, inferred: bool) -> list[str]:
        told, shape = super().unused(schema, inferred=inferred), schema.of_kind("audio")[0]
        assert isinstance(shape, Audio)
        return told + (
            said(len(self.files), shape.frames / shape.rate, bool(schema.entity))
            if RECORDING in schema.names
            else []
        )

    def read(
        self, unit: int, schema: Schema, *, skip: frozenset[str], rejects: list[Reject]
    ) -> Iterator[Rows]:
        shape = schema.of_kind("audio")[0]
        assert isinstance(shape, Audio)
        if shape.frames > self.options.max_seconds * shape.rate:
            found = f"clips of {shape.frames} frames ({shape.frames / shape.rate:.1f} s)"
            expected = f"at most max_seconds={self.options.max_seconds:g}"
            raise UsageError("LENGTH", where="frames", found=found, expected=expected)
        files, sounds = [f for f in self.units[unit] if f.uri not in skip], SoundReader()
        batch = min(BATCH, max(1, self.options.part // (2 * shape.frames)))
        if RECORDING in schema.names:
            for file in files:
                yield from self._pieces(file, shape, schema, sounds, rejects)
            return
        for start in range(0, len(files), batch):
            chunk = files[start : start + batch]
            clips = list(ordered(lambda f: self._clip(f, shape, sounds), chunk))
            rejects += [c for c in clips if isinstance(c, Reject)]
            good = [(f, c) for f, c in zip(chunk, clips, strict=True) if not isinstance(c, Reject)]
            kept = [f for f, _ in good]
            longer = sum(wav.frames > shape.frames for _, (_, wav) in good)
            lost = {CUT: longer} if longer else {}
            yield Rows(self._batch(schema, kept, [c for _, (c, _) in good]), held=self.held(kept), lost=lost)

    def _batch(self, schema: Schema, files: Sequence[File], clips: Sequence[bytes]) -> pa.RecordBatch:
        blobs = [{"bytes": c, "path": f.relative} for f, c in zip(files, clips, strict=True)]
        made = {schema.of_kind("audio")[0].name: pa.array(blobs, BLOB)}
        for told in schema.of_kind("category"):
            made[told.name] = pa.array([self.label_of(f, told.name) for f in files], pa.string())
        made[RECORDING] = pa.array([f.relative for f in files], pa.string())
        return pa.RecordBatch.from_arrays([made[n] for n in schema.names], schema=schema.arrow())

    def _pieces(
        self, file: File, shape: Audio, schema: Schema, sounds: SoundReader, rejects: list[Reject]
    ) -> Iterator[Rows]:
        wav = attempt(partial(self._wav, sounds=sounds, keep=self.options.memory // 8), file, rejects)
        if wav is None:
            return
        if len(wav.samples) < wav.frames:
            found, allowed = f"a recording of {wav.frames} frames", f"{len(wav.samples)}, by memory="
            raise beyond(file.uri, found, allowed, "raise memory=, or cut it into files")
        self._check_rate(file, wav, shape)
        keys, cut = pieces(wav, shape.frames, whole=bool(schema.entity))
        lost = {ENDS: 1} if wav.frames > len(keys) * shape.frames else {}
        batch = min(BATCH, max(1, self.options.part // (2 * shape.frames)))
        for start in range(0, len(keys), batch):
            some = keys[start : start + batch]
            made = self._batch(schema, [file] * len(some), list(itertools.islice(cut, len(some))))
            yield Rows(made, some, self.held([file] * len(some)), {} if start else lost)

    def _clip(self, file: File, shape: Audio, sounds: SoundReader) -> tuple[bytes, Wav] | Reject:
        rejects: list[Reject] = []
        wav = attempt(partial(self._wav, sounds=sounds, keep=shape.frames), file, rejects)
        if wav is None:
            return rejects[0]
        self._check_rate(file, wav, shape)
        return write_wav(exactly(wav.samples, shape.frames), shape.rate), replace(wav, samples=NOTHING)

    def _check_rate(self, file: File, wav: Wav, shape: Audio) -> None:
        if wav.rate != shape.rate:
            raise DataError(
                "RATE",
                where=file.uri,
                found=f"{wav.rate} Hz",
                expected=f"{shape.rate} Hz as in the schema",
                fix=f"pass rate={shape.rate} to resample",
            )
