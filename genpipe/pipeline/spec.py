"""A pipeline spec: one YAML file that says what to learn from, how, when it is good enough, what to deliver.

    name: people
    source: {path: people.csv, target: income}
    recipe: tabular_gan
    generate: {rows: 10000}

`validate` finds every problem of a file before anything is spent; reading.py knows lines and keys.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from genpipe.errors import UsageError, refuse_keys
from genpipe.kinds import DataKind
from genpipe.store import check_name


def _name(text: str) -> str:
    try:
        return check_name(text)
    except UsageError as error:
        raise _complaint(error.found, error.expected, error.fix) from None


def _complaint(found: str, expected: str, fix: str = "") -> PydanticCustomError:
    """A complaint in the three parts every error of ours has, through pydantic."""
    text = f"{found}; expected {expected}" + (f"; {fix}" if fix else "")
    return PydanticCustomError("complaint", "{text}", {"text": text})


def _place(uri: str) -> str:
    try:
        refuse_keys(uri)
    except UsageError as error:
        raise _complaint(error.found, error.expected, error.fix) from None
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", uri)
    if scheme and not re.match(r"(s3|file)://[^/]", uri):
        raise _complaint(repr(uri[:60]), "a local path or s3://bucket/prefix")
    if not uri.strip() or "\0" in uri or len(uri) > 4096:
        raise _complaint("an empty or impossible path", "a local path or s3://bucket/prefix")
    return uri


def _reason(text: str) -> str:
    if not 8 <= len(text.strip()) <= 500:
        raise _complaint(repr(text[:60]), "a reason, of 8 to 500 characters")
    return text.strip()


Name = Annotated[str, AfterValidator(_name)]
Place = Annotated[str, AfterValidator(_place)]
Column = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Workers = Annotated[int, Field(strict=True, ge=0, le=4096)]
Rows = Annotated[int, Field(strict=True, ge=1, le=10**12)]
Minutes = Annotated[float, Field(strict=True, gt=0, le=60 * 24 * 30, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Reason = Annotated[str, AfterValidator(_reason)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Source(Part):
    """Where the raw data is. `options` are the source's own (delimiter, size, window, ...)."""

    path: Place | Annotated[tuple[Place, ...], Field(min_length=1)]
    kind: DataKind | None = None
    target: Column | None = None
    key: tuple[Column, ...] = ()
    entity: Column | tuple[Column, ...] | None = None
    holdout: Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)] = 0.2
    schema_file: Annotated[Place | None, Field(alias="schema")] = None
    options: dict[str, Any] = Field(default_factory=dict)


class Search(Part):
    """What Ray Tune may try. vary: parameter -> list of values or range; None: the declared ranges."""

    recipes: tuple[str, ...] | None = Field(default=None, min_length=1)
    vary: dict[str, Any] | None = None
    trials: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 8
    minutes: Minutes | None = None
    workers: Workers = 0


class Train(Part):
    """workers: 0 in this process, n on n Ray Train workers, to the same result; None: by size of data.

    steps: of the training, where they should differ from the recipe's; a search's trials may then be short.
    """

    workers: Workers | None = None
    seed: Seed = 0
    steps: Annotated[int | None, Field(strict=True, ge=1)] = None
    minutes: Minutes | None = None


class Gate(Part):
    """What a model must reach before it is registered, and when it takes the champion's place.

    fidelity: smallest fidelity. relative: smallest fidelity as a share of what real held-out rows reach.
    """

    fidelity: Share | None = None
    relative: Share | None = None


class Generate(Part):
    """output: folder or s3:// prefix (default: below the store). workers: None = one a CPU."""

    rows: Rows
    seed: Seed = 0
    conditions: dict[str, Any] = Field(default_factory=dict)
    temperature: float | None = Field(default=None, gt=0)
    output: Place | None = None
    rows_per_part: Rows | None = None
    workers: Workers | None = None


class PipelineSpec(Part):
    """Everything a run needs. `recipe` is trained as it is; of a `search`, the winner is.

    real_examples: put held-out pictures, series or clips on the page of the report.
    unchecked: why data of too few entities to be judged are delivered all the same; it stands in the tags of
    the registry and in the footer of generated files. Without it such a pipeline stops before it delivers.
    allow: what consumers of the registry may do beside generating.
    """

    name: Name
    source: Source
    recipe: str | dict[str, Any] | None = None
    search: Search | None = None
    train: Train = Train()
    gate: Gate = Gate()
    real_examples: Annotated[bool, Field(strict=True)] = False
    unchecked: Reason | None = None
    allow: tuple[Literal["score", "impute"], ...] = ()
    generate: Generate | None = None
