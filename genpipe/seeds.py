"""The only place where randomness begins: named child seeds of one root seed.

`derive(seed, "generate", block)` is a pure function, so a retried, moved or reordered piece of work
draws the same numbers as the first try. BLAKE2 keeps the children of different paths independent.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(root: int, *path: int | str) -> int:
    """A 63-bit seed for the piece of work that `path` names, below the root seed."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (root, *path):
        # length-prefixed, so that ("ab", "c") and ("a", "bc") differ
        text = f"{type(part).__name__}:{part}".encode()
        digest.update(len(text).to_bytes(4, "little") + text)
    return int.from_bytes(digest.digest(), "little") >> 1


def numpy_rng(root: int, *path: int | str) -> np.random.Generator:
    """A numpy generator for that piece of work (Philox: counter-based, same stream on every platform)."""
    return np.random.Generator(np.random.Philox(derive(root, *path)))


def drawn(rng: np.random.Generator, count: int, most: int) -> np.ndarray:
    """At most so many of `count` places, drawn without replacement, ascending."""
    return np.arange(count) if count <= most else np.sort(rng.choice(count, size=most, replace=False))
