"""What every network must keep, see genpipe/networks/base.py."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from genpipe.batch import Batch, one_hot
from genpipe.networks import NETWORKS, build_network
from genpipe.networks.base import FORMS
from genpipe.networks.head import alike
from genpipe.spec import TensorSpec
from genpipe.testing.specs import HALVINGS, LATENT, ROWS, batch_of, map_shape, small

DECODERS = ("generator", "decoder", "map_decoder")


def check_declaration(name: str) -> None:
    """It declares forms and roles there are, and its config is told by its name."""
    kind = NETWORKS[name]
    assert kind.accepts and kind.accepts <= set(FORMS), f"accepts: expected some of {FORMS}"
    assert kind.roles, "roles: expected at least one"
    assert kind.Config().network == name, f"Config.network: expected Literal[{name!r}] = {name!r}"


def check_network(name: str, role: str, spec: TensorSpec) -> None:
    """Shapes; gradients reach every parameter; same seed, same weights; state survives; rows do not mix."""
    batch = batch_of(spec)
    net, twin, other = (_build(name, role, spec, seed) for seed in (0, 0, 1))
    state = net.state_dict()
    assert all(torch.equal(v, twin.state_dict()[k]) for k, v in state.items()), "one seed, two networks"

    torch.manual_seed(3)
    out = _call(net, role, spec, batch)
    shapes = {"critic": (), "encoder": (2 * LATENT,), "map_encoder": map_shape(spec)}
    shapes["velocity"] = spec.shape
    shapes |= dict.fromkeys(DECODERS, spec.shape)
    if role == "model":
        assert out.shape[:2] == (ROWS, spec.shape[0])
    else:
        assert out.shape == (ROWS, *shapes[role])

    finite = out.masked_fill(torch.isinf(out), 0)
    (finite * torch.randn_like(finite)).sum().backward()
    for parameter, value in net.named_parameters():
        assert value.grad is not None and value.grad.abs().sum() > 0, f"no gradient reaches {parameter}"
        assert value.is_contiguous(), f"{parameter} could not be written as safetensors"

    other.load_state_dict(state)
    torch.manual_seed(3)
    assert torch.equal(_call(other, role, spec, batch), out), "state_dict is not all of its state"

    if role in ("critic", "encoder", "map_encoder"):
        half = Batch(batch.x[:3], batch.condition[:3])
        torch.testing.assert_close(_call(net, role, spec, half), out[:3], atol=1e-5, rtol=1e-4)
    if role == "critic" and getattr(net, "compares", False):
        c = one_hot(batch.condition, spec.conditions)
        both = net(batch.x, torch.stack([c, c.flip(0)], 1))
        apart = torch.stack([out, net(batch.x, c.flip(0))], 1)
        torch.testing.assert_close(both, apart, atol=1e-5, rtol=1e-4)


def check_model(name: str, spec: TensorSpec) -> None:
    """A prediction depends on the past alone, and stepping through gives what the whole pass gives."""
    batch = batch_of(spec)
    net, c = _build(name, "model", spec), one_hot(batch.condition, spec.conditions)
    with torch.no_grad():
        whole = _by_position(net(batch.x, c), spec)
        for t in (0, spec.shape[0] // 2):
            changed = batch.x.clone()
            changed[:, t:] = batch_of(spec, seed=9).x[:, t:]
            other = _by_position(net(changed, c), spec)
            torch.testing.assert_close(other[:, : t + 1], whole[:, : t + 1], atol=1e-5, rtol=1e-4)
        state, previous = net.begin(c), None  # type: ignore[operator]
        for t in range(spec.shape[0]):
            step, state = net.step(previous, state)  # type: ignore[operator]
            torch.testing.assert_close(step, whole[:, t, : step.shape[-1]], atol=1e-5, rtol=1e-4)
            assert torch.isinf(whole[:, t, step.shape[-1] :]).all()
            previous = batch.x[:, t]


def _build(name: str, role: str, spec: TensorSpec, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(role, spec, small(name), latent=LATENT, halvings=HALVINGS)


def _by_position(out: Any, spec: TensorSpec) -> Tensor:
    """A model's predictions as (B, T, P); columns of their own vocabulary are padded with -inf."""
    if isinstance(out, Tensor):
        return out
    widest = max(spec.vocabulary)
    padded = [nn.functional.pad(each, (0, widest - each.shape[-1]), value=-math.inf) for each in out]
    positions = [t for group in alike(spec.vocabulary) for t in group]
    return torch.cat(padded)[torch.tensor(positions).argsort()].transpose(0, 1)


def _call(net: nn.Module, role: str, spec: TensorSpec, batch: Batch) -> Tensor:
    c = one_hot(batch.condition, spec.conditions)
    if role in DECODERS:
        z = torch.randn(batch.size, *(map_shape(spec) if role == "map_decoder" else (LATENT,)))
        return net(z, c, batch.x) if getattr(net, "takes_x", False) else net(z, c)
    if role == "velocity":
        return net(batch.x, torch.rand(batch.size), c)
    return _by_position(net(batch.x, c), spec)
