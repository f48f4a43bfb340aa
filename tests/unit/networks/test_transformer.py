"""Attention written out is the attention of torch's kernel; rotary positions."""

from __future__ import annotations

import pytest
import torch

from genpipe.batch import one_hot
from genpipe.networks.transformer import SHORT, Rotation, Transformer, TransformerConfig, causal_attention
from genpipe.testing.specs import SPECS, batch_of


def test_short_attention_in_bfloat16_is_that_of_the_kernel() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 17, 8) for _ in range(3))
    low = causal_attention(*(part.bfloat16() for part in (q, k, v)), 0.4)
    assert low.dtype == torch.bfloat16 and SHORT >= 17
    exact = causal_attention(q, k, v, 0.4)
    torch.testing.assert_close(low.float(), exact, atol=0.03, rtol=0.03)
    torch.testing.assert_close(exact[:, :, 0], v[:, :, 0])  # the first sees itself alone


@pytest.mark.parametrize("form", ["tokens", "columns", "sequence"])
def test_rotary_positions_are_the_same_step_by_step(form: str) -> None:
    spec, batch = SPECS[form], batch_of(SPECS[form])
    torch.manual_seed(0)
    net = Transformer(spec, TransformerConfig(width=16, heads=2, depth=2, positions="rotary"))
    with torch.no_grad():
        for parameter in net.parameters():  # branches begin at zero, where nothing would be seen
            parameter.add_(0.3 * torch.randn_like(parameter))
        told = one_hot(batch.condition, spec.conditions)
        whole, state, previous = net(batch.x, told), net.begin(told), None
        for t in range(spec.shape[0]):
            step, state = net.step(previous, state)
            previous = batch.x[:, t]
            if isinstance(whole, list):
                group, place = net.outlet.place[t]  # type: ignore[union-attr, index]
                torch.testing.assert_close(step, whole[group][place, :, : step.shape[1]])
            else:
                torch.testing.assert_close(step, whole[:, t])


def test_a_rotation_knows_how_far_apart_and_not_where() -> None:
    torch.manual_seed(0)
    turn, q, k = Rotation(64, 8), torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    near = [(turn(q, t + 3) * turn(k, t)).sum() for t in (0, 9, 40)]
    torch.testing.assert_close(near[0], near[1])
    torch.testing.assert_close(near[0], near[2])
    assert (near[0] - (turn(q, 4) * turn(k, 0)).sum()).abs() > 1e-3
    torch.testing.assert_close(turn(5 * q, 7), turn(q, 7))


def test_networks_of_before_are_what_they_were() -> None:
    """Their positions are weights; a config that says nothing of them is of such."""
    net = Transformer(SPECS["tokens"], TransformerConfig(width=16, heads=2, depth=1))
    assert net.position is not None and "positions" not in TransformerConfig().model_dump()
    with pytest.raises(ValueError, match="heads of an even width"):
        TransformerConfig(width=9, heads=3, positions="rotary")
