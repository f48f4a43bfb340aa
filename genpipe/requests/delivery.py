"""What is asked of a delivery: whose rows, how many, how they are drawn, and where they go."""

from __future__ import annotations

from typing import Any

from pydantic import Field as About

from genpipe.requests.models import MODEL, OUTPUT, SEED, Request
from genpipe.requests.types import Copied, Data, Name, Rows, Seed, Temperature, TokenRun, TopK, TopP, Workers


class GenerateOf(Request):
    """Whose rows, and how many."""

    model: str = MODEL
    rows: Rows | dict[str, Rows] | None = About(
        default=None,
        description="Exactly so many; of related tables those without parents (by default as many as in the "
        "data), or TABLE=ROWS.",
    )


class Delivery(Request):
    """How rows are made, and where they go."""

    output: Data | None = OUTPUT
    conditions: dict[str, Any] | None = About(
        default=None,
        description='COLUMN=VALUE of every row, \'COLUMN>=3\' or COLUMN={"a": 0.7, "b": 0.3} for shares.',
    )
    temperature: Temperature | None = About(
        default=None, description="Of sampling: below 1 likelier rows, above 1 bolder ones."
    )
    top_k: TopK | None = About(
        default=None, description="Draw each token (letter, value, code) from the so many likeliest alone."
    )
    top_p: TopP | None = About(
        default=None, description="Draw each token from the likeliest that have this share together."
    )
    no_repeat: TokenRun | None = About(
        default=None, description="No run of so many tokens (letters) comes twice in a text."
    )
    no_copies: Copied | None = About(
        default=None,
        description="Texts with a run of so many characters of the training texts are drawn again.",
    )
    seed: Seed = SEED
    workers: Workers | None = About(
        default=None, description="0: this process, else Ray; by default as much as the work asks."
    )
    rows_per_part: Rows | None = About(default=None, description="Rows of a Parquet file.")


class Generate(Delivery, GenerateOf):
    """A generator -> rows."""

    aside = frozenset({"model", "output", "workers", "name"})
    later = frozenset({"top_k", "top_p", "no_repeat", "no_copies"})
    name: Name | None = About(default=None, description="What to call it; by default after its model.")
    tag: str = About(default="", description="Any text; makes an equal request another output.")
