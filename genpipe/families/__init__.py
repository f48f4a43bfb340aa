"""How generators are trained and sampled, by name. A new family is a file, one line here and one in
AnyFamily.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from genpipe.families.base import Family
from genpipe.families.gan import GAN, GANConfig
from genpipe.families.sequence import SequenceConfig, SequenceModel
from genpipe.families.trees import Trees, TreesConfig
from genpipe.families.vae import VAE, VAEConfig

FAMILIES: dict[str, type[Family]] = {"gan": GAN, "vae": VAE, "sequence": SequenceModel, "trees": Trees}
AnyFamily = Annotated[GANConfig | VAEConfig | SequenceConfig | TreesConfig, Field(discriminator="family")]
