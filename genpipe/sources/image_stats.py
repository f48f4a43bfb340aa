"""What is in a folder of pictures: sizes, modes, classes, and the range of greys of more than 8 bits."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from genpipe.sources.base import Observed
from genpipe.sources.pictures import DEEP_COLOUR, Fit, Levels


@dataclass
class ImageStats(Observed):
    """Pictures by (height, width), by Pillow mode and by class; the first place of every size.

    deep, low, high: how many have greys of more than 8 bits, and the ends of their range.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    places: dict[tuple[int, int], str] = field(default_factory=dict)
    deep: int = 0
    low: float = math.inf
    high: float = -math.inf

    def merge(self, other: ImageStats) -> ImageStats:
        places = {**other.places, **self.places}
        places |= {k: min(self.places[k], other.places[k]) for k in self.places.keys() & other.places.keys()}
        return ImageStats(
            self.rejects + other.rejects,
            self.sizes + other.sizes,
            self.modes + other.modes,
            self.labels + other.labels,
            places,
            self.deep + other.deep,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    def add(self, size: tuple[int, int], mode: str, ends: Levels | None, label: str, place: str) -> None:
        """One picture. ends: the range of deep greys."""
        self.sizes[size] += 1
        self.modes[mode] += 1
        self.labels[label] += 1
        self.places.setdefault(size, place)
        if ends is not None:
            self.deep += 1
            self.low, self.high = min(self.low, ends[0]), max(self.high, ends[1])

    def notices(self, size: tuple[int, int], fit: Fit, levels: Levels | None) -> list[str]:
        """What was done to pictures that became `size`, and whose deep greys became `levels`."""
        odd = {m: n for m, n in sorted(self.modes.items()) if m not in ("L", "RGB", DEEP_COLOUR)}
        said = [f"{n} pictures of mode {m} were converted" for m, n in odd.items()]
        if self.modes[DEEP_COLOUR]:
            said.append(f"of {self.modes[DEEP_COLOUR]} colour pictures of 16 bits the upper 8 bits are kept")
        if levels and self.deep:
            said.append(
                f"{self.deep} pictures of greys of more than 8 bits were scaled to bytes: {levels[0]:g} is "
                f"black, {levels[1]:g} is white; levels=[black, white] takes others"
            )
        height, width = size
        resized = sum(n for found, n in self.sizes.items() if found != size)
        shaped = sum(n for (h, w), n in self.sizes.items() if h * width != w * height)
        if resized:
            done = {"crop": "cut on both sides", "pad": "padded with black", "stretch": "stretched"}[fit]
            other = f", {shaped} of another shape were {done} (fit={fit})" if shaped else ""
            said.append(f"{resized} pictures were resized to {height}x{width}{other}")
        return said
