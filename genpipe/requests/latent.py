"""What is asked of a generator's codes of rows: one verb a job, all on the rows of a dataset.

`OnRows` is what they share; see genpipe/stages/latent/verb.py.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field as About

from genpipe.requests.models import DATASET, NAMED, OUTPUT, SEED, Request
from genpipe.requests.types import (
    Clusters,
    Column,
    ColumnsOrNone,
    Flag,
    Name,
    Place,
    Rows,
    Seed,
    Step,
    Steps,
    Strength,
    Ways,
)

CODES_MODEL = About(description=f"{NAMED}.")
NAME = About(default=None, description="What to call it; by default after its model.")
STRIP = About(
    default=None, description="Also draw the first rows here: PNG of pictures and series, WAV of sounds."
)


class OnRows(Request):
    """Whose codes, and of which rows."""

    aside = frozenset({"model", "dataset", "output", "name"})
    model: str = CODES_MODEL
    dataset: str = DATASET
    split: Literal["train", "holdout", "generated"] | None = About(
        default=None, description="Rows of this split alone; by default of all."
    )
    rows: Rows | None = About(default=None, description="Only so many first rows of each split.")
    keep: ColumnsOrNone = About(default=None, description="Columns of the data to deliver beside the result.")
    output: Place | None = OUTPUT
    name: Name | None = NAME


class Encode(OnRows):
    """A generator and rows -> the code of each row."""

    blind: Flag = About(
        default=False, description="Do not tell the encoder a row's class: the mean of its codes under each."
    )


class Reconstruct(OnRows):
    """A generator and rows -> what it makes of the code of each row, and how far off that is."""


class Anomaly(OnRows):
    """A generator and rows -> how unusual it finds each row."""

    score: Column | None = About(
        default=None,
        description="Which error is the score: squared_error, or one of the generator's metrics.",
    )
    planted: Column | None = About(
        default=None,
        description="COLUMN of the data that says which rows are unusual; AUC is measured by it.",
    )
    usual: str | None = About(
        default=None, description="With planted: the value that usual rows have; by default the commonest."
    )


class Compress(OnRows):
    """A generator and rows -> rows from rounded codes, how many bits they take, and what is lost."""

    step: Step = About(default=0.5, description="Codes are rounded to multiples of this: larger, fewer bits.")


class Cluster(OnRows):
    """A generator and rows -> a group for each row."""

    clusters: Clusters = About(default=10, description="Groups to find.")
    method: Literal["kmeans", "mixture"] = About(
        default="kmeans", description="k-means, or a mixture of Gaussians."
    )
    against: Column | None = About(
        default=None, description="Label column to compare groups with; by default the target."
    )
    seed: Seed = SEED


class Classify(OnRows):
    """A generator and rows of which some have labels -> labels of the others."""

    target: Column | None = About(
        default=None, description="The label column; by default the generator's target."
    )
    labelled: Rows | None = About(
        default=None,
        description="Learn from so many rows of each label; by default from all, 10,000 at most.",
    )
    seed: Seed = SEED


class Edit(OnRows):
    """A generator and rows -> the same rows, moved towards a value."""

    aside = OnRows.aside | {"strip"}
    toward: dict[str, Any] | None = About(
        default=None, description="FIELD=VALUE that the rows are to get: the target, or any column of labels."
    )
    strength: Strength = About(
        default=1.0,
        description="How far: 1 is from the mean code of the row's own value to that of the one aimed at.",
    )
    seed: Seed = SEED
    strip: Place | None = STRIP


class Interpolate(Request):
    """A generator -> rows on the way from one code to another."""

    aside = frozenset({"model", "dataset", "output", "name", "strip"})
    model: str = CODES_MODEL
    dataset: str | None = About(default=None, description="With between: where the two rows are.")
    between: tuple[int, ...] | None = About(
        default=None, description="Two numbers of rows, from 0; by default codes that the generator draws."
    )
    split: Literal["train", "holdout", "generated"] | None = About(
        default=None, description="The split of the two rows; by default the first there is."
    )
    steps: Steps = About(default=8, description="Rows on each way, its ends among them.")
    ways: Ways = About(default=1, description="Pairs of codes to draw.")
    path: Literal["spherical", "linear"] = About(
        default="spherical", description="Round the origin, where codes are likely, or straight."
    )
    conditions: dict[str, Any] | None = About(
        default=None, description="COLUMN=VALUE of the target that drawn codes are of."
    )
    seed: Seed = SEED
    strip: Place | None = STRIP
    output: Place | None = OUTPUT
    name: Name | None = NAME


LATENT: tuple[type[Request], ...] = (
    Encode,
    Reconstruct,
    Anomaly,
    Compress,
    Cluster,
    Classify,
    Edit,
    Interpolate,
)
