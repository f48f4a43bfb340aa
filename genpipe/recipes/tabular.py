"""Starting recipes of tables."""

from __future__ import annotations

from genpipe.families.gan import GANConfig
from genpipe.families.sequence import SequenceConfig
from genpipe.families.trees import TreesConfig
from genpipe.families.vae import VAEConfig
from genpipe.networks.autoregressive import AutoregressiveConfig
from genpipe.networks.mlp import MLPConfig
from genpipe.recipe import Recipe, Training, derived


def tabular_autoregressive() -> Recipe:
    """Columns one after the other: the strongest starting point for a table."""
    return Recipe(
        name="tabular_autoregressive",
        kind="tabular",
        layout="tokens",
        family=SequenceConfig(model=AutoregressiveConfig(tails=8)),
        training=Training(
            epochs=6,
            steps=1_000_000,
            batch_size=512,
            learning_rate=1e-2,
            weight_decay=None,
            l2=None,
            schedule="settle",
            warmup=10,
            ema=0.999,
            evaluate_every=1_000_000,
            checkpoint_every=1000,
        ),
    )


def tabular_any_order() -> Recipe:
    """Columns in any order: any of them may be given, the others are made to fit (imputation, conditions)."""
    model = AutoregressiveConfig(order="any", width=64, tails=8)
    return derived(
        tabular_autoregressive(),
        "tabular_any_order",
        family=SequenceConfig(model=model),
        training={"epochs": 9, "batch_size": 512, "ema": 0.998},
    )


def tabular_gan() -> Recipe:
    """Conditional table GAN after CTGAN: Wasserstein scores with gradient penalty, training by sampling.

    One to two minutes of one core, whatever the number of rows: its dependence between columns comes late.
    """
    return Recipe(
        name="tabular_gan",
        kind="tabular",
        layout="vector",
        family=GANConfig(
            adversarial="wasserstein", penalty="gradient_penalty", penalty_weight=10.0, critic_steps=2
        ),
        training=Training(
            steps=4000,
            batch_size=256,
            balance=True,
            learning_rate=1e-3,
            betas=(0.5, 0.9),
            schedule="cosine",
            ema=0.995,
            evaluate_every=1000,
        ),
    )


def tabular_vae() -> Recipe:
    """Table VAE after TVAE."""
    return Recipe(
        name="tabular_vae",
        kind="tabular",
        layout="vector",
        family=VAEConfig(encoder=MLPConfig(residual=False), decoder=MLPConfig(residual=False)),
        training=Training(
            steps=2500,
            batch_size=256,
            learning_rate=3e-3,
            schedule="cosine",
            weight_decay=0.01,
            monitor="loss",
            evaluate_every=500,
        ),
    )


def tabular_trees() -> Recipe:
    """Sequential classification trees after synthpop: a strong baseline in seconds."""
    return Recipe(
        name="tabular_trees",
        kind="tabular",
        layout="tokens",
        family=TreesConfig(),
        training=Training(steps=1),
    )
