"""Texts that copy: no run of so many characters of the training texts goes out.

The texts that were learnt are at hand only where the model was trained. So only `generate` there can compare,
and the bundle holds nothing to compare with: a filter of hashed runs would tell whoever has the bundle
whether any text he can think of was learnt.

Of training texts the hash of every `PLACES`-th run is kept, shorter by almost as much, a byte a character in
all: a run of the length asked for holds one of them whole, wherever it begins. So texts that share somewhat
less (up to `PLACES` - 1 characters) may be left out, too. What `least` entities or more have in common is
nobody's, and may be said.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa

from genpipe.codecs.base import LEAST
from genpipe.codecs.holders import Holders, entities
from genpipe.dataset import Dataset
from genpipe.errors import UsageError
from genpipe.keys import run_keys

PLACES = 8
SHORTEST = 2 * PLACES
ROWS = 16_384


class NoCopies:
    """Of generated rows those that copy nothing. dropped: how many were not."""

    def __init__(self, column: str, length: int, keys: np.ndarray, allowed: list[str]) -> None:
        """keys: of runs of training texts, see `learnt_runs`. allowed: texts that a user began rows with."""
        self.column, self.length, self.dropped = column, length, 0
        self.keys = np.setdiff1d(keys, run_keys(allowed, window(length))[0]) if allowed else keys

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        keys, place = run_keys(batch.column(self.column).to_pylist(), window(self.length))
        clean = np.ones(batch.num_rows, bool)
        if len(self.keys):
            clean[place[found_in(keys, self.keys)]] = False
        self.dropped += int((~clean).sum())
        return batch.filter(pa.array(clean))

    def __str__(self) -> str:
        return f"no run of {self.length} characters of a training text"

    fix = "raise no_copies or the temperature, or train for fewer epochs: this model recites"


def window(length: int) -> int:
    return length - PLACES + 1


def found_in(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N,) bool: which keys are among `known`, which are ascending and some."""
    return known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys


@lru_cache(maxsize=2)
def learnt_runs(uri: str, fingerprint: str, length: int, least: int = LEAST) -> np.ndarray:
    """(R,) keys, ascending, of runs of the training texts that fewer than `least` entities have."""
    dataset, size = Dataset(uri), window(length)
    assert dataset.fingerprint == fingerprint
    column, first, rows = dataset.schema.of_kind("text")[0].name, list[np.ndarray](), 0
    for batch in dataset.batches("train", rows=ROWS):
        texts = batch.column(column).to_pylist()
        keys, place = run_keys(texts, size)
        begin = np.searchsorted(place, place)  # where the runs of each one's text begin
        first.append(np.unique(keys[(np.arange(len(keys)) - begin) % PLACES == 0]))
    known = np.unique(np.concatenate([*first, np.zeros(0, np.uint64)]))
    held = Holders(least, np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    for batch in dataset.batches("train", rows=ROWS) if len(known) else ():
        who = entities(batch, dataset.schema)
        if who is None:
            who = np.arange(rows, rows + batch.num_rows, dtype=np.uint64)
        rows += batch.num_rows
        keys, place = run_keys(batch.column(column).to_pylist(), size)
        there = found_in(keys, known)
        held = held.merge(Holders(least, keys[there], who[place[there]]))
    return known[held.count(known) < least]


def check_no_copies(length: int | None, kind: str) -> None:
    if length is not None and kind != "text":
        found, expected = f"{length} for a generator of {kind} data", "nothing of it but for texts"
        raise UsageError("NOCOPIES", where="no_copies", found=found, expected=expected)
