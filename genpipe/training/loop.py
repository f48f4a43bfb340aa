"""The one training loop: every family, one worker or many, in this process, a Ray worker or a Tune trial.

Every random number comes from `derive(seed, ..., step)`, so a run that resumes at a step continues bit for
bit as if it had never stopped. What surrounds it is handed in: `report`, `evaluate`, `should_stop`, `sink`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from genpipe.batch import Batch, to_batch
from genpipe.draws import Draws
from genpipe.errors import QualityError
from genpipe.families.base import Family, Phase, Prepared
from genpipe.recipe import Recipe, Training, make_family
from genpipe.spec import TensorSpec
from genpipe.training.checkpoint import Checkpoint
from genpipe.training.data import BatchSource
from genpipe.training.device import repeatable
from genpipe.training.distributed import ALONE, Ranks
from genpipe.training.guard import Diverged, Window
from genpipe.training.optim import autocast, clip_gradients, gradient_norm
from genpipe.training.state import TrainingState

CHECK_EVERY = 10  # steps between two looks at the losses
log = logging.getLogger("genpipe.training")


@dataclass(frozen=True)
class Status:
    """Where a run stands. metrics: the last known value of each; evaluated: this step was scored.

    seconds: spent in the loop, earlier attempts included.
    """

    step: int
    steps: int
    metrics: Mapping[str, float]
    evaluated: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class FitResult:
    """weights and metrics of the best evaluation (the last step, where nothing was evaluated).

    weights: keyed ``role.parameter``, on the lead rank. stopped: by steps, patience or asked.
    """

    weights: Mapping[str, Tensor]
    metrics: Mapping[str, float]
    step: int
    steps: int
    stopped: str
    seconds: float
    rollbacks: int = 0
    history: Sequence[Mapping[str, float]] = ()


class Sink(Protocol):
    """Where checkpoints go; see training.checkpoint.Checkpoints."""

    def save(self, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> None: ...
    def newest(self) -> Checkpoint | None: ...
    def wait(self) -> None: ...


Report = Callable[[Status], None]
Evaluate = Callable[[Mapping[str, nn.Module], int], dict[str, float]]


def fit(
    recipe: Recipe,
    spec: TensorSpec,
    source: BatchSource,
    *,
    seed: int,
    ranks: Ranks = ALONE,
    device: str = "cpu",
    sink: Sink | None = None,
    report: Report | None = None,
    evaluate: Evaluate | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FitResult:
    """Train a recipe from its newest checkpoint in `sink`, or from the seed; weights and metrics of the best.

    evaluate(nets, step): scores on the holdout, every `evaluate_every` steps and at the end, on the lead rank
    alone; `recipe.training.monitor` (fidelity, or loss where there is none) decides which weights are kept
    and, with `patience`, when to stop. None: no early stop, and the last weights.
    report: called after every step. should_stop: asked every CHECK_EVERY steps, on all ranks; one yes is
    enough. sink: None keeps no checkpoints.
    Raises QualityError on divergence, after one return to the last checkpoint at a lower learning rate.
    """
    family, hooks = make_family(recipe, spec), Hooks(report, evaluate, should_stop)
    with torch.random.fork_rng(devices=[]), repeatable(device):  # the caller's global state stays as it was
        return play(family, recipe.training, spec, source, seed, ranks, device, sink, hooks)


@dataclass(frozen=True)
class Hooks:
    report: Report | None = None
    evaluate: Evaluate | None = None
    should_stop: Callable[[], bool] | None = None


def play(
    family: Family, training: Training, spec: TensorSpec, source: BatchSource, seed: int, ranks: Ranks,
    device: str, sink: Sink | None, hooks: Hooks,
) -> FitResult:  # fmt: skip
    """The loop itself."""
    state = begun(TrainingState(family, training, seed=seed, device=device), seed, spec, source, ranks, sink)
    size = training.batch_size
    start, stop = ranks.rows(size)
    share = (stop - start) / size
    precision, window = autocast(training.precision, device, state.nets.values()), Window()
    clock, asked = time.monotonic() - state.seconds, False
    while not (asked or state.done):
        arrays = source.batch(state.step, size=size, start=start, stop=stop)
        batch = to_batch(arrays, spec, device)
        for phase in family.phases:
            if not phase.played(state.step, training.steps):
                continue
            draws = Draws(
                seed, "train", state.step, phase.name, total=size, start=start, stop=stop, device=device
            )
            take_step(state, phase, batch, draws, ranks, share, precision, window)
        state.step += 1

        judge = state.step == training.steps or state.step % training.evaluate_every == 0
        save = state.step % training.checkpoint_every == 0
        try:
            if judge or save or state.step == 1 or state.step % CHECK_EVERY == 0:
                asked = check(state, window, ranks, share, hooks.should_stop)
            if hooks.evaluate and (judge or asked):
                score(state, ranks, hooks.evaluate)
        except Diverged as verdict:
            state = roll_back(state, seed, spec, source, sink, ranks, verdict)
            asked = False
            window.clear()
            continue
        state.seconds = time.monotonic() - clock
        if hooks.report:
            scored = bool(hooks.evaluate) and (judge or asked)
            hooks.report(Status(state.step, training.steps, state.metrics, scored, state.seconds))
        if sink and (save or asked) and state.guard.calm and not state.done:
            state.saved = state.step
            if ranks.lead:
                best = {f"best.{name}": t for name, t in state.best.items()}
                sink.save(state.step, state.tensors() | best, state.values())
    if sink:
        sink.wait()
    return fit_result(state)


def take_step(
    state: TrainingState, phase: Phase, batch: Batch, rng: Draws, ranks: Ranks, share: float,
    precision: AbstractContextManager[Any], window: Window,
) -> None:  # fmt: skip
    """One phase: loss, backward, synchronise, clip, step."""
    state.train_only(phase.trains)
    with precision:
        terms = state.family.loss(phase.name, state.nets, batch, rng)
    state.zero_grad(phase.trains)
    torch.autograd.backward(sum(terms.values()))  # type: ignore[arg-type]
    parameters = state.parameters(phase.trains)
    ranks.average_gradients(parameters, share)
    clip = state.training.clip
    if clip is not None or (state.step + 1) % CHECK_EVERY == 0:
        norm = gradient_norm(parameters)
        window.gradient(f"{phase.name}.gradient", norm)
        if clip is not None:
            clip_gradients(parameters, norm, clip)
    state.update(phase.trains, phase.rate)
    window.add(phase.name, terms)


def check(
    state: TrainingState, window: Window, ranks: Ranks, share: float, asks: Callable[[], bool] | None
) -> bool:
    """Average the losses over ranks, judge them, and ask whether to stop: one collective for all of it."""
    means = window.clear()
    asked = bool(asks and asks())
    *values, votes = ranks.average([*means.values(), float(asked) / share], share)
    averaged = dict(zip(means, values, strict=True))
    state.guard.check(averaged)
    state.metrics = state.metrics | averaged  # a phase that was skipped keeps its last value
    return votes > 0


def score(state: TrainingState, ranks: Ranks, evaluate: Evaluate) -> None:
    """Evaluate on the lead, tell everybody, keep the best weights."""
    metrics: dict[str, float] = {}
    if ranks.lead:
        nets = state.evaluated()
        for net in nets.values():
            net.eval()
        with torch.no_grad():
            metrics = evaluate(nets, state.step)
        for net in state.nets.values():
            net.train()
    metrics = ranks.tell(metrics)
    state.guard.check_samples(metrics)
    state.metrics = state.metrics | metrics
    state.judge(metrics)


def resume(state: TrainingState, sink: Sink | None, ranks: Ranks) -> bool:
    """Load the lead's newest checkpoint everywhere; without one, the lead's initial weights."""
    found = sink.newest() if sink and ranks.lead else None
    values = ranks.tell(found.values if found else None)
    if values is not None:
        state.restore(found.tensors if found else None, values)
    ranks.broadcast(state.tensors().values())
    return values is not None


def begun(
    state: TrainingState, seed: int, spec: TensorSpec, source: BatchSource, ranks: Ranks, sink: Sink | None
) -> TrainingState:
    """A fresh state at the lead's newest checkpoint; without one, as its family begins."""
    family = state.family
    if not resume(state, sink, ranks) and isinstance(family, Prepared):
        rows = family.begin_rows(source.rows)
        if ranks.lead:
            batch = to_batch(source.sample(rows), spec, state.device)
            family.begin(state.nets, batch, Draws(seed, "begin", total=rows, device=state.device))
        ranks.broadcast(state.tensors().values())
    return state


def roll_back(
    state: TrainingState, seed: int, spec: TensorSpec, source: BatchSource, sink: Sink | None, ranks: Ranks,
    verdict: Diverged,
) -> TrainingState:  # fmt: skip
    """Once, return to the last good checkpoint (or the start) at a lower learning rate; then give up."""
    good = f"step {state.saved}" if state.saved else "none, it diverged before the first"
    if state.rollbacks:
        raise QualityError(
            "DIVERGED",
            where=f"step {state.step}",
            found=f"{verdict}, again after a rollback",
            expected=f"finite losses and samples that differ; last good checkpoint: {good}",
            fix="lower learning_rate, set clip, or choose another objective",
        )
    fresh = TrainingState(state.family, state.training, seed=seed, device=state.device)
    begun(fresh, seed, spec, source, ranks, sink)
    fresh.back_off()
    text = "step %d: %s; back to step %d at %g of the learning rate"
    log.warning(text, state.step, verdict, fresh.step, fresh.rate_scale)
    return fresh


def fit_result(state: TrainingState) -> FitResult:
    """The best weights, or the present ones where nothing was evaluated."""
    whole = state.step == state.training.steps or not state.family.phases
    stopped = "steps" if whole else "patience" if state.done else "asked"
    weights, metrics, step = state.best, {**state.metrics, **state.best_metrics}, state.best_step
    if state.best_score is None:
        weights, step = state.weights(), state.step
    return FitResult(
        weights, metrics, step, state.step, stopped, state.seconds, state.rollbacks, state.history
    )
