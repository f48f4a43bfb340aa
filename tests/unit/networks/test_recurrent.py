"""A recurrent network that is told where it is."""

from __future__ import annotations

import pytest
import torch

from genpipe.batch import one_hot
from genpipe.networks.recurrent import RecurrentConfig, RecurrentModel
from genpipe.testing.specs import SPECS, batch_of


@pytest.mark.parametrize("form", ["tokens", "columns", "sequence"])
@pytest.mark.parametrize("positions", [False, True])
def test_it_is_the_same_step_by_step(form: str, positions: bool) -> None:
    spec, batch = SPECS[form], batch_of(SPECS[form])
    torch.manual_seed(0)
    net = RecurrentModel(spec, RecurrentConfig(cell="lstm", width=16, positions=positions))
    told = one_hot(batch.condition, spec.conditions)
    with torch.no_grad():
        whole, state, previous = net(batch.x, told), net.begin(told), None
        for t in range(spec.shape[0]):
            step, state = net.step(previous, state)
            previous = batch.x[:, t]
            if isinstance(whole, list):
                group, place = net.outlet.place[t]  # type: ignore[union-attr, index]
                torch.testing.assert_close(step, whole[group][place, :, : step.shape[1]])
            else:
                torch.testing.assert_close(step, whole[:, t])


def test_a_position_is_heard_where_it_is_told_and_after() -> None:
    """Another vector at the fifth step changes what is said there and later, and nothing before."""
    spec, batch = SPECS["tokens"], batch_of(SPECS["tokens"])
    torch.manual_seed(0)
    net = RecurrentModel(spec, RecurrentConfig(width=16, positions=True))
    told = one_hot(batch.condition, spec.conditions)
    with torch.no_grad():
        before = net(batch.x, told)
        assert net.position is not None
        net.position[4] += 1.0
        after = net(batch.x, told)
    changed = (before - after).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [False] * 4 + [True] * 6


def test_networks_of_before_are_what_they_were() -> None:
    assert "positions" not in RecurrentConfig().model_dump()
    names = dict(RecurrentModel(SPECS["tokens"], RecurrentConfig(width=16)).named_parameters())
    assert "position" not in names
