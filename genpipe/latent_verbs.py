"""The verbs on a generator's codes of rows, for Python; see genpipe/verbs.py, of which this is a part.

All return a Dataset (split "generated"); what was measured of all rows together is
`dataset.manifest.origin["scores"]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from genpipe.perform import perform, request
from genpipe.progress import Progress, silent
from genpipe.requests import (
    Anomaly,
    Classify,
    Cluster,
    Compress,
    Edit,
    Encode,
    Interpolate,
    Reconstruct,
)
from genpipe.requests.signature import documented

if TYPE_CHECKING:
    from genpipe.dataset import Dataset


@documented(Encode)
def encode(
    model: object,
    dataset: object,
    *,
    split: str | None = None,
    rows: int | None = None,
    keep: str | Sequence[str] | None = None,
    output: str | None = None,
    name: str | None = None,
    blind: bool = False,
    progress: Progress = silent,
) -> Dataset:
    """The code of each row: `split`, `row`, `z_0` ... Codes are of real rows, and as private as these."""
    return perform(request(Encode, locals()), progress)


@documented(Reconstruct)
def reconstruct(
    model: object,
    dataset: object,
    *,
    split: str | None = None,
    rows: int | None = None,
    keep: str | Sequence[str] | None = None,
    output: str | None = None,
    name: str | None = None,
    progress: Progress = silent,
) -> Dataset:
    """What each row's code decodes to, and how far off it is: the generator's metrics and `squared_error`."""
    return perform(request(Reconstruct, locals()), progress)


@documented(Anomaly)
def anomaly(
    model: object,
    dataset: object,
    *,
    split: str | None = None,
    rows: int | None = None,
    keep: str | Sequence[str] | None = None,
    output: str | None = None,
    name: str | None = None,
    score: str | None = None,
    planted: str | None = None,
    usual: str | None = None,
    progress: Progress = silent,
) -> Dataset:
    """How unusual the generator finds each row: `anomaly`, the higher the more unusual.

    With `planted`, AUC of each error is among the scores.
    """
    return perform(request(Anomaly, locals()), progress)


@documented(Compress)
def compress(
    model: object,
    dataset: object,
    *,
    split: str | None = None,
    rows: int | None = None,
    keep: str | Sequence[str] | None = None,
    output: str | None = None,
    name: str | None = None,
    step: float = 0.5,
    progress: Progress = silent,
) -> Dataset:
    """Rows from rounded codes; bits a value and what is lost, beside PNG, FLAC or DEFLATE. It is lossy."""
    return perform(request(Compress, locals()), progress)


@documented(Cluster)
def cluster(
    model: object,
    dataset: object,
    *,
    split: str | None = None,
    rows: int | None = None,
    keep: str | Sequence[str] | None = None,
    output: str | None = None,
    name: str | None = None,
    clusters: int = 10,
    method: str = "kmeans",
    against: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Dataset:
    """A group for each row; silhouette, and how groups agree with labels, are the scores."""
    return perform(request(Cluster, locals()), progress)


@documented(Classify)
def classify(
    model: object,
    dataset: object,
    *,
    split: str | None = None,
    rows: int | None = None,
    keep: str | Sequence[str] | None = None,
    output: str | None = None,
    name: str | None = None,
    target: str | None = None,
    labelled: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Dataset:
    """Labels of held-out rows by a linear classifier of codes, with its accuracy and that on own values."""
    return perform(request(Classify, locals()), progress)


@documented(Edit)
def edit(
    model: object,
    dataset: object,
    *,
    split: str | None = None,
    rows: int | None = None,
    keep: str | Sequence[str] | None = None,
    output: str | None = None,
    name: str | None = None,
    toward: Mapping[str, Any] | None = None,
    strength: float = 1.0,
    seed: int = 0,
    strip: str | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Rows moved towards a value: the class of a conditional generator, or a direction learnt from labels."""
    return perform(request(Edit, locals()), progress)


@documented(Interpolate)
def interpolate(
    model: object,
    dataset: object = None,
    *,
    between: Sequence[int] | None = None,
    split: str | None = None,
    steps: int = 8,
    ways: int = 1,
    path: str = "spherical",
    conditions: Mapping[str, Any] | None = None,
    seed: int = 0,
    strip: str | None = None,
    output: str | None = None,
    name: str | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Rows on the way between two rows of a dataset, or between codes that the generator draws."""
    return perform(request(Interpolate, locals()), progress)
