"""Everything a training run is between two steps: networks, moments, averages, best weights, counters."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genpipe.errors import InfrastructureError
from genpipe.families.base import Family, Phase
from genpipe.recipe import Training
from genpipe.seeds import derive
from genpipe.suited import WATCHES
from genpipe.training.guard import COLLAPSED, SPREAD, Guard
from genpipe.training.muon import Muon
from genpipe.training.optim import AdamW, Average, last_step, rate_at

BACKOFF = 0.2  # the learning rate's factor after a rollback
NOISE = 0.01  # of a fidelity to some hundred holdout rows
MEMORY = 0.01  # of nats a row
COLLAPSE = 0.05  # of fidelity, by which a run that settles may fall
FLAT = 0.001  # of a loss: what falls by less between two looks hardly falls
FIRST_STEPS = 100  # in which a loss may stand still before it falls


class TrainingState:
    """Fresh from the seed; `tensors` and `values` are the whole of it, `restore` puts them back."""

    def __init__(self, family: Family, training: Training, *, seed: int, device: str) -> None:
        torch.default_generator.manual_seed(derive(seed, "weights"))
        nets = family.build()
        self.training, self.family, self.device = training, family, device
        self.nets: dict[str, nn.Module] = {role: net.to(device) for role, net in nets.items()}
        self.optimizers = {
            role: (Muon if training.optimizer == "muon" else AdamW)(
                net, betas=training.betas, weight_decay=training.weight_decay or 0.0, l2=training.l2 or 0.0
            )
            for role, net in self.nets.items()
        }
        self.published = family.publishes
        self.average: Average | None = None
        if training.ema is not None:
            copies = {role: copy.deepcopy(self.nets[role]) for role in self.published}
            self.average = Average(self.nets, copies, training.ema)
        self.guard = Guard()
        self.step = self.saved = 0  # saved: the step of the last checkpoint
        self.watched: list[float] = []  # the holdout's losses so far, of a run that settles
        self.turn: int | None = None  # the step at which these hardly fell
        self.rate_scale, self.rollbacks = 1.0, 0
        self.given_up = False
        self.incidents: list[str] = []  # what went wrong, and what was done about it
        self.seconds = 0.0
        self.metrics: dict[str, float] = {}  # the last known value of everything that is logged
        self.best: dict[str, Tensor] = {}  # weights of the published roles, on the lead rank
        self.best_step = 0
        self.best_metrics: dict[str, float] = {}
        self.best_score: float | None = None
        self.stale = 0  # evaluations since the best one
        self.history: list[dict[str, float]] = []  # the metrics of each evaluation

    @property
    def done(self) -> bool:
        spent = self.step >= self.last or self.stale >= self.training.patience
        return spent or self.given_up or not self.family.phases

    @property
    def last(self) -> int:
        """The last step of this run, as far as it is known."""
        return last_step(self.training, self.turn)

    @property
    def watching(self) -> bool:
        """Whether the holdout's losses are to be looked at after this step, to see when they settle."""
        steps, begun = self.training.steps, self.turn is None and self.training.schedule == "settle"
        return begun and self.step <= steps // 2 and self.step % math.ceil(steps / WATCHES) == 0

    def watch(self, loss: float) -> None:
        """Of the holdout, at equal distances."""
        self.watched.append(loss)
        fell = self.watched[-2] - loss if len(self.watched) > 1 else math.inf
        if fell < FLAT * abs(loss) and self.step >= FIRST_STEPS:
            self.turn = self.step

    def train_only(self, roles: tuple[str, ...]) -> None:
        for role, net in self.nets.items():
            net.requires_grad_(role in roles)

    def parameters(self, roles: tuple[str, ...]) -> list[Tensor]:
        return [p for role in roles for p in self.optimizers[role].parameters]

    def zero_grad(self, roles: tuple[str, ...]) -> None:
        for role in roles:
            self.optimizers[role].zero_grad()

    @property
    def last_phase(self) -> int:
        """The step at which the phase that begins last begins: until then there is no generator to judge."""
        return math.ceil(max((p.begin for p in self.family.phases), default=0.0) * self.training.steps)

    def update(self, phase: Phase) -> None:
        """Step the optimizers of a phase at this step's learning rate, then the averages of its roles."""
        now = rate_at(self.step, self.training, phase.begin, phase.end, self.turn)
        rate = phase.rate * self.rate_scale * now
        for role in phase.trains:
            self.optimizers[role].step(rate)
        if self.average is not None:
            self.average.update(phase.trains)

    def evaluated(self) -> Mapping[str, nn.Module]:
        """The networks as they would be published: averaged where an average is kept."""
        return {**self.nets, **self.average.nets} if self.average is not None else self.nets

    def weights(self) -> dict[str, Tensor]:
        """Copies of what would be published now, keyed ``role.parameter``."""
        nets = self.evaluated()
        return {
            f"{role}.{name}": t.detach().to("cpu", copy=True)
            for role in self.published
            for name, t in nets[role].state_dict().items()
        }

    def judge(self, metrics: Mapping[str, float]) -> None:
        """Keep these weights if the evaluation is the best so far by what the recipe monitors.

        Along a cosine later weights are kept for equal ones, too: less than NOISE says nothing; of a run that
        settles they are unless fidelity falls by COLLAPSE. And whatever
        their fidelity, weights that have begun to learn the training rows by heart are not kept: those with a
        holdout likelihood by MEMORY worse than it has been. While a phase is still to come the newest are
        kept, and the first ones after it has begun are better than all before.
        """
        curves = {name: float(value) for name, value in self.metrics.items() if math.isfinite(value)}
        self.history.append({"step": self.step, **curves})
        by_loss = self.training.monitor == "loss" or "fidelity" not in metrics
        score = -metrics["loss"] if by_loss else metrics["fidelity"]
        allowed = {"cosine": NOISE, "settle": COLLAPSE}.get(self.training.schedule, 0.0)
        settled = allowed > 0 and not by_loss
        best = -math.inf if self.best_score is None or self.best_step <= self.last_phase else self.best_score
        if metrics.get(SPREAD, 1.0) < COLLAPSED:
            return  # the guard's business
        self.stale = 0 if score > best else self.stale + 1
        nats = [row["holdout.nats"] for row in self.history if "holdout.nats" in row]
        if settled and self.best and nats and nats[-1] - min(nats) > MEMORY * abs(min(nats)):
            return
        if score > best - (allowed if settled else 0.0):
            self.best_score, self.best_step = max(score, best), self.step
            self.best_metrics, self.best = dict(metrics), self.weights()

    def back_off(self, left: TrainingState) -> None:
        """After a rollback: the same data again, at a lower learning rate than that of the state it left. The
        best weights of that stay the ones to beat.
        """
        self.rate_scale, self.rollbacks = BACKOFF * left.rate_scale, left.rollbacks + 1
        mine = -math.inf if self.best_score is None else self.best_score
        if left.best_score is not None and left.best_score >= mine:
            self.best, self.best_score = left.best, left.best_score
            self.best_step, self.best_metrics = left.best_step, left.best_metrics

    def tensors(self) -> dict[str, Tensor]:
        """Live tensors by name; the best weights apart, which only the lead keeps."""
        found = {
            f"weights.{role}.{n}": t for role, net in self.nets.items() for n, t in net.state_dict().items()
        }
        for role, optimizer in self.optimizers.items():
            found |= {f"optimizer.{role}.{n}": t for n, t in optimizer.tensors().items()}
        for role, net in self.average.nets.items() if self.average is not None else ():
            found |= {f"average.{role}.{n}": t for n, t in net.state_dict().items()}
        return found

    def values(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "updates": self.average.updates if self.average is not None else 0,
            "rate_scale": self.rate_scale,
            "rollbacks": self.rollbacks,
            "incidents": self.incidents,
            "seconds": self.seconds,
            "metrics": self.metrics,
            "guard": self.guard.values(),
            "best_step": self.best_step,
            "best_metrics": self.best_metrics,
            "best_score": self.best_score,
            "stale": self.stale,
            "history": self.history,
            "watched": self.watched,
            "turn": self.turn,
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor] | None, values: Mapping[str, Any]) -> None:
        """Put a saved state back; `tensors` is None on ranks that get theirs by broadcast."""
        if tensors is not None:
            for name, mine in self.tensors().items():
                there = tensors.get(name)
                if there is None or there.shape != mine.shape:
                    found = "none" if there is None else f"shape {list(there.shape)}"
                    fix = "remove the checkpoints to train again from the start"
                    raise InfrastructureError(
                        "CHECKPOINT", where=name, found=found, expected=f"shape {list(mine.shape)}", fix=fix
                    )
                mine.copy_(there)
            self.best = {n.removeprefix("best."): t for n, t in tensors.items() if n.startswith("best.")}
        if self.average is not None:
            self.average.updates = values["updates"]
        self.guard.restore(values["guard"])
        for name in ("step", "rate_scale", "rollbacks", "seconds", "best_step", "best_score", "stale"):
            setattr(self, name, values[name])
        self.saved = self.step
        self.metrics, self.best_metrics = dict(values["metrics"]), dict(values["best_metrics"])
        self.history = list(values["history"])
        self.incidents = list(values.get("incidents", []))
        self.watched, self.turn = list(values.get("watched", [])), values.get("turn")
