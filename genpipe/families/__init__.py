"""How generators are trained and sampled, by name. A new family is a file and one line in FAMILIES."""

from __future__ import annotations

from typing import Annotated

from genpipe.entries import ConfigIn
from genpipe.families.base import Family, FamilyConfig
from genpipe.families.flow import Flow
from genpipe.families.gan import GAN
from genpipe.families.sequence import SequenceModel
from genpipe.families.trees import Trees
from genpipe.families.vae import VAE
from genpipe.families.vq import VQ
from genpipe.networks import fitting
from genpipe.plugins import Registry

FAMILIES: Registry[type[Family]] = Registry(
    "families",
    {"gan": GAN, "vae": VAE, "vq": VQ, "flow": Flow, "sequence": SequenceModel, "trees": Trees},
)
AnyFamily = Annotated[FamilyConfig, ConfigIn(FAMILIES, "family")]


def networks_for(family: str, field: str, form: str) -> tuple[str, ...]:
    """The networks that may stand in a network field of a family that learns tensors of this form."""
    kind = FAMILIES[family]
    return fitting(kind.network_roles[field], form_for(family, field, form))


def form_for(family: str, field: str, form: str) -> str:
    """The form of the tensors that a network field's network learns: the data's, or what the family makes of
    these.
    """
    own: dict[str, str] = getattr(FAMILIES[family], "network_forms", {})
    return own.get(field, form)
