"""What an attack on a generator found: a score for the report, and a sentence where it is above its limit."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import norm

from genpipe.evaluation.report import Score

CERTAIN = 0.025  # chance of a false alarm over all columns of one attack that finds nothing
FEWEST = 20  # entities of either side, below which nothing is said


@dataclass(frozen=True)
class Finding:
    """score: for the report. leak: what a person reads where it is above the limit, else empty."""

    score: Score
    leak: str = ""


@dataclass(frozen=True)
class Excess:
    """How much more often training entities are hit than as many others. what: the columns, or the things;
    empty: whole rows.

    value, chance: of training and of other entities. error: standard error of value - chance. luck: how
    probable such an excess is of a generator that has learnt nobody, where that can be told exactly.
    """

    what: str
    value: float
    chance: float
    error: float
    luck: float = 0.0

    def low(self, looks: int) -> float:
        """value - chance is above this, but for one case in 1 / CERTAIN among so many looks (Bonferroni)."""
        certain = CERTAIN / max(1, looks)
        if self.luck > certain:
            return -1.0
        return self.value - self.chance - float(norm.isf(certain)) * self.error


def told(
    name: str, title: str, meaning: str, found: list[Excess], limit: float, *, leak: str,
    excused: float = 0.0, reason: str = "",
) -> Finding:  # fmt: skip
    """A finding of the worst of several columns; `leak` is followed by the columns above the limit.

    found: empty = nothing could be asked, for `reason`. excused: times chance that come on top of the limit.
    """
    if not found:
        score = Score(name=name, title=title, goal="min", value=None, ceiling=None, floor=None,
                      meaning=meaning, reason=reason)  # fmt: skip
        return Finding(score)
    over = [e for e in found if e.low(len(found)) > limit + excused * e.chance]
    over.sort(key=lambda e: -e.low(len(found)))
    one = over[0] if over else max(found, key=lambda e: (e.value - e.chance) / e.error)
    score = Score(
        name=name, title=title, goal="min", value=one.value, ceiling=one.chance, floor=1.0,
        meaning=f"{meaning}; here of {one.what}, the worst" if one.what else meaning, error=one.error,
    )  # fmt: skip
    if not over:
        return Finding(score)
    some = ", ".join(f"{e.what} {e.value:.1%} (others {e.chance:.1%})".lstrip() for e in over[:3])
    more = f" and {len(over) - 3} more" if len(over) > 3 else ""
    return Finding(score, f"{leak}: {some}{more}")
