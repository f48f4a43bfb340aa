"""What an evaluation says: scores between a floor and a ceiling, a verdict, and the numbers behind the
pictures.

A Report is plain JSON (`report.json`), the same to the bit for the same rows and seed. The page a person
reads is made from it in `page.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from genpipe.errors import PrivacyError, QualityError

Verdict = Literal["excellent", "good", "fair", "poor", "collapsed", "copies", "leaks", "unchecked"]
REFUSED: tuple[Verdict, ...] = ("collapsed", "copies", "leaks", "unchecked")  # by `Report.check`


class Score(BaseModel):
    """One number beside what real data reaches (`ceiling`) and what a worthless generator gets (`floor`).

    value None means not applicable, for `reason`. error: one standard error, where known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    goal: Literal["max", "min"]
    value: float | None
    ceiling: float | None
    floor: float | None
    unit: str = ""
    meaning: str
    error: float | None = None
    reason: str = ""

    @property
    def position(self) -> float | None:
        """Where the value lies from floor (0) to ceiling (1), cut to that range.

        Where the floor is as high, as of a table whose columns are independent: its share of the ceiling.
        """
        if self.value is None or self.ceiling is None or self.floor is None:
            return None
        span = self.ceiling - self.floor
        if self.goal == "max" and span <= 0 < self.ceiling:
            return min(1.0, max(0.0, self.value / self.ceiling))
        if abs(span) < 1e-9:
            return 1.0 if self.value == self.ceiling else 0.0
        return min(1.0, max(0.0, (self.value - self.floor) / span))


class Distances(BaseModel):
    """Histogram of distances to the closest training row: shares of rows in equal bins from 0 to `high`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    high: float
    synthetic: tuple[float, ...]
    holdout: tuple[float, ...]


class Report(BaseModel):
    """Scores of one generator against one dataset. The URIs are empty until a stage has written the files.

    tables: of related tables (kind "tables"), the reports of each, and of each with its children.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    train_rows: int
    holdout_rows: int
    rows: int
    seed: int
    scores: tuple[Score, ...]
    parts: dict[str, dict[str, float]] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    verdict: Verdict
    headline: str
    distances: Distances | None = None
    lineage: dict[str, Any] = Field(default_factory=dict)
    tables: dict[str, Report] = Field(default_factory=dict)
    uri: str = ""
    page: str = ""
    picture: str = ""

    def score(self, name: str) -> Score:
        return next(s for s in self.scores if s.name == name)

    @property
    def collapsed(self) -> bool:
        return self.verdict == "collapsed"

    @property
    def metrics(self) -> dict[str, float]:
        """Flat numbers for a tracker: value, ``_ceiling`` and ``_floor`` of every applicable score, and the
        parts.
        """
        found: dict[str, float] = {}
        for score in self.scores:
            if score.value is not None:
                found[score.name] = score.value
                found |= {
                    f"{score.name}_{end}": number
                    for end, number in (("ceiling", score.ceiling), ("floor", score.floor))
                    if number is not None
                }
        return found | {f"fidelity.{name}": part["value"] for name, part in self.parts.items()}

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Rows for a terminal: score, value, floor, real data, what it means."""

        def show(number: float | None) -> str:
            return "–" if number is None else f"{number:.3f}"

        return [
            (
                f"{s.title}{f' ({s.unit})' if s.unit else ''}",
                show(s.value),
                show(s.floor),
                show(s.ceiling),
                s.reason or s.meaning,
            )
            for s in self.scores
        ]

    def check(self) -> None:
        """Raise if this generator must not be registered: QualityError if collapsed, PrivacyError if it
        copies, knows who was in its training data, or if nobody knows.
        """
        if self.verdict == "collapsed":
            raise QualityError(
                "COLLAPSED",
                found=self.headline,
                fix="train longer, lower the learning rate, or choose another recipe",
            )
        if self.verdict == "copies":
            raise PrivacyError(
                "COPIES", found=self.headline, fix="train fewer steps, use a smaller network, or more data"
            )
        if self.verdict == "leaks":
            raise PrivacyError(
                "LEAKS",
                found=self.headline.rstrip("."),
                fix="train fewer epochs, use a smaller network or more entities, or leave such columns out",
            )
        if self.verdict == "unchecked":
            raise PrivacyError("UNCHECKED", found=self.headline, fix="say why it goes on all the same")
