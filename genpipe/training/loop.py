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
from typing import Any

import torch
from torch import Tensor, nn

from genpipe.batch import Batch, to_batch
from genpipe.draws import Draws
from genpipe.families.base import Family, Phase
from genpipe.recipe import Recipe, Training, make_family
from genpipe.spec import TensorSpec
from genpipe.training.checkpoint import Sink
from genpipe.training.data import BatchSource
from genpipe.training.device import repeatable
from genpipe.training.distributed import ALONE, Ranks
from genpipe.training.guard import Diverged, Window
from genpipe.training.optim import autocast, clip_gradients, gradient_norm
from genpipe.training.resume import begun, roll_back
from genpipe.training.start import Weights, starting
from genpipe.training.state import TrainingState

CHECK_EVERY = 10  # steps between two looks at the losses
log = logging.getLogger("genpipe.training")


@dataclass(frozen=True)
class Status:
    """Where a run stands. metrics: the last known value of each; evaluated: this step was scored.

    seconds: spent in the loop, earlier attempts included. incident: what went wrong, and what was done.
    """

    step: int
    steps: int
    metrics: Mapping[str, float]
    evaluated: bool = False
    seconds: float = 0.0
    incident: str = ""


@dataclass(frozen=True)
class FitResult:
    """weights and metrics of the best evaluation (the last step, where nothing was evaluated). length: the
    steps that its learning rate was for.

    weights: keyed ``role.parameter``, on the lead rank. stopped: by steps, patience, asked or divergence.
    incidents: what went wrong on the way, and what was done about it.
    """

    weights: Mapping[str, Tensor]
    metrics: Mapping[str, float]
    step: int
    steps: int
    stopped: str
    seconds: float
    rollbacks: int = 0
    incidents: Sequence[str] = ()
    history: Sequence[Mapping[str, float]] = ()
    length: int = 0


Report = Callable[[Status], None]
Evaluate = Callable[[Mapping[str, nn.Module], int], dict[str, float]]
Watch = Callable[[Mapping[str, nn.Module]], dict[str, float]]


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
    until: int | None = None,
    watch: Watch | None = None,
    weights: Weights | None = None,
) -> FitResult:
    """Train a recipe from its newest checkpoint in `sink`, or from the seed; weights and metrics of the best.

    weights: of an earlier model, to begin with in place of the seed's.

    evaluate(nets, step): scores on the holdout, every `evaluate_every` steps and at the end, on the lead rank
    alone; `recipe.training.monitor` (fidelity, or loss where there is none) decides which weights are kept
    and, with `patience`, when to stop. None: no early stop, and the last weights.
    report: called after every step. should_stop: asked every CHECK_EVERY steps, on all ranks; one yes is
    enough. sink: None keeps no checkpoints. until: the last step, where it is not the recipe's: rates and
    phases are those of the whole run all the same. watch(nets): the holdout's losses alone, by which a run
    settles (`Training.schedule`).
    On divergence it returns to a good checkpoint, at a lower learning rate, a few times; then it ends with
    the best weights, or raises a QualityError where there are none.
    """
    family, hooks = make_family(recipe, spec), Hooks(report, evaluate, should_stop, until, watch)
    if weights is not None:
        family = starting(family, weights)
    with torch.random.fork_rng(devices=[]), repeatable(device):  # the caller's global state stays as it was
        return play(family, recipe.training, spec, source, seed, ranks, device, sink, hooks)


@dataclass(frozen=True)
class Hooks:
    report: Report | None = None
    evaluate: Evaluate | None = None
    should_stop: Callable[[], bool] | None = None
    until: int | None = None
    watch: Watch | None = None


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
    while not (asked or state.done or (hooks.until is not None and state.step >= hooks.until)):
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
        if hooks.watch and state.watching:
            watched(state, ranks, hooks.watch)

        judge = state.step == state.last or state.step % training.evaluate_every == 0
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
            if hooks.report:
                hooks.report(Status(state.step, state.last, {}, incident=state.incidents[-1]))
            continue
        state.seconds = time.monotonic() - clock
        if hooks.report:
            scored = bool(hooks.evaluate) and (judge or asked)
            hooks.report(Status(state.step, state.last, state.metrics, scored, state.seconds))
        best_yet = state.best_step == state.step  # what a fall comes back to
        if sink and (save or asked or best_yet) and state.guard.calm and not state.done:
            state.saved = state.step
            if ranks.lead:
                best = {f"best.{name}": t for name, t in state.best.items()}
                sink.save(state.step, state.tensors() | best, state.values())
    if sink:
        sink.wait()
    if state.step <= state.last_phase > 0:
        text = "stopped at step %d, before the last phase begins at step %d: it has learnt no generator yet"
        log.warning(text, state.step, state.last_phase)
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
    state.update(phase)
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


def watched(state: TrainingState, ranks: Ranks, watch: Watch) -> None:
    """Ask the lead for the holdout's loss, tell everybody."""
    losses: dict[str, float] = {}
    if ranks.lead:
        nets = state.evaluated()
        for net in nets.values():
            net.eval()
        losses = watch(nets)
        for net in state.nets.values():
            net.train()
    state.watch(next(iter(ranks.tell(losses).values())))


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
    training, best = state.training, state.best_score
    going_on = state.step > state.last_phase and not state.done
    if training.monitor == "fidelity" and "fidelity" in metrics and best is not None and going_on:
        found, at = metrics["fidelity"], state.best_step
        state.guard.check_fidelity(found, best, at, step=state.step, steps=training.steps)


def fit_result(state: TrainingState) -> FitResult:
    """The best weights, or the present ones where nothing was evaluated."""
    whole = state.step == state.last or not state.family.phases
    stopped = "steps" if whole else "divergence" if state.given_up else "patience" if state.done else "asked"
    weights, metrics, step = state.best, {**state.metrics, **state.best_metrics}, state.best_step
    if state.best_score is None:
        weights, step = state.weights(), state.step
    return FitResult(
        weights, metrics, step, state.step, stopped, state.seconds, state.rollbacks, state.incidents,
        state.history, state.last,
    )  # fmt: skip
