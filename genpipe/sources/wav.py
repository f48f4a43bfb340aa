"""WAV files, decoded to 16-bit mono; every claim of the header is checked against the bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from genpipe.errors import DataError
from genpipe.sources.files import CODECS, File, open_stream
from genpipe.sources.stream import damaged

RATES = (1000, 384_000)
ENDLESS = 0xFFFFFFFF  # as writers of streams give a size they do not know
MOST_CHUNKS, MOST_SKIPPED, BLOCK = 1000, 64 * 2**20, 2**20


@dataclass(frozen=True)
class Wav:
    """samples: (T,) int16, those that were kept. coding: how it was stored. frames: of the whole file."""

    rate: int
    samples: np.ndarray
    coding: str
    frames: int


def read_wav(file: File, max_seconds: float, keep: int = 2**62) -> Wav:
    """Decode a RIFF WAV file, a block at a time; everything its header claims is checked.

    keep: frames to hold in memory, from the first; all are read and checked. Raises DataError.
    """
    try:
        with open_stream(file) as stream:
            return _Reader(file, stream).wav(max_seconds, keep)
    except OSError as error:
        raise damaged(file, error) from None


class _Reader:
    """One pass over the bytes. at: the position in the decompressed file."""

    def __init__(self, file: File, stream: pa.NativeFile) -> None:
        self.file, self.stream, self.at = file, stream, 0

    def wav(self, max_seconds: float, keep: int) -> Wav:
        self._magic()
        form, (claimed, there) = self._chunks()
        tag, channels, rate, _, align, bits = struct.unpack("<HHIIHH", form[:16])
        if tag == 0xFFFE and len(form) >= 26:
            tag = struct.unpack("<H", form[24:26])[0]
        _check_header(self.file, tag, channels, rate, align, bits)
        most = int(max_seconds * rate)
        if there is not None and claimed != ENDLESS and claimed > there:
            raise self._truncated(there // align, claimed // align)
        if claimed // align > most and claimed != ENDLESS:
            raise wrong_length(self.file, claimed // align, rate, max_seconds)
        kept: list[np.ndarray] = []
        frames = holding = 0
        for raw in self._blocks(claimed, align):
            # one frame more than allowed is enough to know that there are too many
            values = _samples(self.file, raw, tag, bits, frames).reshape(-1, channels)
            mono = values.mean(1) if channels > 1 else values[:, 0]
            frames += len(mono)
            if frames > most:
                raise wrong_length(self.file, frames, rate, max_seconds)
            part = mono[: max(0, keep - holding)]
            holding += len(part)
            if len(part):
                kept.append(np.clip(np.rint(part * 32768.0), -32768, 32767).astype(np.int16))
        if claimed != ENDLESS and frames < claimed // align:
            raise self._truncated(frames, claimed // align)
        if frames == 0:
            raise wrong_length(self.file, 0, rate, max_seconds)
        sort = "mono" if channels == 1 else f"{channels} channels"
        samples = np.concatenate(kept) if kept else np.empty(0, np.int16)
        return Wav(rate, samples, f"{bits}-bit{' float' if tag == 3 else ''} {sort}", frames)

    def _read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.at += len(data)
        return data

    def _magic(self) -> None:
        data, uri = self._read(12), self.file.uri
        if not data:
            fix = "fetch it again or remove it"
            raise DataError("WAV", where=uri, found="0 bytes", expected="a WAV file", fix=fix)
        if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
            kinds = {b"fLaC": "FLAC", b"ID3\x03": "MP3", b"OggS": "Ogg", b"RIFX": "RIFX", b"RF64": "RF64"}
            found = f"{kinds.get(data[:4], 'something else')} under a .wav name"
            raise DataError("MAGIC", where=uri, found=found, expected="RIFF WAVE", fix="convert it to WAV")

    def _chunks(self) -> tuple[bytes, tuple[int, int | None]]:
        """The format, and of the samples the bytes claimed (ENDLESS: up to the end of the file) and, where
        the size of the file tells, those that are there. The stream then stands at the samples.
        """
        form = b""
        for _ in range(MOST_CHUNKS):
            head = self._read(8)
            if len(head) < 8:
                break
            name, claimed = head[:4], struct.unpack("<I", head[4:])[0]
            if name == b"data" and form:
                there = None if self.file.uri.lower().endswith(tuple(CODECS)) else self.file.size - self.at
                return form, (claimed if claimed not in (0, ENDLESS) else ENDLESS, there)
            taken = b""
            if name == b"fmt " and not form:
                taken = form = self._read(min(claimed, 64))
                if len(form) < 16:
                    found = f"a format chunk of {len(form)} bytes"
                    raise DataError("WAVHDR", where=self.file.uri, found=found, expected="at least 16")
            self._skip(claimed + claimed % 2 - len(taken))
        else:
            found, fix = f"more than {MOST_CHUNKS} chunks before the samples", "export it again"
            raise DataError("LIMIT", where=self.file.uri, found=found, expected="at most so many", fix=fix)
        raise DataError(
            "WAV",
            where=self.file.uri,
            found="no format or no data chunk",
            expected="both, the format first",
            fix="fetch it again or remove it",
        )

    def _skip(self, size: int) -> None:
        if self.at + size > MOST_SKIPPED:
            found = f"{size} bytes of something else before the samples"
            expected = f"at most {MOST_SKIPPED}"
            raise DataError(
                "LIMIT", where=self.file.uri, found=found, expected=expected, fix="export it again"
            )
        while size > 0 and (data := self._read(min(size, BLOCK))):
            size -= len(data)

    def _blocks(self, claimed: int, align: int) -> Iterator[bytes]:
        """Whole frames, about BLOCK bytes at a time."""
        left = claimed if claimed != ENDLESS else 2**62
        while left > 0:
            data = self._read(min(left, max(1, BLOCK // align) * align))
            left -= len(data)
            whole = len(data) // align * align
            if whole == 0:
                return
            yield data[:whole]

    def _truncated(self, frames: int, claimed: int) -> DataError:
        return DataError(
            "WAVTRUNC",
            where=self.file.uri,
            found=f"{frames} frames",
            expected=f"{claimed} as its header says",
            fix="fetch it again or remove it",
        )


def wrong_length(file: File, frames: int, rate: int, max_seconds: float) -> DataError:
    return DataError(
        "LENGTH",
        where=file.uri,
        found=f"{frames} frames ({frames / rate:.1f} s)",
        expected=f"more than 0 and at most max_seconds={max_seconds:g}",
        fix="remove it, or raise max_seconds=; segment= cuts recordings into pieces",
    )


def _check_header(file: File, tag: int, channels: int, rate: int, align: int, bits: int) -> None:
    if (tag, bits) not in ((1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)):
        raise DataError(
            "WAVFMT",
            where=file.uri,
            found=f"coding {tag} with {bits} bits",
            expected="PCM of 8, 16, 24, 32 bits or float of 32, 64 bits",
            fix="convert it to 16-bit PCM",
        )
    if not RATES[0] <= rate <= RATES[1] or not 1 <= channels <= 64 or align != channels * bits // 8:
        raise DataError(
            "WAVHDR",
            where=file.uri,
            found=f"a header of {rate} Hz, {channels} channels, {align} bytes a frame",
            expected=f"{RATES[0]} to {RATES[1]} Hz, 1 to 64 channels of {bits} bits",
            fix="fetch it again or remove it",
        )


def _samples(file: File, raw: bytes, tag: int, bits: int, before: int) -> np.ndarray:
    """Interleaved samples as float64 in [-1, 1). before: frames of earlier blocks."""
    if tag == 3:
        values = np.frombuffer(raw, f"<f{bits // 8}").astype(np.float64)
        if not np.isfinite(values).all():
            raise DataError(
                "NONFINITE",
                where=f"{file.uri}:frame {before + int(np.flatnonzero(~np.isfinite(values))[0])}",
                found="a sample that is not a number",
                expected="finite samples",
                fix="export it again",
            )
        return values
    if bits == 8:
        return (np.frombuffer(raw, np.uint8).astype(np.float64) - 128.0) / 128.0
    if bits == 24:
        triples = np.frombuffer(raw, np.uint8).reshape(-1, 3).astype(np.int32)
        values24 = triples[:, 0] | triples[:, 1] << 8 | triples[:, 2] << 16
        return (values24 - ((values24 & 0x800000) << 1)) / 2.0**23
    return np.frombuffer(raw, f"<i{bits // 8}").astype(np.float64) / 2.0 ** (bits - 1)
