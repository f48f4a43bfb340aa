"""Pictures larger than `side` are dearer by their side and not by their area."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from genpipe.families.vq import VQ
from genpipe.networks.convolutional import Conv2dConfig, pyramid
from genpipe.networks.unet import UNetConfig, patch_of
from genpipe.recipe import make_family
from genpipe.recipes import RECIPES
from genpipe.spec import TensorSpec


def spec_of(*shape: int) -> TensorSpec:
    return TensorSpec(layout="grid", shape=shape, dtype="uint8", conditions=(10,))


def levels(shape: tuple[int, ...], **config: Any) -> list[int]:
    return [channels for channels, _ in pyramid(spec_of(*shape), Conv2dConfig(**config))]


def test_channels_halve_beyond_the_side_and_are_what_they_were_below() -> None:
    for shape in ((1, 28, 28), (3, 32, 32), (3, 32, 80)):
        assert levels(shape, side=32) == levels(shape)
    assert levels((3, 64, 64), side=32) == [16, 32, 64, 128, 128]
    assert levels((3, 128, 96), side=32) == [8, 16, 32, 64, 128]
    assert levels((3, 256, 256), side=32)[:4] == [8, 8, 16, 32]


def test_patches_grow_beyond_the_side() -> None:
    config = UNetConfig(side=32)
    assert [patch_of((n, n), config) for n in (8, 28, 32, 40, 64, 128)] == [1, 2, 2, 4, 4, 8]
    assert patch_of((128, 128), UNetConfig()) == 2


def macs(family: Any, role: str, *inputs: torch.Tensor) -> float:
    """Multiplications of a network's convolutions for one row."""
    counted = [0.0]

    def count(layer: nn.Module, _: Any, out: torch.Tensor) -> None:
        per = layer.weight[0].numel()  # type: ignore[union-attr, operator, index]
        spread = isinstance(layer, nn.ConvTranspose2d)
        counted[0] += per * (
            layer.in_channels * out.numel() / layer.out_channels / 4 if spread else out.numel()
        )  # type: ignore[operator]

    net = family.build()[role]
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        net(*inputs)
    return counted[0]


@pytest.mark.parametrize("recipe", ["image_gan", "image_vq", "image_flow"])
def test_the_work_of_a_row_grows_no_faster_than_its_side(recipe: str) -> None:
    role = {"image_gan": "critic", "image_vq": "encoder", "image_flow": "velocity"}[recipe]
    found = []
    for side in (32, 64, 128):
        family = make_family(RECIPES[recipe](), spec_of(3, side, side))
        more = (torch.zeros(1),) if role == "velocity" else ()
        found.append(macs(family, role, torch.zeros(1, 3, side, side), *more, torch.zeros(1, 10)))
    assert found[1] < 2.1 * found[0] and found[2] < 4.2 * found[0]


def test_a_large_picture_has_no_more_codes() -> None:
    families = [make_family(RECIPES["image_vq"](), spec_of(3, side, side)) for side in (32, 64, 128)]
    assert all(isinstance(f, VQ) and f.size == (8, 8) for f in families)
