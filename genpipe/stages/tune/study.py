"""The record of a search: its plan, one file a trial, the rule by which the winner is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from genpipe import store
from genpipe.errors import QualityError
from genpipe.recipe import Recipe
from genpipe.search_space import SearchSpace

METRIC = "fidelity"
TIE = 0.002


class Trial(BaseModel):
    """One row of the leaderboard. state: finished, stopped (early, by ASHA or the budget) or failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    choices: dict[str, Any]
    state: str
    metrics: dict[str, float] = {}
    history: tuple[tuple[int, float], ...] = ()
    seconds: float = 0.0
    error: str = ""

    @property
    def score(self) -> float:
        return self.metrics.get(METRIC, float("-inf"))


class TuneResult(BaseModel):
    """The winner's recipe and every trial. `str(result)` is the study's URI."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    uri: str
    best: Recipe
    best_trial: int
    best_metrics: dict[str, float]
    trials: tuple[Trial, ...]
    seconds: float

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True)
class Study:
    """What a trial must know; travels to its process. environment: the driver's GENPIPE_* settings."""

    uri: str
    name: str
    dataset: str
    space: SearchSpace
    plan: tuple[dict[str, Any], ...]
    seed: int
    workers: int
    environment: dict[str, str]

    def trial_uri(self, number: int) -> str:
        return store.join(self.uri, "trials", f"{number:03d}.json")

    def trial(self, number: int) -> Trial | None:
        """The record of a trial that has ended, if it has."""
        uri = self.trial_uri(number)
        return Trial.model_validate(store.read_json(uri)) if store.exists(uri) else None

    def recorded(self) -> dict[int, Trial]:
        found = {number: self.trial(number) for number in range(len(self.plan))}
        return {number: trial for number, trial in found.items() if trial is not None}

    def record(self, trial: Trial) -> None:
        store.create(self.trial_uri(trial.number), trial.model_dump_json().encode())

    def choose(self, seconds: float) -> TuneResult:
        """The highest holdout fidelity a trial reached; within TIE of it, the one that took fewer seconds."""
        trials = self.recorded()
        scored = [t for t in trials.values() if METRIC in t.metrics and t.state != "failed"]
        if not scored:
            errors = "; ".join(f"trial {t.number}: {t.error}" for t in trials.values() if t.error)[:500]
            raise QualityError(
                "NOTRIAL",
                where=self.uri,
                found=f"no trial of {len(self.plan)} gave a usable model ({errors or 'none ran'})",
                fix="raise minutes, narrow the learning rates, or read the trials' records there",
            )
        top = max(t.score for t in scored)
        best = min((t for t in scored if t.score >= top - TIE), key=lambda t: (t.seconds, t.number))
        return TuneResult(
            uri=self.uri,
            best=self.space.recipe(best.choices),
            best_trial=best.number,
            best_metrics=best.metrics,
            trials=tuple(trials[n] for n in sorted(trials)),
            seconds=seconds,
        )
