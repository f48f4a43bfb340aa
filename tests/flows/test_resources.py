"""The size of the data and the cluster decide on workers; impossible wishes are refused at once."""

from __future__ import annotations

import pytest

from genpipe.errors import UsageError
from genpipe.flows.resources import suitable_workers
from genpipe.stages.cluster import check_workers


@pytest.mark.parametrize(
    ("rows", "cluster", "workers"),
    [
        (1_000, {"CPU": 2}, 0),
        (10**9, {"CPU": 2}, 0),
        (600_000, {"CPU": 8}, 3),
        (10**9, {"CPU": 8}, 7),
        (10**9, {"CPU": 256}, 16),
        (1_000, {"CPU": 8, "GPU": 4}, 1),
        (120_000, {"CPU": 8, "GPU": 4}, 3),
        (10**9, {"CPU": 8, "GPU": 4}, 4),
        (10**9, {"CPU": 2, "GPU": 4}, 2),
        (1_000, {}, 0),
    ],
)
def test_workers_suit_the_data_and_the_cluster(rows: int, cluster: dict[str, float], workers: int) -> None:
    assert suitable_workers(rows, cluster) == workers
    check_workers(workers, cluster, device="cuda" if cluster.get("GPU") else "cpu")


def test_more_than_the_cluster_has_is_refused() -> None:
    check_workers(2, {"CPU": 2.0})
    with pytest.raises(UsageError, match=r"3 workers, one CPU each, on a cluster of 2 CPUs.*RAY_ADDRESS"):
        check_workers(3, {"CPU": 2.0})
    with pytest.raises(UsageError, match=r"2 workers, one GPU each, on a cluster of 1 GPUs.*GENPIPE_DEVICE"):
        check_workers(2, {"CPU": 8.0, "GPU": 1.0}, device="cuda")
