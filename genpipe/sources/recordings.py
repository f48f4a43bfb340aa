"""Recordings -> pieces of one length, dealt so that no stretch of sound is in both splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from genpipe.keys import column_keys, mix
from genpipe.media.wav import write_wav
from genpipe.sources.wav import Wav

MANY = 20  # recordings from which each is in one split whole and counts as one entity
LONG, PIECES = 10, 200  # seconds of a recording, and of a piece at most; how many pieces are wanted
RECORDING = "recording"  # the column that names the file
ENDS = "recordings whose end, less than half a piece, is left out: {n}"


def seconds_of_pieces(lengths: Counter[int], rate: int) -> float | None:
    """Seconds of the pieces of a few long files, counted by length in frames; None = each file is a clip."""
    if lengths.total() >= MANY or max(lengths) < LONG * rate:
        return None
    seconds = sum(length * n for length, n in lengths.items()) / rate
    return float(min(LONG, max(1, int(seconds / PIECES))))


def pieces(wav: Wav, frames: int, *, whole: bool) -> tuple[np.ndarray, Iterator[bytes]]:
    """((N,) uint64 keys of the split, N WAV files of `frames`); what is left at the end is a piece if it is
    half as long as one. whole: all go to one split; else stretches of the recording are dealt to both.
    """
    count = max(1, int(wav.frames / frames + 0.5))
    cut = (write_wav(exactly(wav.samples[n * frames :], frames), wav.rate) for n in range(count))
    first = write_wav(exactly(wav.samples, frames), wav.rate)
    # wherever it lies and whatever it is called: a recording that is there twice is in one split
    (of,) = column_keys(pa.array([str(wav.frames).encode() + first]))
    stretch = count if whole else max(1, count // MANY)
    return mix(of + (np.arange(count) // stretch).astype(np.uint64)), cut


def exactly(samples: np.ndarray, frames: int) -> np.ndarray:
    """(T,) -> (frames,): the first ones, or all and silence."""
    out = np.zeros(frames, np.int16)
    out[: len(samples)] = samples[:frames]
    return out


def said(recordings: int, seconds: float, whole: bool) -> list[str]:
    """Notices of the pieces."""
    counted = "the pieces of a recording are in one split and count as one entity"
    if not whole:
        counted = (
            f"of fewer than {MANY} recordings both splits have pieces, in stretches, and every piece counts "
            "as somebody of its own"
        )
    cut = f"recordings ({recordings}) are cut into pieces of {seconds:g} s; segment= takes another length"
    return [cut, counted]
