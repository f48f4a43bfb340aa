"""Codecs: records <-> arrays, one per data kind."""

from __future__ import annotations

from genpipe.codecs.audio import AudioCodec
from genpipe.codecs.base import Codec
from genpipe.codecs.image import ImageCodec
from genpipe.codecs.series import SeriesCodec
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.codecs.text import TextCodec
from genpipe.plugins import Registry

CODECS: Registry[type[Codec]] = Registry(
    "codecs",
    {
        "tabular": TabularCodec,
        "image": ImageCodec,
        "series": SeriesCodec,
        "text": TextCodec,
        "audio": AudioCodec,
    },
)
