"""Where a run goes on: from its newest checkpoint; after a divergence from a good one, at a lower rate."""

from __future__ import annotations

import logging

from genpipe.batch import to_batch
from genpipe.draws import Draws
from genpipe.errors import QualityError
from genpipe.families.base import Prepared
from genpipe.spec import TensorSpec
from genpipe.training.checkpoint import Sink
from genpipe.training.data import BatchSource
from genpipe.training.distributed import Ranks
from genpipe.training.guard import Diverged
from genpipe.training.state import TrainingState

MOST = 3  # returns of a run
log = logging.getLogger("genpipe.training")


def resume(state: TrainingState, sink: Sink | None, ranks: Ranks, upto: int | None = None) -> bool:
    """Load the lead's newest checkpoint everywhere; without one, the lead's initial weights.

    upto: of the checkpoints of so many steps, the later ones are forgotten.
    """
    found = sink.newest(upto) if sink and ranks.lead else None
    values = ranks.tell(found.values if found else None)
    if values is not None:
        state.restore(found.tensors if found else None, values)
    ranks.broadcast(state.tensors().values())
    return values is not None


def begun(
    state: TrainingState, seed: int, spec: TensorSpec, source: BatchSource, ranks: Ranks, sink: Sink | None,
    upto: int | None = None,
) -> TrainingState:  # fmt: skip
    """A fresh state at the newest checkpoint; without one, as its family begins. upto: see `resume`."""
    family = state.family
    fresh = not resume(state, sink, ranks, upto) and not getattr(family, "has_begun", False)
    if fresh and isinstance(family, Prepared) and (rows := family.begin_rows(source.rows)):
        if ranks.lead:
            batch = to_batch(source.sample(rows), spec, state.device)
            family.begin(state.nets, batch, Draws(seed, "begin", total=rows, device=state.device))
        ranks.broadcast(state.tensors().values())
    return state


def roll_back(
    state: TrainingState, seed: int, spec: TensorSpec, source: BatchSource, sink: Sink | None, ranks: Ranks,
    verdict: Diverged,
) -> TrainingState:  # fmt: skip
    """The state of the last good checkpoint (or of the start) at a lower learning rate. After `MOST` times
    this state again, which has given up, if it has weights to end with.
    """
    if state.rollbacks >= MOST:
        if state.best_score is None:
            raise QualityError(
                "DIVERGED",
                where=f"step {state.step}",
                found=f"{verdict}, again after {MOST} returns to an earlier step",
                expected="finite losses and samples that differ",
                fix="lower learning_rate, set clip, or choose another objective",
            )
        state.given_up = True
        text = f"step {state.step}: {verdict}; stopped after {MOST} returns, with step {state.best_step}"
        state.incidents.append(text)
        log.warning(text)
        return state
    fresh = TrainingState(state.family, state.training, seed=seed, device=state.device)
    begun(fresh, seed, spec, source, ranks, sink, verdict.good)
    fresh.back_off(state)
    slower = f"at {fresh.rate_scale:g} of the learning rate"
    text = f"step {state.step}: {verdict}; back to step {fresh.step} {slower}"
    fresh.incidents = [*state.incidents, text]
    log.warning(text)
    return fresh
