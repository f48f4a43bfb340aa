"""PNG and WAV files of arrays, by other people's encoders."""

from __future__ import annotations

import io
import wave

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    """(height, width[, 3]) uint8."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def wav(clip: np.ndarray, rate: int) -> bytes:
    """Samples from -1 to 1 as 16 bits, one channel."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(clip, -1, 1) * 32767).astype("<i2").tobytes())
    return sink.getvalue()
