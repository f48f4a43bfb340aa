"""What a worker needs follows from its job, and what no node can give is refused before Ray waits for it."""

from __future__ import annotations

import re

import pytest

from genpipe.errors import InfrastructureError, UsageError
from genpipe.stages.placement import (
    SEVERAL_CPUS,
    WORKER_BYTES,
    Need,
    check_workers,
    need_to_sample,
    need_to_train,
    room,
)
from genpipe.training.device import SMALL, check_gpu

GB = 2**30
PLAIN = Need(memory=0)


def test_workers_fit_node_by_node_and_not_by_the_sum() -> None:
    two = [{"CPU": 3.0, "GPU": 1.0, "memory": 4.0 * GB}, {"CPU": 3.0, "memory": 4.0 * GB}]
    assert room(PLAIN, two) == 6
    assert room(Need(cpus=2, memory=0), two) == 2  # not 3: no worker spans two nodes
    assert room(Need(gpus=1, memory=0), two) == 1
    assert room(Need(memory=3 * GB), two) == 2
    assert room(PLAIN, [{"memory": 1.0}]) == 0  # a Prefect worker's node, which has no CPUs
    assert room(PLAIN, []) == 0


@pytest.mark.parametrize(
    ("workers", "need", "nodes", "words"),
    [
        (3, PLAIN, [{"CPU": 2.0}], r"CPUS.*3 workers, one CPU each, .* 2 CPUs; .* at most 2.*GENPIPE_CPUS"),
        (2, Need(gpus=1, memory=0), [{"CPU": 8.0, "GPU": 1.0}], r"GPUS.*one GPU each.*GENPIPE_DEVICE=cpu"),
        (1, Need(gpus=1, memory=0), [{"CPU": 8.0}], r"GPUS.*a cluster of 0 GPUs; expected at most 0"),
        (2, Need(memory=GB), [{"CPU": 8.0, "memory": 1.5 * GB}], r"MEMORY.*1,024 MB .* 1,536 MB of mem"),
        (2, Need(cpus=2, memory=0), [{"CPU": 3.0}], r"CPUS.*2 CPU each, .* 3 CPUs; expected at most 1"),
    ],
)  # fmt: skip
def test_what_no_node_has_is_refused_by_name(workers: int, need: Need, nodes: list, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_workers(workers, need, nodes)
    assert re.search(words, f"{caught.value.code} {caught.value}")
    check_workers(workers - 1, need, nodes)


def test_memory_follows_data_and_networks() -> None:
    """100 MB of data are there twice while they are joined; a float has 4 bytes, a network 5 copies."""
    need = need_to_train(100 * 10**6, 1_000_000, "cpu", workers=1, nodes=[{"CPU": 64.0, "memory": 64.0 * GB}])
    assert need == Need(cpus=1, gpus=0, memory=WORKER_BYTES + 200 * 10**6 + 20 * 10**6)
    assert need_to_sample(1_000_000, "cpu").memory == WORKER_BYTES + 8 * 10**6
    assert need_to_sample(1, "cuda").gpus == 1 and need_to_sample(1, "cpu").gpus == 0


def test_a_large_network_gets_several_cpus_where_every_worker_can_have_them() -> None:
    wide = [{"CPU": 8.0, "memory": 64.0 * GB}]
    assert need_to_train(0, SMALL, "cpu", workers=2, nodes=wide).cpus == SEVERAL_CPUS
    assert need_to_train(0, SMALL, "cpu", workers=3, nodes=wide).cpus == 1
    assert need_to_train(0, SMALL - 1, "cpu", workers=1, nodes=wide).cpus == 1
    assert need_to_train(0, SMALL, "cuda", workers=1, nodes=wide) == Need(
        cpus=1, gpus=1, memory=WORKER_BYTES + 20 * SMALL
    )


def test_a_worker_without_the_gpu_it_was_promised_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    check_gpu("cpu")
    words = r"promised \(CUDA_VISIBLE_DEVICES: 3\), and torch .* sees none.*CUDA image"
    with pytest.raises(InfrastructureError, match=words) as caught:
        check_gpu("cuda")
    assert caught.value.exit_code == 4
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_gpu("cuda")
