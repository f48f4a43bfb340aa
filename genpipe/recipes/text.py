"""Starting recipes of texts."""

from __future__ import annotations

from genpipe.families.sequence import SequenceConfig
from genpipe.networks.recurrent import RecurrentConfig
from genpipe.networks.transformer import TransformerConfig
from genpipe.recipe import Recipe, Training, derived


def text_lstm() -> Recipe:
    """Recurrent language model over the codec's tokens."""
    return Recipe(
        name="text_lstm",
        kind="text",
        layout="tokens",
        family=SequenceConfig(model=RecurrentConfig(cell="lstm", width=192)),
        training=Training(
            steps=4000,
            epochs=8,  # of a hundred letters far fewer steps: 14 recite names (lab notes)
            batch_size=16,  # 2,000 characters an update; four times as many learn a third less for their time
            learning_rate=4e-3,
            schedule="cosine",
            warmup=20,
            clip=1.0,
            monitor="loss",
            evaluate_every=500,
        ),
    )


def text_gru() -> Recipe:
    return derived(
        text_lstm(), "text_gru", family=SequenceConfig(model=RecurrentConfig(cell="gru", width=192))
    )


def text_gpt() -> Recipe:
    """A small causal transformer."""
    family = SequenceConfig(model=TransformerConfig(positions="rotary"))
    return derived(
        text_lstm(),
        "text_gpt",
        family=family,
        training={
            "optimizer": "muon",
            "warmup": 100,
            "batch_size": 8,
            "steps": 1000,
            "epochs": 3,  # of a hundred letters; of 4 some names come out, of 8 a fifth of them
            "evaluate_every": 100,
        },
    )
