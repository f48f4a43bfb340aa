"""The driver's side of a search: record trials stopped early, log every trial to MLflow, show progress."""

from __future__ import annotations

import logging
import time
from typing import Any

from ray.tune import Callback

from genpipe import registry
from genpipe.errors import InfrastructureError
from genpipe.progress import Event, Progress, silent
from genpipe.settings import read_settings
from genpipe.stages.train.workers import release_orphans
from genpipe.stages.tune.study import METRIC, Study, Trial

HOPELESS = 2
log = logging.getLogger("genpipe.tune")


class Leaderboard(Callback):
    """Keeps each trial's curve and the best fidelity so far.

    lost: why trials ended that say nothing of their recipe; not recorded, so that a rerun tries them again.
    told: how many of them said that a store or server is away: they end a search that has nothing else yet.
    """

    def __init__(self, study: Study, progress: Progress) -> None:
        self.study, self.progress = study, progress
        self.curves: dict[int, list[tuple[int, float]]] = {}
        self.began: dict[int, float] = {}
        self.lost: dict[int, str] = {}
        self.told = 0
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
        release_orphans()
        if self.study.trial(number) is None:  # it could not say why: its process, node or store is gone
            error = str(trial.get_error() or "its process ended")  # the text of a traceback
            self.lost[number] = " ".join(error.split())[-300:]
            log.warning("trial %d is lost: %s", number, self.lost[number])
            self.told += f"{InfrastructureError.__name__}:" in error
            self._show(f"trial {number} lost")
        else:
            self._end(number)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.told >= HOPELESS and not self.ended:
            raise self.all_lost()

    def all_lost(self) -> InfrastructureError:
        number, why = next(iter(self.lost.items()))
        return InfrastructureError(
            "TRIALS",
            where=self.study.uri,
            found=f"{len(self.lost)} trials ended without a word on their recipe; trial {number}: {why}",
            expected="processes, memory and a store that last as long as a trial",
            fix=f"see {read_settings().logs} and the Ray session's logs; the same command tries them again",
        )

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
