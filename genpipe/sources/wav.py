"""WAV files, decoded to 16-bit mono; every claim of the header is checked against the bytes."""

from __future__ import annotations

import io
import struct
import wave
from dataclasses import dataclass

import numpy as np

from genpipe.errors import DataError
from genpipe.sources.files import File

RATES = (1000, 384_000)


@dataclass(frozen=True)
class Wav:
    """samples: (T,) int16. coding: how it was stored."""

    rate: int
    samples: np.ndarray
    coding: str


def write_wav(samples: np.ndarray, rate: int) -> bytes:
    """(T,) int16 -> the bytes of a 16-bit mono WAV file."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.astype("<i2").tobytes())
    return sink.getvalue()


def read_wav(file: File, max_seconds: float) -> Wav:
    """Decode a RIFF WAV file; everything its header claims is checked."""
    data = file.read(512 * 2**20)
    if len(data) == 0:
        raise DataError(
            "WAV", where=file.uri, found="0 bytes", expected="a WAV file", fix="fetch it again or remove it"
        )
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        kind = {b"fLaC": "FLAC", b"ID3\x03": "MP3", b"OggS": "Ogg", b"RIFX": "RIFX", b"RF64": "RF64"}.get(
            data[:4], "something else"
        )
        raise DataError(
            "MAGIC",
            where=file.uri,
            found=f"{kind} under a .wav name",
            expected="RIFF WAVE",
            fix="convert it to WAV",
        )
    chunks = _chunks(data, file)
    if b"fmt " not in chunks or b"data" not in chunks:
        raise DataError(
            "WAV",
            where=file.uri,
            found="no format or no data chunk",
            expected="both",
            fix="fetch it again or remove it",
        )
    form, (start, size, claimed) = chunks[b"fmt "], chunks[b"data"]
    if form[1] < 16:
        raise DataError(
            "WAVHDR", where=file.uri, found=f"a format chunk of {form[1]} bytes", expected="at least 16"
        )
    tag, channels, rate, _, align, bits = struct.unpack("<HHIIHH", data[form[0] : form[0] + 16])
    if tag == 0xFFFE and form[1] >= 26:
        tag = struct.unpack("<H", data[form[0] + 24 : form[0] + 26])[0]
    _check_header(file, tag, channels, rate, align, bits)
    if claimed not in (0, 0xFFFFFFFF) and claimed > size:
        raise DataError(
            "WAVTRUNC",
            where=file.uri,
            found=f"{size // align} frames",
            expected=f"{claimed // align} as its header says",
            fix="fetch it again or remove it",
        )
    frames = size // align
    if frames == 0 or frames > max_seconds * rate:
        raise DataError(
            "LENGTH",
            where=file.uri,
            found=f"{frames} frames ({frames / rate:.1f} s)",
            expected=f"more than 0 and at most max_seconds={max_seconds:g}",
            fix="remove or cut it",
        )
    values = _samples(file, data[start : start + frames * align], tag, bits).reshape(frames, channels)
    mono = values.mean(1) if channels > 1 else values[:, 0]
    coding = f"{bits}-bit{' float' if tag == 3 else ''} {'mono' if channels == 1 else f'{channels} channels'}"
    return Wav(rate, np.clip(np.rint(mono * 32768.0), -32768, 32767).astype(np.int16), coding)


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


def _chunks(data: bytes, file: File) -> dict[bytes, tuple[int, int, int]]:
    """id -> (start, bytes really there, bytes claimed), the first of each."""
    at, found = 12, dict[bytes, tuple[int, int, int]]()
    while at + 8 <= len(data):
        name, claimed = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        found.setdefault(
            name,
            (
                at + 8,
                min(claimed, len(data) - at - 8) if claimed or name != b"data" else len(data) - at - 8,
                claimed,
            ),
        )
        at += 8 + claimed + claimed % 2
    return found


def _samples(file: File, raw: bytes, tag: int, bits: int) -> np.ndarray:
    """Interleaved samples as float64 in [-1, 1)."""
    if tag == 3:
        values = np.frombuffer(raw, f"<f{bits // 8}").astype(np.float64)
        if not np.isfinite(values).all():
            raise DataError(
                "NONFINITE",
                where=f"{file.uri}:frame {int(np.flatnonzero(~np.isfinite(values))[0])}",
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
