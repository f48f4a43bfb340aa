"""Which layers of a perceptron are normed."""

from __future__ import annotations

import torch
from torch import nn

from genpipe.networks.mlp import MLP, MLPConfig
from genpipe.spec import TensorSpec


def test_an_encoder_is_normed_only_where_it_is_asked_for() -> None:
    """As it was before `norm_all`, so that older bundles open."""
    spec = TensorSpec(layout="grid", shape=(1, 8, 8), dtype="float32")
    for config, normed in ((MLPConfig(), 0), (MLPConfig(norm_all=True), 2)):
        net = MLP.build("encoder", spec, config, latent=4)
        assert sum(isinstance(layer, nn.LayerNorm) for layer in net.modules()) == normed
        assert net(torch.zeros(3, 1, 8, 8), torch.zeros(3, 0)).shape == (3, 8)
    assert "norm_all" not in MLPConfig().model_dump()
