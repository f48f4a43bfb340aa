"""Architectures, by name. A new one is a file with a Config and a build, and one line in NETWORKS."""

from __future__ import annotations

from typing import Annotated, Any

from torch import nn

from genpipe.entries import ConfigIn
from genpipe.errors import UsageError
from genpipe.networks.autoregressive import Autoregressive
from genpipe.networks.base import MAPS, NetworkConfig, NetworkKind, form, roles_on
from genpipe.networks.convolutional import Conv1d, Conv2d
from genpipe.networks.mlp import MLP
from genpipe.networks.recurrent import Recurrent
from genpipe.networks.transformer import GPT
from genpipe.networks.unet import UNetKind
from genpipe.plugins import Registry
from genpipe.spec import TensorSpec

NETWORKS: Registry[type[NetworkKind]] = Registry(
    "networks",
    {
        "mlp": MLP,
        "conv2d": Conv2d,
        "conv1d": Conv1d,
        "unet": UNetKind,
        "recurrent": Recurrent,
        "transformer": GPT,
        "autoregressive": Autoregressive,
    },
)
AnyNetwork = Annotated[NetworkConfig, ConfigIn(NETWORKS, "network")]


def fitting(role: str, form: str) -> tuple[str, ...]:
    """The networks that can play this role on tensors of this form: the whole compatibility rule."""
    return tuple(name for name, kind in NETWORKS.items() if role in roles_on(kind, form))


def check_network(config: NetworkConfig, role: str, form: str, *, where: str = "") -> None:
    name, allowed = config.network, fitting(role, form)
    if name not in allowed:
        raise UsageError(
            "NETWORK",
            where=where,
            found=f"network {name!r} as {role} of {form} tensors",
            expected=" or ".join(allowed) or f"no network: nothing here makes a {role} of {form} tensors",
        )


def build_network(
    role: str, spec: TensorSpec, config: NetworkConfig, *, latent: int = 0, halvings: int = 0
) -> nn.Module:
    """A fresh network, initialised from torch's default generator. halvings: of a map, for roles in MAPS."""
    check_network(config, role, form(spec))
    more: dict[str, Any] = {"halvings": halvings} if role in MAPS else {}
    return NETWORKS[config.network].build(role, spec, config, latent=latent, **more)
