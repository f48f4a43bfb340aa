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
from genpipe.plugins import Registry

FAMILIES: Registry[type[Family]] = Registry(
    "families", {"gan": GAN, "vae": VAE, "flow": Flow, "sequence": SequenceModel, "trees": Trees}
)
AnyFamily = Annotated[FamilyConfig, ConfigIn(FAMILIES, "family")]
