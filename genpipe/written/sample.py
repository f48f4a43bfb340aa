"""Some texts of a column, from which its forms are guessed."""

from __future__ import annotations

import pyarrow as pa

SAMPLE = 64


def sample(texts: pa.Array) -> list[str]:
    """The first of them, without blanks around and without missing ones; few where most are missing."""
    return [v.strip() for v in texts.slice(0, 4 * SAMPLE).drop_null().slice(0, SAMPLE).to_pylist()]
