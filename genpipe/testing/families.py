"""What every family must keep, see genpipe/families/base.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genpipe.batch import Batch
from genpipe.bundle.latent import encoders
from genpipe.draws import Draws, Middle
from genpipe.families import FAMILIES
from genpipe.families.base import Family, Latent, Phase, Prepared
from genpipe.spec import TensorSpec
from genpipe.testing.specs import ROWS, batch_of


def check_family(name: str, spec: TensorSpec, options: Mapping[str, Any]) -> None:
    """Two shards average to one batch; a step lowers the loss; samples have the data's shape and range, also
    after `finish`, which is all the learning of a family without phases. options: fields of its config.
    """
    batch = batch_of(spec)
    family, nets = make(name, spec, options)
    _check_declaration(name, family, nets)
    if isinstance(family, Prepared):
        family.begin(nets, batch, Draws(0, "begin", total=ROWS))
    for phase in family.phases:
        whole = _gradients(family, nets, phase, batch, Draws(1, phase.name, total=ROWS))
        assert whole, f"phase {phase.name} trains nothing"
        shards = []
        for start, stop in ((0, ROWS // 2), (ROWS // 2, ROWS)):
            rows = slice(start, stop)
            mask = None if batch.mask is None else batch.mask[rows]
            part = Batch(batch.x[rows], batch.condition[rows], mask)
            draws = Draws(1, phase.name, total=ROWS, start=start, stop=stop)
            shards.append(_gradients(family, nets, phase, part, draws))
        for parameter, gradient in whole.items():
            mean = (shards[0][parameter] + shards[1][parameter]) / 2
            scale = gradient.abs().max().clamp_min(1.0)
            torch.testing.assert_close(mean / scale, gradient / scale, atol=1e-5, rtol=1e-4, msg=parameter)
        _lower_by_one_step(family, nets, phase, batch)
    assert family.phases or family.finish_rows(ROWS), "it never learns"
    _samples_and_scores(family, nets, spec, batch)
    if family.finish_rows(ROWS):
        family.finish(nets, batch, Draws(4, "finish", total=ROWS))
        _samples_and_scores(family, nets, spec, batch)


def make(name: str, spec: TensorSpec, options: Mapping[str, Any]) -> tuple[Family, dict[str, nn.Module]]:
    family = FAMILIES[name](FAMILIES[name].Config(**options), spec)
    torch.manual_seed(0)
    return family, family.build()


def _check_declaration(name: str, family: Family, nets: Mapping[str, nn.Module]) -> None:
    config = family.Config()
    assert config.family == name, f"Config.family: expected Literal[{name!r}] = {name!r}"
    assert set(family.roles) == set(nets), "roles: expected those that build makes"
    assert set(family.sample_roles) <= set(family.publishes) <= set(family.roles)
    assert set(family.network_roles) <= set(family.Config.model_fields), (
        "network_roles: expected config fields"
    )
    assert not family.has_temperature or "temperature" in family.Config.model_fields


def _gradients(
    family: Family, nets: dict[str, nn.Module], phase: Phase, batch: Batch, draws: Draws
) -> dict[str, Tensor]:
    for role, net in nets.items():
        net.requires_grad_(role in phase.trains)
        net.zero_grad()
    terms = family.loss(phase.name, nets, batch, draws)
    assert all(term.dim() == 0 and torch.isfinite(term) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    return {
        f"{r}.{k}": p.grad.clone()
        for r in phase.trains
        for k, p in nets[r].named_parameters()
        if p.grad is not None
    }


def _lower_by_one_step(family: Family, nets: dict[str, nn.Module], phase: Phase, batch: Batch) -> None:
    """A small step against the gradient, with the same draws, lowers this phase's loss."""

    def total() -> float:
        terms = family.loss(phase.name, nets, batch, Draws(1, phase.name, total=ROWS))
        return sum(term.item() for term in terms.values())

    found = _gradients(family, nets, phase, batch, Draws(1, phase.name, total=ROWS))
    before, length = total(), float(sum(g.square().sum() for g in found.values())) ** 0.5
    saved = {r: {k: v.clone() for k, v in nets[r].state_dict().items()} for r in phase.trains}
    with torch.no_grad():
        for role in phase.trains:
            for key, parameter in nets[role].named_parameters():
                if (gradient := found.get(f"{role}.{key}")) is not None:
                    parameter.sub_(gradient * (1e-3 / length))
    after = total()
    assert after < before, f"{phase.name}: {before} -> {after}"
    for role in phase.trains:
        nets[role].load_state_dict(saved[role])


def _samples_and_scores(family: Family, nets: dict[str, nn.Module], spec: TensorSpec, batch: Batch) -> None:
    draws, condition = Draws(2, total=ROWS), batch.condition
    x = family.sample({role: nets[role] for role in family.publishes}, condition, draws)
    least = family.sample({role: nets[role] for role in family.sample_roles}, condition, Draws(2, total=ROWS))
    assert least.shape == x.shape, "sample_roles: expected all that a sample needs"
    again = family.sample(nets, condition, Draws(2, total=ROWS))
    assert x.shape == batch.x.shape and x.dtype == batch.x.dtype and torch.equal(x, again)
    if spec.layout == "tokens":
        assert (x >= 0).all() and (x < torch.tensor(spec.vocabulary)).all()
    else:
        assert (x.abs() <= 1).all()
    for span in spec.spans:
        if span.kind == "categorical":
            assert (x[:, span.start : span.start + span.size].sort(1).values[:, -1] == 1).all()
    scores = family.holdout_loss(nets, batch, Draws(3, total=ROWS))
    assert tuple(scores) == family.metrics, "metrics: expected what holdout_loss returns, in that order"
    assert all(torch.isfinite(v) and not v.requires_grad for v in scores.values())
    if isinstance(family, Latent):
        published = {role: nets[role] for role in family.publishes}
        codes = family.encode(published, batch)
        assert codes.shape == (ROWS, family.latent) and torch.equal(codes, family.encode(published, batch))
        draws = Draws(2, total=ROWS)
        z = family.prior(published, condition, draws)
        assert torch.equal(family.decode(published, z, condition, draws), x)
        bare = {role: net for role, net in published.items() if role not in encoders(family)}
        plain = family.decode(bare, z, condition, Middle(ROWS))
        assert torch.equal(plain, family.decode(bare, z, condition, Middle(ROWS))), "decode: an own draw"
        assert torch.isfinite(plain.double()).all() and plain.shape == x.shape
