"""A pipeline spec: one YAML file that says what to learn from, how, when it is good enough, what to deliver.

    name: people
    source: {path: people.csv, target: income}
    recipe: tabular_gan
    generate: {rows: 10000}

`validate` finds every problem of a file before anything is spent; reading.py knows lines and keys.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PrivateAttr

from genpipe import requests
from genpipe.requests.types import (
    Age,
    Flag,
    Holdout,
    Kept,
    Name,
    Permission,
    Places,
    Reason,
    Rows,
    Share,
    Workers,
)

Part = requests.Part
SomeHoldout = Annotated[Holdout, Field(gt=0)]  # a pipeline judges what it delivers


class SourceSpec(requests.Reading):
    """Where the raw data is. `options` are the source's own (delimiter, size, window, ...)."""

    path: Places
    holdout: SomeHoldout = 0.2


class Search(requests.Budget):
    """What Ray Tune may try. vary: parameter -> list of values or range; None: the declared ranges."""


class Train(requests.Fit):
    """workers: 0 in this process, n on n Ray Train workers, to the same result; None: by size of data.

    steps: of the training, where they should differ from the recipe's; a search's trials may then be short.
    """

    workers: Workers | None = None  # type: ignore[assignment]
    steps: Rows | None = None


class Gate(Part):
    """What a model must reach before it is registered, and when it takes the champion's place.

    fidelity: smallest fidelity. relative: smallest fidelity as a share of what real held-out rows reach.
    """

    fidelity: Share | None = None
    relative: Share | None = None


class Generate(requests.Delivery):
    """output: folder or s3:// prefix (default: below the store). workers: None = one a CPU."""

    rows: Rows


class Retention(Part):
    """How much of this pipeline's own to keep after each run (genpipe/stages/retention.py).

    keep: newest datasets, runs, versions and deliveries. older: only what is older than so many days goes.
    """

    keep: Kept = 30
    older: Age | None = None


class PipelineSpec(Part):
    """Everything a run needs. `recipe` is trained as it is; of a `search`, the winner is.

    real_examples: put held-out pictures, series or clips on the page of the report.
    unchecked: why data of too few entities to be judged are delivered all the same; it stands in the tags of
    the registry and in the footer of generated files. Without it such a pipeline stops before it delivers.
    allow: what consumers of the registry may do beside generating.
    retention: without it nothing that was made is ever removed.
    """

    name: Name
    source: SourceSpec
    recipe: str | dict[str, Any] | None = None
    search: Search | None = None
    train: Train = Train()
    gate: Gate = Gate()
    real_examples: Flag = False
    unchecked: Reason | None = None
    allow: tuple[Permission, ...] = ()
    generate: Generate | None = None
    retention: Retention | None = None
    _checked: bool = PrivateAttr(default=False)  # whether `check_spec` has seen it
