"""The size of the data and the cluster decide on workers, and so many have room there."""

from __future__ import annotations

import pytest

from genpipe.flows.resources import suitable_workers
from genpipe.stages.placement import Need, check_workers


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
    need = Need(gpus=1 if cluster.get("GPU") else 0, memory=0)
    check_workers(workers, need, [cluster])


def test_gpus_that_are_not_wished_for_do_not_count() -> None:
    assert suitable_workers(1_000, {"CPU": 8, "GPU": 4}, device="cpu") == 0
    assert suitable_workers(1_000, {"CPU": 8, "GPU": 4}, device="cuda") == 1
