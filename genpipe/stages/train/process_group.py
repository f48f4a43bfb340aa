"""How Ray Train's workers find each other: on one machine in a file, on a cluster through a server of rank 0.

torch's rendezvous server listens on every interface and knows no password: whoever reaches it may redirect
the ranks or stop them. A cluster's network is closed (infra/README.md); the embedded Ray's is not, so there
the ranks meet in a file inside $GENPIPE_HOME, which only its user may open.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

from genpipe.settings import Settings, make_folder
from genpipe.training.distributed import join_through_file

COLLECTIVE_SECONDS = 300


def torch_config(scratch: Path, settings: Settings) -> TorchConfig:
    """scratch: a folder of this run's own, on a disk that all workers of this machine see."""
    if settings.ray_address != "local":
        return Cluster(timeout_s=COLLECTIVE_SECONDS)
    return OneMachine(timeout_s=COLLECTIVE_SECONDS, folder=str(make_folder(scratch)))


@dataclass
class Cluster(TorchConfig):
    """torch's rendezvous; gloo where a GPU that Ray promised is not there, so that the worker can say so."""

    @property
    def backend_cls(self) -> type:
        return _ClusterBackend


class _ClusterBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_start(worker_group, replace(backend_config, backend=_backend(worker_group)))


def _backend(worker_group: Any) -> str:
    promised = worker_group.get_resources_per_worker().get("GPU", 0)
    return "nccl" if promised and all(worker_group.execute(torch.cuda.is_available)) else "gloo"


@dataclass
class OneMachine(TorchConfig):
    """A process group that opens no rendezvous port; folder: where its files lie."""

    folder: str = ""

    @property
    def backend_cls(self) -> type:
        return _FileBackend


class _FileBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        path = str(Path(backend_config.folder) / f"ranks-{uuid.uuid4().hex}")  # a restarted group meets anew
        backend, world = _backend(worker_group), len(worker_group)
        worker_group.execute(_set_torch_distributed_env_vars)
        options = {"backend": backend, "path": path, "timeout_s": backend_config.timeout_s}
        ray.get(
            [
                worker_group.execute_single_async(rank, join_through_file, rank, world, **options)
                for rank in range(world)
            ]
        )
