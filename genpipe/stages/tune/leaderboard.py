"""The driver's side of a search: record trials stopped early, log every trial to MLflow, show progress."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Callback

from genpipe import registry
from genpipe.progress import Event, Progress, silent
from genpipe.stages.tune.study import METRIC, Study, Trial


class Leaderboard(Callback):
    """Keeps each trial's curve and the best fidelity so far. lost: why trials ended that say nothing of their
    recipe; they are not recorded, so a rerun tries them again.
    """

    def __init__(self, study: Study, progress: Progress) -> None:
        self.study, self.progress = study, progress
        self.curves: dict[int, list[tuple[int, float]]] = {}
        self.began: dict[int, float] = {}
        self.lost: dict[int, str] = {}
        done = study.recorded().values()
        self.best, self.ended = max((t.score for t in done), default=float("-inf")), len(done)

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks into its own state, and a listener may hold a screen or an open file
        return {**self.__dict__, "progress": silent}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.began[trial.config["number"]] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        if METRIC in result:
            self.curves.setdefault(number, []).append((int(result["step"]), float(result[METRIC])))
            self.best = max(self.best, result[METRIC])
        self._show(f"trial {number} at {result.get('percent', 0):.0f} %")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.config["number"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        if self.study.trial(number) is None:  # it could not say why: its process, node or store is gone
            self.lost[number] = " ".join(str(trial.get_error() or "its process ended").split())[-300:]
            self._show(f"trial {number} lost")
        else:
            self._end(number)

    def _end(self, number: int) -> None:
        trial = self.study.trial(number)
        if trial is None:
            curve = self.curves.get(number, [])
            trial = Trial(
                number=number,
                choices=self.study.plan[number],
                state="stopped",
                metrics={METRIC: max(score for _, score in curve)} if curve else {},
                history=tuple(curve),
                seconds=time.monotonic() - self.began.get(number, time.monotonic()),
            )
            self.study.record(trial)
        self.ended += 1
        registry.log_trial(self.study.name, study_uri=self.study.uri, trial=trial.model_dump())
        self._show(f"trial {number} {trial.state}")

    def _show(self, note: str) -> None:
        metrics = {METRIC: self.best} if self.best > float("-inf") else {}
        total = len(self.study.plan)
        self.progress(Event("tune", min(self.ended, total), total, "trials", metrics=metrics, note=note))
