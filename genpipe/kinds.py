"""Kinds of data by name: ours, and those that plug-ins have codecs for."""

from __future__ import annotations

from typing import Annotated, Any

from genpipe.entries import NameIn
from genpipe.plugins import Registry

KINDS: Registry[Any] = Registry("codecs", dict.fromkeys(("tabular", "image", "series", "text", "audio")))
DataKind = Annotated[str, NameIn(KINDS, searched=False)]
