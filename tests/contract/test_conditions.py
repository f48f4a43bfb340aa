"""What is asked for reaches the rows: every network in every role, and every family with every network,
answers another class with another output for the same noise. Nothing is trained here; test_asked_for.py does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from genpipe.batch import Batch, one_hot
from genpipe.draws import Draws
from genpipe.families import FAMILIES, networks_for
from genpipe.networks import NETWORKS, build_network
from genpipe.networks.base import form, roles_on
from genpipe.spec import TensorSpec
from genpipe.testing.networks import DECODERS
from genpipe.testing.specs import HALVINGS, LATENT, ROWS, SPECS, batch_of, map_shape, small

WITH_CLASSES: dict[str, TensorSpec] = {
    "vector": SPECS["vector"],
    "grid": SPECS["grid"],
    "sequence": SPECS["sequence"],
    "tokens": TensorSpec(layout="tokens", shape=(10,), dtype="int32", vocabulary=(11,), conditions=(3,)),
    "columns": SPECS["columns"],
}


def loosened(net: nn.Module) -> nn.Module:
    """With weights so large that what a network sees shows; some begin near zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net


def classes(spec: TensorSpec, place: int, value: int) -> torch.Tensor:
    """(ROWS, K): this class of one field in every row, 0 of the others."""
    told = torch.zeros(ROWS, len(spec.conditions), dtype=torch.long)
    told[:, place] = value
    return told


def by_row(out: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """(ROWS, ..) of what a network says; columns come as a list of (T_g, ROWS, V_g)."""
    if isinstance(out, torch.Tensor):
        return out.reshape(ROWS, -1)
    return torch.cat([each.transpose(0, 1).flatten(1) for each in out], 1)


PARTS = [
    pytest.param(name, role, key, id=f"{name}-{role}-{key}")
    for name, kind in NETWORKS.items()
    for role in sorted(kind.roles)
    for key, spec in WITH_CLASSES.items()
    if role in roles_on(kind, form(spec))
]


@pytest.mark.parametrize(("network", "role", "key"), PARTS)
def test_every_network_answers_every_field_of_the_condition(network: str, role: str, key: str) -> None:
    """Every row of another class gets another score, code, picture or prediction."""
    spec = WITH_CLASSES[key]
    torch.manual_seed(0)
    net = loosened(build_network(role, spec, small(network), latent=LATENT, halvings=HALVINGS))
    z = torch.randn(ROWS, *(map_shape(spec) if role == "map_decoder" else (LATENT,)))
    batch = batch_of(spec)
    for place in range(len(spec.conditions)):
        answers = []
        for value in (0, 1):
            c = one_hot(classes(spec, place, value), spec.conditions)
            with torch.no_grad():
                given = (torch.full((ROWS,), 0.5), c) if role == "velocity" else (c,)
                out = net(z, c) if role in DECODERS else net(batch.x, *given)
            answers.append(by_row(out))
        apart = (answers[0] - answers[1]).nan_to_num(0.0).abs().amax(1)
        assert (apart > 1e-3).all(), f"field {place} of the condition is ignored"


def players() -> Iterator[Any]:
    """Every family on every form with every network that can play in it."""
    for name, kind in FAMILIES.items():
        for key, spec in WITH_CLASSES.items():
            if form(spec) not in kind.accepts:
                continue
            choices = {field: networks_for(name, field, form(spec)) for field in kind.network_roles}
            for k in range(max(map(len, choices.values()), default=1)):
                parts = {field: small(names[k % len(names)]) for field, names in choices.items()}
                latent = {"latent": LATENT} if "latent" in kind.Config.model_fields else {}
                words = "-".join(dict.fromkeys(config.network for config in parts.values()))
                yield pytest.param(name, key, {**latent, **parts}, id=f"{name}-{key}-{words}")


def following(spec: TensorSpec) -> Batch:
    """Many rows whose tokens follow their classes, for what learns by `finish` alone."""
    batch = batch_of(spec, 400)
    shift = (batch.condition * torch.arange(1, len(spec.conditions) + 1)).sum(1, keepdim=True)
    return Batch((shift + torch.zeros_like(batch.x)) % torch.tensor(spec.vocabulary), batch.condition)


@pytest.mark.parametrize(("name", "key", "options"), list(players()))
def test_every_family_answers_every_field_of_the_condition(name: str, key: str, options: dict) -> None:
    """With the same noise another class is another sample. All rows are of one class, so what a family makes
    of the mix of classes in a block does not help it.
    """
    spec = WITH_CLASSES[key]
    family = FAMILIES[name](FAMILIES[name].Config(**options), spec)
    torch.manual_seed(0)
    nets = {role: loosened(net) for role, net in family.build().items()}
    if not family.phases:
        family.finish(nets, following(spec), Draws(4, "finish", total=400))
    for place in range(len(spec.conditions)):
        one, other = (
            family.sample(nets, classes(spec, place, value), Draws(2, total=ROWS)).float() for value in (0, 1)
        )
        assert not torch.equal(one, other), f"field {place} of the condition is ignored"


@pytest.mark.parametrize(("name", "key", "options"), list(players()))
def test_every_family_learns_from_the_condition(name: str, key: str, options: dict) -> None:
    """With the same rows and noise another class is another loss, in every phase and on the holdout."""
    spec = WITH_CLASSES[key]
    family = FAMILIES[name](FAMILIES[name].Config(**options), spec)
    torch.manual_seed(0)
    nets = {role: loosened(net) for role, net in family.build().items()}
    x = batch_of(spec).x
    one, other = (Batch(x, classes(spec, 0, value)) for value in (0, 1))
    for phase in family.phases:
        for term in family.loss(phase.name, nets, one, Draws(2, total=ROWS)):
            losses = [family.loss(phase.name, nets, b, Draws(2, total=ROWS))[term] for b in (one, other)]
            assert losses[0] != losses[1], f"{term} of phase {phase.name} ignores the condition"
    if not family.phases:
        family.finish(nets, following(spec), Draws(4, "finish", total=400))
    holdout = [list(family.holdout_loss(nets, b, Draws(2, total=ROWS)).values()) for b in (one, other)]
    assert all(a != b for a, b in zip(*holdout, strict=True))
