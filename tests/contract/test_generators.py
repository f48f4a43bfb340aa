"""What every network, family and recipe must keep, over the whole registries: a new entry is tested by being
there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genpipe.batch import Batch, Draws, one_hot
from genpipe.errors import UsageError
from genpipe.families import FAMILIES
from genpipe.families.base import Family, Latent, Phase
from genpipe.networks import NETWORKS, build_network, fitting
from genpipe.networks.base import FORMS, form
from genpipe.networks.head import alike
from genpipe.objectives import ADVERSARIAL
from genpipe.spec import Span, TensorSpec

ROWS = 8
SPANS = (
    Span(name="a", start=0, size=1, kind="continuous"),
    Span(name="b", start=1, size=3, kind="categorical"),
    Span(name="c", start=4, size=2, kind="categorical"),
    Span(name="d", start=6, size=1, kind="continuous"),
)
SPECS: dict[str, TensorSpec] = {
    "vector": TensorSpec(layout="vector", shape=(7,), dtype="float32", spans=SPANS, conditions=(2, 3)),
    "grid": TensorSpec(layout="grid", shape=(1, 8, 8), dtype="uint8", conditions=(3,)),
    "grid odd": TensorSpec(layout="grid", shape=(3, 13, 28), dtype="uint8"),
    "sequence": TensorSpec(layout="sequence", shape=(12, 2), dtype="float32", conditions=(2,)),
    "sequence long": TensorSpec(layout="sequence", shape=(37, 1), dtype="float32"),
    "tokens": TensorSpec(layout="tokens", shape=(10,), dtype="int32", vocabulary=(11,)),
    "columns": TensorSpec(
        layout="tokens", shape=(4,), dtype="int32", vocabulary=(5, 2, 9, 3), conditions=(2,)
    ),
}
LATENT = 6
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16},
    "conv2d": {"width": 8},
    "conv1d": {"width": 8},
    "recurrent": {"width": 16, "depth": 2},
    "transformer": {"width": 16, "depth": 2, "heads": 2},
    "autoregressive": {"embed": 4, "width": 8},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(network: str) -> Any:
    return NETWORKS[network].Config(**SMALL[network])


def batch_of(spec: TensorSpec, rows: int = ROWS, *, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    condition = torch.stack(
        [torch.randint(k, (rows,), generator=g) for k in spec.conditions] or [torch.zeros(rows)], 1
    )
    condition, mask = condition.long()[:, : len(spec.conditions)], None
    if spec.layout == "tokens":
        sizes = torch.tensor(spec.vocabulary).expand(spec.shape[0])
        x = (torch.rand(rows, *spec.shape, generator=g) * sizes).long()
        if len(spec.vocabulary) == 1:
            mask = torch.arange(spec.shape[0]) < torch.randint(1, spec.shape[0] + 1, (rows, 1), generator=g)
    else:
        x = torch.rand(rows, *spec.shape, generator=g) * 1.8 - 0.9
        for span in spec.spans:
            if span.kind == "categorical":
                drawn = torch.randint(span.size, (rows,), generator=g)
                x[:, span.start : span.start + span.size] = nn.functional.one_hot(drawn, span.size).float()
    return Batch(x, condition, mask)


PAIRS = [
    pytest.param(name, role, key, id=f"{name}-{role}-{key}")
    for name, kind in NETWORKS.items()
    for role, key in itertools.product(sorted(kind.roles), SPECS)
    if form(SPECS[key]) in kind.accepts
]


def build(network: str, role: str, spec: TensorSpec, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(role, spec, small(network), latent=LATENT)


def by_position(out: Any, spec: TensorSpec) -> torch.Tensor:
    """A model's predictions as (B, T, P); columns of their own vocabulary are padded with -inf."""
    if isinstance(out, torch.Tensor):
        return out
    widest = max(spec.vocabulary)
    padded = [torch.nn.functional.pad(each, (0, widest - each.shape[-1]), value=-math.inf) for each in out]
    positions = [t for group in alike(spec.vocabulary) for t in group]
    return torch.cat(padded)[torch.tensor(positions).argsort()].transpose(0, 1)


def call(net: nn.Module, role: str, spec: TensorSpec, batch: Batch) -> Tensor:
    c = one_hot(batch.condition, spec.conditions)
    if role in ("generator", "decoder"):
        z = torch.randn(batch.size, LATENT)
        return net(z, c, batch.x) if getattr(net, "takes_x", False) else net(z, c)
    return by_position(net(batch.x, c), spec)


@pytest.mark.parametrize(("network", "role", "key"), PAIRS)
def test_networks(network: str, role: str, key: str) -> None:
    """Shapes; gradients reach every parameter; same seed, same weights; state survives; rows do not mix."""
    spec, batch = SPECS[key], batch_of(SPECS[key])
    net, twin, other = (
        build(network, role, spec),
        build(network, role, spec),
        build(network, role, spec, seed=1),
    )
    state = net.state_dict()
    assert all(torch.equal(v, twin.state_dict()[k]) for k, v in state.items())

    torch.manual_seed(3)
    out = call(net, role, spec, batch)
    shapes = {"generator": spec.shape, "decoder": spec.shape, "critic": (), "encoder": (2 * LATENT,)}
    if role == "model":
        assert out.shape[:2] == (ROWS, spec.shape[0])
    else:
        assert out.shape == (ROWS, *shapes[role])

    finite = out.masked_fill(torch.isinf(out), 0)
    (finite * torch.randn_like(finite)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, f"no gradient reaches {name}"
        assert parameter.is_contiguous(), f"{name} could not be written as safetensors"

    other.load_state_dict(state)
    torch.manual_seed(3)
    assert torch.equal(call(other, role, spec, batch), out)

    if role != "model" and role in ("critic", "encoder"):
        half = Batch(batch.x[:3], batch.condition[:3])
        torch.testing.assert_close(call(net, role, spec, half), out[:3], atol=1e-5, rtol=1e-4)


MODELS = [p for p in PAIRS if p.values[1] == "model"]


@pytest.mark.parametrize(("network", "role", "key"), MODELS)
def test_models_are_causal_and_step_as_they_train(network: str, role: str, key: str) -> None:
    """A prediction depends on the past alone, and stepping through gives what the whole pass gives."""
    spec, batch = SPECS[key], batch_of(SPECS[key])
    net, c = build(network, role, spec), one_hot(batch.condition, spec.conditions)
    with torch.no_grad():
        whole = by_position(net(batch.x, c), spec)
        for t in (0, spec.shape[0] // 2):
            changed = batch.x.clone()
            changed[:, t:] = batch_of(spec, seed=9).x[:, t:]
            other = by_position(net(changed, c), spec)
            torch.testing.assert_close(other[:, : t + 1], whole[:, : t + 1], atol=1e-5, rtol=1e-4)
        state, previous = net.begin(c), None  # type: ignore[operator]
        for t in range(spec.shape[0]):
            step, state = net.step(previous, state)  # type: ignore[operator]
            torch.testing.assert_close(step, whole[:, t, : step.shape[-1]], atol=1e-5, rtol=1e-4)
            assert torch.isinf(whole[:, t, step.shape[-1] :]).all()
            previous = batch.x[:, t]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_declare_forms_and_roles_and_are_needed(name: str) -> None:
    kind = NETWORKS[name]
    assert kind.accepts <= set(FORMS) and kind.accepts and kind.roles
    assert kind.Config().network == name
    assert name in SMALL, "give it small sizes for the tests above"


def test_a_network_in_the_wrong_place_is_refused() -> None:
    with pytest.raises(UsageError, match="'conv2d' as generator of vector tensors; expected mlp"):
        build_network("generator", SPECS["vector"], small("conv2d"))
    with pytest.raises(
        UsageError, match="'mlp' as model of tokens tensors; expected recurrent or transformer"
    ):
        build_network("model", SPECS["tokens"], small("mlp"))


def games() -> Iterator[Any]:
    """Every family × spec × networks, and every loss and penalty of the GAN with its first networks."""
    for name, kind in FAMILIES.items():
        for key, spec in SPECS.items():
            if form(spec) not in kind.accepts:
                continue
            roles = dict(kind.network_roles)
            found = zip(*(fitting(role, form(spec)) for role in roles.values()), strict=False)
            for i, networks in enumerate(found if roles else [()]):
                parts = {field: small(network) for field, network in zip(roles, networks, strict=True)}
                options: list[dict[str, Any]] = [{}]
                if name == "gan":
                    options = [{"adversarial": "wasserstein", "penalty": "gradient_penalty"}]
                    if i == 0:
                        options = [{"adversarial": a, "penalty": "r1"} for a in ADVERSARIAL] + options
                        options += [
                            {"penalty": "none"},
                            {"adversarial": "relativistic", "penalty": "r1_r2"},
                            {"penalty": "gradient_penalty", "penalty_every": 2, "critic_steps": 2},
                        ]
                if name == "vae" and spec.layout == "grid":
                    options = [{}, {"likelihood": "bernoulli", "beta": 2.0}]
                for option in options:
                    words = "-".join(map(str, (*networks[:1], *option.values())))
                    latent = {"latent": LATENT} if "latent" in kind.Config.model_fields else {}
                    yield pytest.param(name, key, {**latent, **parts, **option}, id=f"{name}-{key}-{words}")


def make(name: str, key: str, options: Mapping[str, Any]) -> tuple[Family, dict[str, nn.Module]]:
    family = FAMILIES[name](FAMILIES[name].Config(**options), SPECS[key])
    torch.manual_seed(0)
    return family, family.build()


def gradients(
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


@pytest.mark.parametrize(("name", "key", "options"), list(games()))
def test_families(name: str, key: str, options: dict[str, Any]) -> None:
    """Two shards average to one batch; a step lowers the loss; samples have the data's shape and range, also
    after `finish`, which is all the learning of a family without phases.
    """
    spec, batch = SPECS[key], batch_of(SPECS[key])
    family, nets = make(name, key, options)
    assert set(family.roles) == set(nets)
    assert set(family.sample_roles) <= set(family.publishes) <= set(family.roles)
    assert not family.has_temperature or "temperature" in family.Config.model_fields
    for phase in family.phases:
        whole = gradients(family, nets, phase, batch, Draws(1, phase.name, total=ROWS))
        assert whole, f"phase {phase.name} trains nothing"
        shards = []
        for start, stop in ((0, ROWS // 2), (ROWS // 2, ROWS)):
            rows = slice(start, stop)
            part = Batch(
                batch.x[rows], batch.condition[rows], None if batch.mask is None else batch.mask[rows]
            )
            draws = Draws(1, phase.name, total=ROWS, start=start, stop=stop)
            shards.append(gradients(family, nets, phase, part, draws))
        for parameter, gradient in whole.items():
            mean = (shards[0][parameter] + shards[1][parameter]) / 2
            scale = gradient.abs().max().clamp_min(1.0)
            torch.testing.assert_close(mean / scale, gradient / scale, atol=1e-5, rtol=1e-4, msg=parameter)
        lower_by_one_step(family, nets, phase, batch)
    assert family.phases or family.finish_rows(ROWS), "it never learns"
    samples_and_scores(family, nets, spec, batch)
    if family.finish_rows(ROWS):
        family.finish(nets, batch, Draws(4, "finish", total=ROWS))
        samples_and_scores(family, nets, spec, batch)


def samples_and_scores(family: Family, nets: dict[str, nn.Module], spec: TensorSpec, batch: Batch) -> None:
    draws, condition = Draws(2, total=ROWS), batch.condition
    x = family.sample(nets, condition, draws)
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
    assert tuple(scores) == family.metrics, "its metrics, the one to monitor first"
    assert all(torch.isfinite(v) and not v.requires_grad for v in scores.values())
    if isinstance(family, Latent):
        published = {role: nets[role] for role in family.publishes}
        codes = family.encode(published, batch)
        assert codes.shape == (ROWS, family.latent) and torch.equal(codes, family.encode(published, batch))
        draws = Draws(2, total=ROWS)
        assert torch.equal(family.decode(published, draws.normal(family.latent), condition, draws), x)


def lower_by_one_step(family: Family, nets: dict[str, nn.Module], phase: Phase, batch: Batch) -> None:
    """A small step against the gradient, with the same draws, lowers this phase's loss."""

    def total() -> float:
        terms = family.loss(phase.name, nets, batch, Draws(1, phase.name, total=ROWS))
        return sum(term.item() for term in terms.values())

    found = gradients(family, nets, phase, batch, Draws(1, phase.name, total=ROWS))
    before, length = total(), sum(g.square().sum() for g in found.values()) ** 0.5
    saved = {r: {k: v.clone() for k, v in nets[r].state_dict().items()} for r in phase.trains}
    with torch.no_grad():
        for role in phase.trains:
            for key, parameter in nets[role].named_parameters():
                parameter.sub_(found[f"{role}.{key}"] * (1e-3 / length)) if f"{role}.{key}" in found else None
    after = total()
    assert after < before, f"{phase.name}: {before} -> {after}"
    for role in phase.trains:
        nets[role].load_state_dict(saved[role])


@pytest.mark.parametrize(("name", "key"), [("gan", "vector"), ("vae", "vector"), ("sequence", "columns")])
def test_a_row_of_a_sample_does_not_depend_on_its_neighbours(name: str, key: str) -> None:
    family, nets = make(name, key, {})
    condition = batch_of(SPECS[key]).condition
    whole = family.sample(nets, condition, Draws(2, total=ROWS))
    part = family.sample(nets, condition[2:5], Draws(2, total=ROWS, start=2, stop=5))
    torch.testing.assert_close(part, whole[2:5])
    changed = condition.clone()
    changed[0] = 1 - changed[0].clamp(max=1)
    torch.testing.assert_close(family.sample(nets, changed, Draws(2, total=ROWS))[1:], whole[1:])
