"""What every network, loss and family must keep, over the whole registries: a new entry is tested by being
there. The checks themselves are in genpipe/testing, where plug-ins find them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genpipe import testing
from genpipe.draws import Draws
from genpipe.errors import UsageError
from genpipe.networks import build_network
from genpipe.networks.recurrent import RecurrentConfig
from genpipe.networks.transformer import TransformerConfig
from genpipe.objectives import PENALTIES
from genpipe.testing.families import make
from genpipe.testing.specs import ROWS, SPECS, batch_of, small

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "gan": [
        {"penalty": "none"},
        *({"penalty": name} for name in PENALTIES),
        {"penalty": "gradient_penalty", "penalty_every": 2, "critic_steps": 2},
        {"pack": 2, "critic_rate": 2.0, "mismatch": 0.5},
    ],
    "vae": [{"likelihood": "bernoulli", "beta": 2.0}, {"posterior": "deterministic", "temperature": 0.5}],
    "sequence": [
        {"temperature": 0.5},
        {"model": RecurrentConfig(width=8, mixture=3, channels="in turn")},
        {"model": TransformerConfig(width=8, heads=2, positions="rotary", channels="in turn")},
    ],
    "vq": [{"quantiser": "vq"}, {"adversarial_weight": 0.0, "temperature": 0.5, "halvings": 1}],
}


@pytest.mark.parametrize("case", testing.network_cases(), ids=str)
def test_networks(case: testing.Case) -> None:
    case()


@pytest.mark.parametrize("case", testing.loss_cases(), ids=str)
def test_losses(case: testing.Case) -> None:
    case()


@pytest.mark.parametrize("case", testing.family_cases(options=OPTIONS), ids=str)
def test_families(case: testing.Case) -> None:
    case()


def test_a_network_in_the_wrong_place_is_refused() -> None:
    with pytest.raises(UsageError, match="'conv2d' as generator of vector tensors; expected mlp"):
        build_network("generator", SPECS["vector"], small("conv2d"))
    with pytest.raises(
        UsageError, match="'mlp' as model of tokens tensors; expected recurrent or transformer"
    ):
        build_network("model", SPECS["tokens"], small("mlp"))


@pytest.mark.parametrize(("name", "key"), [("gan", "vector"), ("vae", "vector"), ("sequence", "columns")])
def test_a_row_of_a_sample_does_not_depend_on_its_neighbours(name: str, key: str) -> None:
    family, nets = make(name, SPECS[key], {})
    condition = batch_of(SPECS[key]).condition
    whole = family.sample(nets, condition, Draws(2, total=ROWS))
    part = family.sample(nets, condition[2:5], Draws(2, total=ROWS, start=2, stop=5))
    torch.testing.assert_close(part, whole[2:5])
    changed = condition.clone()
    changed[0] = 1 - changed[0].clamp(max=1)
    torch.testing.assert_close(family.sample(nets, changed, Draws(2, total=ROWS))[1:], whole[1:])
