"""Folders of sound -> 16-bit mono clips of one length and rate, with the class from the folder or file name.

The header is never believed: sizes are checked against the bytes that are there before anything is
allocated, and metadata chunks (names, places) are left behind.
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

from genpipe.errors import DataError, UsageError
from genpipe.fields import BLOB, AnyField, Audio, Category
from genpipe.media.wav import write_wav
from genpipe.schema import Schema
from genpipe.sources.base import Observed, Options, Reject, Rows, Source, attempt, ordered
from genpipe.sources.files import File
from genpipe.sources.sound import SUFFIXES as SOUNDS
from genpipe.sources.sound import SoundReader
from genpipe.sources.wav import Wav, read_wav

SUFFIXES = (".wav", ".wave", *SOUNDS)
BATCH = 256
PREFIX = re.compile(r"^([^_]+)_.+")


class AudioOptions(Options):
    """frames: cut or pad clips to; None = the length 9 of 10 clips fit in. label: where the class is written.

    label: folder, prefix (`7_jackson_32.wav` is class 7), none; auto looks at the names.
    max_seconds: longer files are refused.
    """

    frames: int | None = Field(default=None, ge=1, le=2**28)
    label: Literal["auto", "folder", "prefix", "none"] = "auto"
    max_seconds: float = Field(default=600.0, gt=0, le=36_000, allow_inf_nan=False)


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


class AudioSource(Source):
    kind = "audio"
    options: AudioOptions

    @cached_property
    def labelled(self) -> str:
        """folder, prefix or none."""
        if self.options.label != "auto":
            return self.options.label
        if (
            all("/" in f.relative for f in self.files)
            and len({f.relative.split("/")[0] for f in self.files}) > 1
        ):
            return "folder"
        prefixes = Counter(m[1] for f in self.files if (m := PREFIX.match(f.name)))
        return (
            "prefix"
            if prefixes.total() == len(self.files) and 1 < len(prefixes) <= len(self.files) / 2
            else "none"
        )

    def label_of(self, file: File) -> str:
        if self.labelled == "folder":
            return file.relative.split("/")[0]
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
                fix="resample them to one rate first",
            )
        (rate,) = stats.rates
        frames = self.options.frames
        if frames is None:
            wanted, seen = 0.9 * stats.lengths.total(), 0
            for frames in sorted(stats.lengths):
                seen += stats.lengths[frames]
                if seen >= wanted:
                    break
        assert frames
        reason = f"{stats.rates[rate]} clips at {rate} Hz, cut or padded to {frames} frames"
        fields: tuple[AnyField, ...] = (Audio(name="audio", rate=rate, frames=frames, reason=reason),)
        if self.labelled != "none":
            where = "folder" if self.labelled == "folder" else "file name up to the first underscore"
            fields += (Category(name="label", reason=f"the {where}"),)
        return Schema(
            kind="audio", fields=fields, target=target or ("label" if len(fields) == 2 else None), key=key
        )

    def notices(self, stats: AudioStats) -> list[str]:
        return [
            f"{n} clips of {coding} were converted to 16-bit mono"
            for coding, n in sorted(stats.converted.items())
            if coding != "16-bit mono"
        ]

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
        for start in range(0, len(files), batch):
            chunk = files[start : start + batch]
            clips = list(ordered(lambda f: self._clip(f, shape, sounds), chunk))
            rejects += [c for c in clips if isinstance(c, Reject)]
            good = [(f, c) for f, c in zip(chunk, clips, strict=True) if isinstance(c, bytes)]
            made = {"audio": pa.array([{"bytes": c, "path": f.relative} for f, c in good], BLOB)}
            if "label" in schema.names:
                made["label"] = pa.array([self.label_of(f) for f, _ in good], pa.string())
            yield Rows(pa.RecordBatch.from_arrays([made[n] for n in schema.names], schema=schema.arrow()))

    def _clip(self, file: File, shape: Audio, sounds: SoundReader) -> bytes | Reject:
        rejects: list[Reject] = []
        wav = attempt(partial(self._wav, sounds=sounds, keep=shape.frames), file, rejects)
        if wav is None:
            return rejects[0]
        if wav.rate != shape.rate:
            raise DataError(
                "RATE",
                where=file.uri,
                found=f"{wav.rate} Hz",
                expected=f"{shape.rate} Hz as in the schema",
                fix="resample it first",
            )
        samples = np.zeros(shape.frames, np.int16)
        samples[: len(wav.samples)] = wav.samples[: shape.frames]
        return write_wav(samples, shape.rate)
