"""Notices that a run went wrong within a few steps, before it costs hours or reaches a registry.

| sign | rule |
|---|---|
| not a number | a loss term or gradient norm is NaN or infinite |
| explosion | a loss term beyond `EXPLODED` times that of step 1 (at least 1), `PATIENCE` checks in a row |
| collapse | samples vary less than `COLLAPSED` of the real rows, at `PATIENCE` evaluations in a row |
| fall | fidelity below `FALLEN` of the best of the run, and by `DEEP` |
| standstill | fidelity below `NOTHING` at every evaluation, when half of the steps are made |

Numbers come averaged over all ranks, so every rank comes to the same verdict at the same step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

EXPLODED = 1e4
COLLAPSED = 1e-3
PATIENCE = 2
FALLEN, DEEP = 0.5, 0.1
NOTHING, ENOUGH = 0.05, 100  # fidelity; steps before which none is expected
SPREAD = "spread"


class Diverged(Exception):
    """The verdict: which number, what it was, and what that means. good: the last step whose state is worth
    going back to, where that is known.
    """

    def __init__(self, metric: str, value: float, sign: str, good: int | None = None) -> None:
        self.metric, self.value, self.sign, self.good = metric, value, sign, good
        super().__init__(f"{metric} = {value:g}: {sign}")


class Guard:
    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.exploded = self.collapsed = 0

    def check(self, metrics: Mapping[str, float]) -> None:
        """Judge the averaged losses and gradient norms since the last check."""
        worst: tuple[str, float] | None = None
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(name, value, "not a finite number")
            first = self.first.setdefault(name, max(1.0, abs(value)))
            if abs(value) > EXPLODED * first:
                worst = (name, value)
        self.exploded = self.exploded + 1 if worst else 0
        if worst and self.exploded >= PATIENCE:
            raise Diverged(*worst, f"over {EXPLODED:g} times its first size")

    def check_samples(self, metrics: Mapping[str, float]) -> None:
        """Judge an evaluation: do samples vary at all?"""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(name, value, "not a finite number")
        self.collapsed = self.collapsed + 1 if metrics.get(SPREAD, 1.0) < COLLAPSED else 0
        if self.collapsed >= PATIENCE:
            raise Diverged(SPREAD, metrics[SPREAD], "every sample is the same (mode collapse)")

    def check_fidelity(self, found: float, best: float, best_step: int, *, step: int, steps: int) -> None:
        """Judge an evaluation of a run that is to go on: has it lost what it had, or learnt nothing at all?

        best: of this run so far, at `best_step`, this one included.
        """
        if found < FALLEN * best and best - found > DEEP:
            raise Diverged("fidelity", found, f"it was {best:.2f} at step {best_step}", best_step)
        if best < NOTHING and step >= max(ENOUGH, steps / 2):
            raise Diverged("fidelity", found, f"nothing is learnt after half of {steps} steps", 0)

    @property
    def calm(self) -> bool:
        """Nothing looks wrong yet: the state is worth going back to."""
        return not (self.exploded or self.collapsed)

    def values(self) -> dict[str, Any]:
        return {"first": self.first, "exploded": self.exploded, "collapsed": self.collapsed}

    def restore(self, values: Mapping[str, Any]) -> None:
        self.first = dict(values["first"])
        self.exploded, self.collapsed = values["exploded"], values["collapsed"]


@dataclass
class Window:
    """Loss terms since the last check, summed where they are, so that a step never waits for the device."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, phase: str, terms: Mapping[str, Tensor]) -> None:
        for term, value in terms.items():
            name = f"{phase}.{term}"
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def gradient(self, name: str, norm: Tensor) -> None:
        self.sums[name], self.counts[name] = norm.detach().float(), 1

    def clear(self) -> dict[str, float]:
        """The means, and an empty window."""
        means = {}
        if self.sums:
            values = torch.stack(list(self.sums.values())).tolist()
            means = {n: v / self.counts[n] for n, v in zip(self.sums, values, strict=True)}
        self.sums, self.counts = {}, {}
        return means
