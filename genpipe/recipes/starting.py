"""Starting recipes: functions that return whole typed runs and derive from one another.

The numbers are set for two CPU cores: a table of a thousand rows in seconds, 8 x 8 images in half a minute.
"""

from __future__ import annotations

from collections.abc import Callable

from genpipe.codecs.base import CodecConfig
from genpipe.errors import unknown
from genpipe.families.flow import FlowConfig
from genpipe.families.gan import GANConfig
from genpipe.families.sequence import SequenceConfig
from genpipe.families.vae import VAEConfig
from genpipe.families.vq import VQConfig
from genpipe.kinds import KINDS
from genpipe.networks.convolutional import Conv1dConfig, Conv2dConfig
from genpipe.networks.mlp import MLPConfig
from genpipe.networks.recurrent import RecurrentConfig
from genpipe.networks.transformer import TransformerConfig
from genpipe.networks.unet import UNetConfig
from genpipe.plugins import Registry
from genpipe.recipe import Recipe, Training, derived
from genpipe.recipes.tabular import (
    tabular_any_order,
    tabular_autoregressive,
    tabular_gan,
    tabular_trees,
    tabular_vae,
)
from genpipe.recipes.text import text_gpt, text_gru, text_lstm

SIDE = 32  # pixels up to which a picture costs what it costs; beyond, networks narrow
NEARER = 0.9  # of codes of pictures to their means: sharper, and surer of their class (docs/lab-notes.md)


def image_gan() -> Recipe:
    """Class-conditional convolutional GAN with R1, every class on demand."""
    net = Conv2dConfig(side=SIDE)
    return Recipe(
        name="image_gan",
        kind="image",
        layout="grid",
        family=GANConfig(generator=net, critic=net, mismatch=1.0, penalty_weight=1.0, penalty_every=4),
        training=Training(steps=800, batch_size=64, learning_rate=2e-3, betas=(0.0, 0.99), ema=0.995),
    )


def image_vae() -> Recipe:
    """Class-conditional convolutional VAE: smoother, never unstable."""
    net = Conv2dConfig(side=SIDE)
    return derived(
        image_gan(),
        "image_vae",
        family=VAEConfig(encoder=net, decoder=net, latent=16, temperature=NEARER),
        training={
            "batch_size": 128,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "betas": (0.9, 0.99),
            "ema": None,
            "monitor": "loss",  # fidelity is that of codes whose prior is not fitted yet
        },
    )


def image_autoencoder() -> Recipe:
    """The same without noise (RAE): its codes are drawn from a mixture fitted to those of training rows."""
    net = Conv2dConfig(side=SIDE)
    family = VAEConfig(posterior="deterministic", encoder=net, decoder=net, latent=16, temperature=NEARER)
    return derived(image_vae(), "image_autoencoder", family=family, training={"l2": 1e-6})


def image_vq() -> Recipe:
    """Pictures of 28 x 28 pixels as 7 x 7 tokens, and a small GPT over them: sharp, every class on demand."""
    half, critic = Conv2dConfig(widest=2, side=SIDE), Conv2dConfig(width=16, side=SIDE)
    return Recipe(
        name="image_vq",
        kind="image",
        layout="grid",
        family=VQConfig(
            share=0.42, side=SIDE, encoder=half, decoder=half, critic=critic, model=TransformerConfig()
        ),
        training=Training(
            steps=3600,
            batch_size=32,
            learning_rate=2e-3,
            schedule="cosine",
            warmup=50,
            clip=1.0,
            monitor="loss",  # while the autoencoder learns there is no prior to draw from
            evaluate_every=900,
        ),
    )


def image_flow() -> Recipe:
    """Class-conditional flow matching with a U-Net: the most varied, and slower to sample."""
    return derived(
        image_gan(),
        "image_flow",
        family=FlowConfig(velocity=UNetConfig(side=SIDE)),
        training={
            "steps": 2600,
            "batch_size": 32,
            "learning_rate": 3e-3,
            "betas": (0.9, 0.99),
            "schedule": "cosine",
            "warmup": 100,
            "clip": 1.0,
            "ema": 0.999,
            "monitor": "loss",
            "evaluate_every": 1300,
        },
    )


def series_recurrent() -> Recipe:
    """Recurrent network with a mixture density at every step."""
    return derived(
        text_lstm(),
        "series_recurrent",
        kind="series",
        layout="sequence",
        family=SequenceConfig(model=RecurrentConfig(cell="gru", width=128)),
        codec=CodecConfig(season=True),
        training={"steps": 1500, "batch_size": 64, "learning_rate": 2e-3, "evaluate_every": 200}
        | {"epochs": None},
    )


def series_in_turn() -> Recipe:
    """The same with the channels of a step one after the other: for many channels that hang together."""
    family = SequenceConfig(model=RecurrentConfig(cell="gru", width=128, channels="in turn"))
    training = {"steps": 3000, "epochs": 32, "evaluate_every": 250}
    return derived(series_recurrent(), "series_in_turn", family=family, training=training)


def series_gan() -> Recipe:
    """Convolutional GAN over whole series."""
    return derived(
        image_gan(),
        "series_gan",
        kind="series",
        layout="sequence",
        family=GANConfig(generator=Conv1dConfig(), critic=Conv1dConfig(), penalty_every=4),
        codec=CodecConfig(order="clamp"),
        training={"steps": 3200},
    )


def series_vae() -> Recipe:
    """Convolutional VAE over whole series."""
    family = VAEConfig(encoder=Conv1dConfig(), decoder=Conv1dConfig())
    codec = CodecConfig(order="clamp")
    training = {"steps": 4000, "learning_rate": 3e-3}
    return derived(
        image_vae(),
        "series_vae",
        kind="series",
        layout="sequence",
        family=family,
        codec=codec,
        training=training,
    )


def series_transformer() -> Recipe:
    """Causal self-attention over the steps, with the same densities."""
    family = SequenceConfig(model=TransformerConfig(positions="rotary", channels="in turn"))
    training = {"optimizer": "muon", "warmup": 100}
    return derived(series_in_turn(), "series_transformer", family=family, training=training)


def series_recurrent_gan() -> Recipe:
    """The same game between recurrent networks."""
    net = RecurrentConfig(width=64)
    family = GANConfig(generator=net, critic=net, penalty_every=4)
    return derived(series_gan(), "series_recurrent_gan", family=family)


def series_recurrent_vae() -> Recipe:
    """Recurrent encoder and decoder, and the prior fitted to the codes."""
    net = RecurrentConfig(width=64)
    family = VAEConfig(encoder=net, decoder=net)
    return derived(series_vae(), "series_recurrent_vae", family=family)


def series_vq() -> Recipe:
    """Series as a token every four steps, and a small GPT over them."""
    half = Conv1dConfig(widest=2)
    family = VQConfig(
        adversarial_weight=0.0, encoder=half, decoder=half, critic=half, model=TransformerConfig(width=64)
    )
    return derived(image_vq(), "series_vq", kind="series", layout="sequence", family=family)


def series_flow() -> Recipe:
    """Flow matching of whole series."""
    family = FlowConfig(solver="exact", velocity=UNetConfig(width=32))
    training = {"steps": 2000, "evaluate_every": 2000}
    return derived(
        image_flow(), "series_flow", kind="series", layout="sequence", family=family, training=training
    )


def audio_gan() -> Recipe:
    """The image GAN on mel spectrograms, class-conditional; narrower, as they have far more pixels."""
    family = GANConfig(
        adversarial="hinge",
        generator=Conv2dConfig(width=16, widest=8),
        critic=Conv2dConfig(width=16),
        penalty_every=4,
    )
    return derived(image_gan(), "audio_gan", kind="audio", family=family, training={"batch_size": 32})


def audio_vae() -> Recipe:
    """A VAE of dense layers on mel spectrograms: stretched to one length, they need no convolutions."""
    half = MLPConfig(width=512, residual=False, norm_all=True)
    family = VAEConfig(encoder=half, decoder=half, prior="clusters")
    training = {"steps": 2000, "batch_size": 64, "weight_decay": 0.5, "evaluate_every": 1000}
    return derived(image_vae(), "audio_vae", kind="audio", family=family, training=training)


def audio_vq() -> Recipe:
    """Mel spectrograms as tokens of eight bands and eight steps, and a small GPT over them; rough."""
    half = Conv2dConfig(width=16)
    family = VQConfig(
        halvings=3, share=0.5, encoder=half, decoder=half, critic=half, model=TransformerConfig()
    )
    training = {"steps": 1200, "evaluate_every": 200}
    return derived(image_vq(), "audio_vq", kind="audio", family=family, training=training)


def audio_flow() -> Recipe:
    """The image flow on mel spectrograms, in larger patches: a start, below the VAE as yet."""
    family = FlowConfig(velocity=UNetConfig(patch=4, blocks=1))
    training = {"steps": 1600, "evaluate_every": 1600}
    return derived(image_flow(), "audio_flow", kind="audio", family=family, training=training)


def audio_recurrent() -> Recipe:
    """The same tokens, one after the other by an LSTM, to compare: frames themselves drift into noise."""
    tokens = audio_vq().family
    assert isinstance(tokens, VQConfig)
    family = tokens.model_copy(update={"model": RecurrentConfig(cell="lstm", width=256, positions=True)})
    return derived(audio_vq(), "audio_recurrent", family=family)


RECIPES: Registry[Callable[[], Recipe]] = Registry(
    "recipes",
    {
        "tabular_autoregressive": tabular_autoregressive,
        "tabular_any_order": tabular_any_order,
        "tabular_gan": tabular_gan,
        "tabular_vae": tabular_vae,
        "tabular_trees": tabular_trees,
        "image_gan": image_gan,
        "image_vae": image_vae,
        "image_autoencoder": image_autoencoder,
        "image_vq": image_vq,
        "image_flow": image_flow,
        "series_recurrent": series_recurrent,
        "series_gan": series_gan,
        "series_vae": series_vae,
        "series_in_turn": series_in_turn,
        "series_transformer": series_transformer,
        "series_recurrent_gan": series_recurrent_gan,
        "series_recurrent_vae": series_recurrent_vae,
        "series_vq": series_vq,
        "series_flow": series_flow,
        "text_lstm": text_lstm,
        "text_gru": text_gru,
        "text_gpt": text_gpt,
        "audio_vae": audio_vae,
        "audio_gan": audio_gan,
        "audio_vq": audio_vq,
        "audio_flow": audio_flow,
        "audio_recurrent": audio_recurrent,
    },
)
# the first recipe of a kind is its default


def recipes_for(kind: str) -> dict[str, Recipe]:
    """Starting recipes of one data kind, the default first."""
    if kind not in KINDS:
        raise unknown("data kind", kind, KINDS)
    built = {name: build() for name, build in RECIPES.items()}
    return {name: recipe for name, recipe in built.items() if recipe.kind == kind}


def default_recipe(kind: str) -> Recipe:
    return next(iter(recipes_for(kind).values()))
