"""From the size of the data and of the cluster to workers, CPUs and GPUs: one pure function.

Small models on small data are slower on several workers than on one (every step waits for the slowest), so a
worker must have enough rows to be worth its start. GPUs come first where there are any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from genpipe.errors import UsageError

ROWS_PER_CPU_WORKER = 200_000
ROWS_PER_GPU_WORKER = 50_000
MOST_WORKERS = 16


@dataclass(frozen=True)
class Resources:
    """workers: 0 = in the calling process. cpus, gpus: of each worker."""

    workers: int
    cpus: float
    gpus: float
    reason: str


def plan(*, rows: int, cluster: Mapping[str, float], asked: int | None = None) -> Resources:
    """Resources for training on `rows` rows. asked: a number of workers the user insists on.

    Raises UsageError where the cluster cannot hold what was asked, instead of waiting for it for ever.
    """
    if rows < 0:
        raise UsageError("ROWS", where="rows", found=str(rows), expected="0 or more")
    cpus, gpus = int(cluster.get("CPU", 0)), int(cluster.get("GPU", 0))
    if asked is not None:
        if asked > cpus:
            raise UsageError(
                "WORKERS",
                where="train.workers",
                found=f"{asked} workers of 1 CPU each",
                expected=f"at most the {cpus} CPUs of the cluster",
                fix="ask for fewer workers, or set RAY_ADDRESS to a larger cluster",
            )
        return Resources(asked, 1.0, 1.0 if 0 < asked <= gpus else 0.0, "as asked")
    if gpus:
        workers = max(1, min(gpus, MOST_WORKERS, -(-rows // ROWS_PER_GPU_WORKER)))
        return Resources(workers, 1.0, 1.0, f"{workers} of {gpus} GPUs for {rows:,} rows")
    workers = min(cpus - 1, MOST_WORKERS, rows // ROWS_PER_CPU_WORKER)
    if workers < 2:
        return Resources(0, 1.0, 0.0, f"{rows:,} rows on {cpus} CPUs: one process is fastest")
    return Resources(workers, 1.0, 0.0, f"{workers} of {cpus} CPUs for {rows:,} rows")
