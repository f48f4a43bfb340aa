"""The kinds of data, apart from their fields: those need Arrow, and `--help` names the kinds without it."""

from __future__ import annotations

from typing import Literal, get_args

DataKind = Literal["tabular", "image", "series", "text", "audio"]
KINDS: tuple[str, ...] = get_args(DataKind)
