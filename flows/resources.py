"""From the size of the data and of the cluster to a number of workers: one pure function.

Small models on small data are slower on several workers than on one (every step waits for the slowest), so a
worker must have enough rows to be worth its start. GPUs come first where there are any.
"""

from __future__ import annotations

from collections.abc import Mapping

ROWS_PER_CPU_WORKER = 200_000
ROWS_PER_GPU_WORKER = 50_000
MOST_WORKERS = 16


def suitable_workers(rows: int, cluster: Mapping[str, float], *, device: str = "auto") -> int:
    """How many workers `rows` training rows are worth; 0: the calling process. device: what is wished."""
    cpus, gpus = int(cluster.get("CPU", 0)), int(cluster.get("GPU", 0)) if device != "cpu" else 0
    if gpus:
        return max(1, min(gpus, cpus, MOST_WORKERS, -(-rows // ROWS_PER_GPU_WORKER)))
    workers = min(cpus - 1, MOST_WORKERS, rows // ROWS_PER_CPU_WORKER)
    return workers if workers >= 2 else 0
