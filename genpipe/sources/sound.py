"""FLAC, Ogg, MP3 and AIFF files, decoded to 16-bit mono by libsndfile in a process of its own."""

from __future__ import annotations

import json
import signal
from typing import Any

import numpy as np

from genpipe.errors import DataError
from genpipe.sources.child import Decoders
from genpipe.sources.files import File
from genpipe.sources.limits import beyond
from genpipe.sources.wav import RATES, Wav, wrong_length

SUFFIXES = (".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
MEMORY = 2**28  # bytes a decoder may take; a block of sound is less than one of them in a hundred


class SoundReader(Decoders):
    def __init__(self) -> None:
        super().__init__("sound", MEMORY)

    def read(self, file: File, max_seconds: float, keep: int = 2**62) -> Wav:
        """As `read_wav`: the first `keep` frames, and how many there are. Raises DataError."""
        kept: list[np.ndarray] = []
        told: dict[str, Any] = {}
        for kind, data in self.frames(file, {"keep": keep, "most_seconds": max_seconds}):
            if kind == b"B":
                kept.append(np.frombuffer(data, "<i2"))
            elif kind == b"M":
                told = json.loads(data)
            else:
                raise self._fault(file, json.loads(data))
        rate, frames, claimed = told["rate"], told["frames"], told["claimed"]
        if not RATES[0] <= rate <= RATES[1]:
            expected = f"{RATES[0]} to {RATES[1]} Hz"
            raise DataError("SOUND", where=file.uri, found=f"{rate} Hz", expected=expected)
        if not 0 < frames <= int(max_seconds * rate):
            raise wrong_length(file, frames, rate, max_seconds)
        if claimed is not None and claimed != frames:
            fix = "fetch it again or remove it"
            raise DataError(
                "SOUND",
                where=file.uri,
                found=f"{frames} frames",
                expected=f"{claimed} as its header says",
                fix=fix,
            )
        sort = "mono" if told["channels"] == 1 else f"{told['channels']} channels"
        samples = np.concatenate(kept) if kept else np.empty(0, np.int16)
        return Wav(rate, samples, f"{told['coding']} {sort}", frames)

    def _fault(self, file: File, told: dict[str, Any]) -> DataError:
        if told.get("memory"):
            return beyond(file.uri, f"more than {self.memory} bytes to decode", "less", "convert it to WAV")
        found = told.get("told") or f"a file on which libsndfile dies ({signal.Signals(told['signal']).name})"
        return DataError(
            "SOUND",
            where=file.uri,
            found=found,
            expected="a whole FLAC, Ogg, MP3 or AIFF file",
            fix="fetch it again, or convert it to WAV",
        )
