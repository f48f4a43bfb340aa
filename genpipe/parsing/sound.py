"""FLAC, Ogg (Vorbis, Opus), MP3, AIFF by libsndfile: M says rate, frames and coding, B is 16-bit mono."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import soundfile

from genpipe.parsing.pipe import Fetched, Pipe, serve

BLOCK = 2**16  # frames


def send_file(pipe: Pipe, request: dict[str, Any]) -> None:
    """The first `keep` frames, and how many there are; decoding ends one beyond `most_seconds`.

    M gives `claimed` frames too, those of the header: null where a header is but a guess.
    """
    path = request.get("path")
    source = path if path else Fetched(pipe, request["size"])
    with soundfile.SoundFile(source) as file:
        rate, channels, frames = file.samplerate, file.channels, 0
        most = int(request["most_seconds"] * rate) + 1
        block = max(1, min(BLOCK, BLOCK // channels))
        while frames < most and len(data := file.read(min(block, most - frames), "float32", always_2d=True)):
            if not np.isfinite(data).all():
                raise ValueError(f"frame {frames} or one of the next {len(data)} is not a number")
            kept = data[: max(0, request["keep"] - frames)]
            frames += len(data)
            if len(kept):
                mono = kept.mean(1, dtype=np.float64)
                pipe.send(b"B", np.clip(np.rint(mono * 32768.0), -32768, 32767).astype("<i2").tobytes())
        told = {
            "rate": rate,
            "channels": channels,
            "frames": frames,
            "claimed": None if file.format in ("MP3", "MPEG") else file.frames,
            "coding": f"{file.format} {file.subtype}".replace("_", " ").title().replace("Flac", "FLAC"),
        }
        pipe.send(b"M", json.dumps(told).encode())
    pipe.send(b"E")


if __name__ == "__main__":
    serve(send_file, wrong=(soundfile.SoundFileError, OSError, ValueError, RuntimeError, TypeError))
