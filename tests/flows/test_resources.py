"""The size of the data and the cluster decide on workers; impossible wishes are refused at once."""

from __future__ import annotations

import pytest

from flows.resources import plan
from genpipe.errors import UsageError


@pytest.mark.parametrize(
    ("rows", "cluster", "workers", "gpus"),
    [
        (1_000, {"CPU": 2}, 0, 0.0),
        (10**9, {"CPU": 2}, 0, 0.0),
        (600_000, {"CPU": 8}, 3, 0.0),
        (10**9, {"CPU": 8}, 7, 0.0),
        (10**9, {"CPU": 256}, 16, 0.0),
        (1_000, {"CPU": 8, "GPU": 4}, 1, 1.0),
        (120_000, {"CPU": 8, "GPU": 4}, 3, 1.0),
        (10**9, {"CPU": 8, "GPU": 4}, 4, 1.0),
        (1_000, {}, 0, 0.0),
    ],
)
def test_plan(rows: int, cluster: dict[str, float], workers: int, gpus: float) -> None:
    found = plan(rows=rows, cluster=cluster)
    assert (found.workers, found.gpus) == (workers, gpus)


def test_what_is_asked_is_given() -> None:
    assert plan(rows=10, cluster={"CPU": 4}, asked=2).workers == 2
    assert plan(rows=10, cluster={"CPU": 4, "GPU": 2}, asked=2).gpus == 1.0


def test_more_than_the_cluster_has_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"3 workers of 1 CPU each; expected at most the 2 CPUs.*RAY_ADDRESS"
    ):
        plan(rows=10, cluster={"CPU": 2}, asked=3)
