"""Autoregressive models: p(x) = Π p(x_t | x_<t, condition), by maximum likelihood, sampled exactly left to
right.

Text and table columns as tokens, series and audio as real values with a mixture density. Table columns are
drawn evenly over a block (`Draws.systematic`), and their heads calibrated once after training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genpipe.batch import Batch, one_hot
from genpipe.draws import Draws, cumulated
from genpipe.errors import QualityError, UsageError
from genpipe.families import particles, steps
from genpipe.families.base import Nets, Phase, without_barred
from genpipe.families.calibrate import shift_to
from genpipe.families.sampling import Repeats, SampledConfig
from genpipe.families.ties import ROWS, tied
from genpipe.networks import AnyNetwork, build_network
from genpipe.networks.base import form
from genpipe.networks.head import alike
from genpipe.networks.in_turn import InTurn
from genpipe.networks.recurrent import RecurrentConfig
from genpipe.objectives import likelihood
from genpipe.spec import TensorSpec

CALIBRATIONS = 3  # rounds of matching one head to its column's shares
CALIBRATION_ROWS = 8192  # whose conditions it is done under: enough for a marginal, little beside an epoch
STRATA = 128  # of rows by the token to be expected, inside which a block is evened out by the token before
LEVELS = 2**14  # of expected tokens: as fine as their ranks
STRETCH = 128  # steps of a long series that an update sees, where a season says which they are
LOOK = 16  # tokens between two looks whether all rows have ended
RANDOM_ORDERS = 0.5  # of the steps of a network that learns any order; the others keep the columns' own


class SequenceConfig(SampledConfig):
    """no_repeat: of texts; no run of so many tokens comes twice in one.

    given: tokens of a table, the first ones, that are given to every row it ever makes, and so not learnt:
    what a network knows of them it can only give away.
    """

    family: Literal["sequence"] = "sequence"
    given: int = Field(default=0, ge=0, le=2**31, exclude_if=lambda given: given == 0)
    no_repeat: int | None = Field(default=None, ge=2, le=2**20, exclude_if=lambda n: n is None)
    model: AnyNetwork = RecurrentConfig()


class SequenceModel:
    Config: ClassVar[type[Any]] = SequenceConfig
    accepts: ClassVar[frozenset[str]] = frozenset({"tokens", "columns", "sequence"})
    network_roles: ClassVar[Mapping[str, str]] = {"model": "model"}
    roles: ClassVar[tuple[str, ...]] = ("model",)
    sample_roles: ClassVar[tuple[str, ...]] = ("model",)
    publishes: ClassVar[tuple[str, ...]] = ("model",)
    metrics: ClassVar[tuple[str, ...]] = ("nats", "nats_per_position")
    has_temperature: ClassVar[bool] = True
    phases: tuple[Phase, ...] = (Phase("likelihood", ("model",)),)

    def __init__(self, config: SequenceConfig, spec: TensorSpec) -> None:
        self.config, self.spec = config, spec
        self.columns = form(spec) == "columns"
        self.any_order = getattr(config.model, "order", "fixed") == "any"
        self.tests_ties = self.columns and getattr(config.model, "ties", None) == "tested"
        self.takes_observed = "any" if self.any_order else "first"
        more = ("top_k", "top_p", *(() if self.columns else ("no_repeat",)))
        self.controls = ("temperature", *(more if spec.layout == "tokens" else ()))

    def build(self) -> dict[str, nn.Module]:
        return {"model": build_network("model", self.spec, self.config.model)}

    def _nll(self, nets: Nets, batch: Batch, order: Tensor | None = None) -> Tensor:
        """Nats per row."""
        if self.columns:
            return self._column_nats(nets, batch, order).sum() / batch.size
        predicted = nets["model"](batch.x, one_hot(batch.condition, self.spec.conditions))
        if isinstance(outlet := getattr(nets["model"], "outlet", None), InTurn):
            return steps.nats(batch.x, outlet, predicted, batch.mask)
        score = likelihood.tokens if self.spec.layout == "tokens" else likelihood.gaussian_mixture
        return score(batch.x, predicted, batch.mask)

    def _column_nats(self, nets: Nets, batch: Batch, order: Tensor | None = None) -> Tensor:
        """(T, B) nats of every token of a table that is not given, columns in the order of `alike`."""
        told = one_hot(batch.condition, self.spec.conditions)
        logits = nets["model"](batch.x, told) if order is None else nets["model"](batch.x, told, order)
        nats = likelihood.columns(batch.x, logits, alike(self.spec.vocabulary))
        return nats[self._places(nats.device) >= self.config.given] if self.config.given else nats

    def _places(self, device: torch.device) -> Tensor:
        """(T,) the positions in the order of `alike`."""
        return torch.tensor([t for group in alike(self.spec.vocabulary) for t in group], device=device)

    def loss(self, phase: str, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """Divided by the fixed number of positions, so that one learning rate suits short and long rows."""
        order, positions = None, self.spec.shape[0]
        if self.spec.periods and positions > STRETCH:
            batch, positions = self._stretch(batch, rng), STRETCH
        if self.any_order and rng.shared() < RANDOM_ORDERS:
            order = rng.order(self.spec.shape[0])
        return {"likelihood": self._nll(nets, batch, order) / positions}

    def _stretch(self, batch: Batch, rng: Draws) -> Batch:
        """`STRETCH` steps from somewhere in long series, and the place in the season at which they begin."""
        at = int(rng.shared() * (self.spec.shape[0] - STRETCH + 1))
        told = batch.condition.clone()
        told[:, -1] = (told[:, -1] + at) % self.spec.periods[0]
        mask = None if batch.mask is None else batch.mask[:, at : at + STRETCH]
        return Batch(batch.x[:, at : at + STRETCH], told, mask)

    @torch.no_grad()
    def log_probability(self, nets: Nets, observed: Tensor, condition: Tensor) -> Tensor:
        told, there = one_hot(condition, self.spec.conditions), observed >= 0
        x = observed.clamp_min(0)
        logits = nets["model"](x, told, None, there) if self.any_order else nets["model"](x, told)
        nats = likelihood.columns(x, logits, alike(self.spec.vocabulary)).t()
        nats = nats[:, self._places(nats.device).argsort()]
        nats[:, : self.config.given] = 0.0
        return torch.where(there, -nats, 0.0)

    @torch.no_grad()
    def sample(self, nets: Nets, condition: Tensor, rng: Draws, observed: Tensor | None = None) -> Tensor:
        """observed: tokens of a table, see `PartialConditioning`; or how a text (-1 beyond) or a series (NaN
        beyond, and in its gaps) begins.
        """
        net = nets["model"]
        told = one_hot(condition, self.spec.conditions)
        given = () if observed is None or not self.any_order else (observed,)
        state = net.begin(told, *given)  # type: ignore[operator]
        previous, drawn = None, list[Tensor]()
        length = self.config.no_repeat if "no_repeat" in self.controls else None
        repeats = Repeats(length) if length else None
        ended = torch.zeros(len(condition), dtype=torch.bool, device=condition.device)
        outlet = getattr(net, "outlet", None)
        in_turn = outlet if isinstance(outlet, InTurn) else None
        if observed is not None and self.spec.layout == "sequence" and particles.has_gaps(observed):
            if in_turn is None:
                found, fix = "a history with gaps", "train with recipe series_in_turn, or fill them"
                raise UsageError("CONDITION", where="history", found=found, expected="every step", fix=fix)
            return particles.filled(net, in_turn, told, observed, rng, self.config.temperature)
        for t in range(self.spec.shape[0]):
            if self.spec.ends and t % LOOK == 0 and bool(ended.all()):
                drawn += [torch.zeros_like(ended, dtype=torch.int64)] * (self.spec.shape[0] - t)
                break
            predicted, state = net.step(previous, state)  # type: ignore[operator]
            if repeats:
                predicted = repeats.without(predicted)
            if observed is not None and self.spec.layout == "tokens":
                predicted = without_barred(predicted, observed[:, t])
            if in_turn is not None:
                known = None if observed is None else observed[:, t]
                previous = steps.draw(in_turn, predicted, rng, self.config.temperature, known)[0]
                drawn.append(previous)
                continue
            previous = self._draw(predicted, rng, condition, drawn)
            if observed is not None:
                known = observed[:, t]
                there = known >= 0 if self.spec.layout == "tokens" else known.isfinite()
                previous = torch.where(there, known, previous)
            if self.spec.ends:
                previous = previous.masked_fill(ended, 0)
                ended |= previous == 0
            if repeats:
                repeats.add(previous)
            drawn.append(previous)
        return torch.stack(drawn, 1)

    def begin_rows(self, rows: int) -> int:
        return min(rows, ROWS) if self.tests_ties else 0

    @torch.no_grad()
    def begin(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """Which columns see which, of a network that asks for it."""
        if self.tests_ties:
            nets["model"].tied.copy_(tied(batch.x, batch.condition, self.spec, rng))  # type: ignore[union-attr, operator]

    def finish_rows(self, rows: int) -> int:
        return min(rows, CALIBRATION_ROWS * 8) if self.spec.frequencies else 0

    @torch.no_grad()
    def finish(self, nets: Nets, batch: Batch, rng: Draws) -> None:
        """Table columns: shift every head until its mean over the model's own draws has the training shares.

        Errors of the columns before would otherwise add up in the marginals of the later ones.
        """
        net, condition = nets["model"], evenly(batch.condition, CALIBRATION_ROWS)
        x = batch.x[: len(condition)]  # tables of which some is given have no classes
        rng = rng.of(len(condition))
        state = net.begin(one_hot(condition, self.spec.conditions))  # type: ignore[operator]
        previous, drawn = None, list[Tensor]()
        for t, shares in enumerate(self.spec.frequencies):
            predicted, state = net.step(previous, state)  # type: ignore[operator]
            wanted = torch.tensor(shares, device=predicted.device)
            shift = shift_to(wanted, predicted, lambda raw: raw.t().softmax(0).t(), rounds=CALIBRATIONS)
            if t >= self.config.given:
                net.outlet.bias(t).add_(shift)  # type: ignore[union-attr, operator]
                previous = self._draw(predicted + shift, rng, condition, drawn)
            else:
                previous = x[:, t]
            drawn.append(previous)

    def _draw(self, predicted: Tensor, rng: Draws, condition: Tensor, before: list[Tensor]) -> Tensor:
        """(B, P) -> (B,) tokens or (B, C) values. before: what was drawn of the positions before."""
        if self.spec.layout == "tokens":
            logits = self.config.shaped(predicted)
            if not self.spec.frequencies:
                return rng.categorical(logits)
            upto = cumulated(logits)
            expected = (len(upto) - 1) - upto[:-1].sum(0) / upto[-1]
            return rng.systematic(upto, neighbours(condition, before, expected))
        channels = self.spec.shape[-1]
        weight, mean, log_scale = likelihood.split_mixture(predicted.float(), channels)
        pick = rng.categorical(weight).view(-1, 1, 1).expand(-1, 1, channels)
        mean, scale = mean.gather(1, pick).squeeze(1), log_scale.gather(1, pick).squeeze(1).exp()
        return (mean + self.config.temperature * scale * rng.normal(channels)).clamp(-1, 1)

    @torch.no_grad()
    def holdout_loss(self, nets: Nets, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """Nats per row, and per real position (a character of a text)."""
        nll = self._nll(nets, batch)
        return {"nats": nll, "nats_per_position": nll / self._positions(batch)}

    def _positions(self, batch: Batch) -> Tensor | int:
        """Real positions of a row on average; where tokens differ in size, as many as they stand for, so that
        nats compare whatever the tokens are.
        """
        if batch.mask is None:
            return self.spec.shape[0]
        real = batch.mask.float()
        if self.spec.sizes:
            real = real * torch.tensor(self.spec.sizes, device=real.device)[batch.x]
        return real.sum(1).mean()


def evenly(condition: Tensor, rows: int) -> Tensor:
    """At most so many of the rows, every class in its share."""
    if len(condition) <= rows or not condition.shape[1]:
        return condition[:rows]
    _, cell = condition.unique(dim=0, return_inverse=True)
    places = torch.arange(rows, device=cell.device) * len(condition) // rows
    return condition[cell.argsort(stable=True)[places]]


def neighbours(condition: Tensor, before: list[Tensor], expected: Tensor) -> Tensor:
    """(B,) the place of each row among rows that are alike: those of one combination of classes (without any,
    of one first token), of one of `STRATA` about equal shares by the expected token, and then in the order of
    the token before. So a block's pairs of columns come out nearly as exact as its columns.
    """
    place = torch.zeros_like(expected, dtype=torch.int64)
    for column in list(condition.unbind(1)) or before[:1]:
        place = place * (column.max() + 1) + column
    low, high = torch.aminmax(expected)
    if not bool(torch.isfinite(high - low)):
        found, fix = "the network makes numbers that are not finite", "train again"
        raise QualityError("NAN", where="sampling", found=found, fix=fix)
    level = ((expected - low) * (LEVELS / (high - low).clamp_min(1e-9))).long()
    upto = torch.bincount(level, minlength=LEVELS + 1).cumsum(0)
    place = place * STRATA + (upto[level] - 1) * STRATA // len(expected)
    return place * (before[-1].max() + 1) + before[-1] if before else place
