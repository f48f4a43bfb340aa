"""Sound as datasets keep it: 16-bit mono WAV files in memory."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pyarrow as pa

from genpipe.errors import DataError
from genpipe.fields import Audio


def write_wav(samples: np.ndarray, rate: int) -> bytes:
    """(T,) int16 -> the bytes of a 16-bit mono WAV file."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.astype("<i2").tobytes())
    return sink.getvalue()


def write_clip(samples: np.ndarray, field: Audio, length: int | None = None) -> bytes:
    """(N,) floats in [-1, 1] -> a WAV file of `length` frames, by default the field's: cut, or followed by
    silence.
    """
    frames = field.frames if length is None else length
    whole = np.zeros(frames, dtype=np.int16)
    whole[: len(samples)] = np.clip(np.rint(samples[:frames] * 32768.0), -32768, 32767)
    return write_wav(whole, field.rate)


def read_clips(column: pa.Array | pa.ChunkedArray, field: Audio) -> np.ndarray:
    """(B, field.frames) float32 in [-1, 1] of a column of WAV files; longer clips are cut, shorter ones end
    in silence. A clip that is none, or of another rate, is a DataError that names its row.
    """
    out = np.zeros((len(column), field.frames), dtype=np.float32)
    for i, record in enumerate(column.to_pylist()):
        data, where = (record or {}).get("bytes"), f"{field.name}:row {i}"
        try:
            with wave.open(io.BytesIO(data or b"")) as file:
                got = file.getframerate(), file.getnchannels(), file.getsampwidth()
                samples = np.frombuffer(file.readframes(field.frames), dtype="<i2")
        except (wave.Error, EOFError, ValueError, RuntimeError, struct.error) as error:
            found = f"unreadable WAV ({error or 'truncated file'})"
            raise DataError("AUDIO", where=where, found=found, expected="WAV bytes") from None
        if got != (field.rate, 1, 2):
            found = f"{got[0]} Hz, {got[1]} channels, {8 * got[2]} bits"
            expected = f"{field.rate} Hz, 1 channel, 16 bits"
            raise DataError("AUDIO", where=where, found=found, expected=expected)
        out[i, : len(samples)] = samples.astype(np.float32) / 32768.0
    return out
