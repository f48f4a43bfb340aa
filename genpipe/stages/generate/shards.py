"""The parts of a generation job: cut by row ranges, made anywhere, recorded once.

    <work>/request.json                    what was asked; created first, it claims the output
    <work>/shards/00000.json               one record a finished part: path, rows, bytes, sha256
    <work>/data/<attempt>/generated-00000.parquet

<work> is beside the output and becomes it when all parts are there (genpipe/delivery.py).

A part is a fixed range of rows made of fixed blocks with seeds of their own, so its bytes depend on the
request alone: not on workers, retries or order. Records are conditional creates: of two tries of one part
the first recorded counts, and both hold the same bytes.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Part, new_attempt, write_part
from genpipe.errors import ConflictError, DataError
from genpipe.progress import Event, Progress
from genpipe.stages.cluster import errors_of_tasks, first_ready
from genpipe.stages.heartbeat import heard, watched
from genpipe.stages.placement import Need
from genpipe.training.device import check_gpu

BLOCKS_PER_GROUP, ROWS_PER_GROUP = 16, 16_384


class Request(BaseModel):
    """Everything the bytes depend on. model: a registered version or a run; bundle, dataset: fingerprints.
    check: what is to be said of a generator of which no evaluation passed (checked.py). learnt: of one that
    learnt all rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    bundle: str
    dataset: str
    rows: int
    rows_per_part: int
    seed: int
    conditions: dict[str, Any]
    temperature: float | None
    device: str
    code: str
    tag: str
    check: str = ""
    learnt: str = ""

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Nothing said is nothing written: the id of such a request is as it always was."""
        return {k: v for k, v in dump(self).items() if v or k not in ("check", "learnt")}

    @property
    def output_id(self) -> str:
        return store.digest(self.model_dump())

    @property
    def num_parts(self) -> int:
        return -(-self.rows // self.rows_per_part)


@dataclass(frozen=True)
class GenerationJob:
    """What a worker is sent: references and the request, never a model. output: where parts are made."""

    bundle: str
    output: str
    request: Request

    def record(self, index: int) -> str:
        return store.join(self.output, "shards", f"{index:05d}.json")

    def rows(self, index: int) -> tuple[int, int]:
        start = index * self.request.rows_per_part
        return start, min(self.request.rows, start + self.request.rows_per_part)


class Meter:
    """Rows so far, and rows per second of this run, to whoever listens."""

    def __init__(self, progress: Progress, *, total: int, done: int) -> None:
        self.progress, self.total, self.before, self.done = progress, total, done, done
        self.began = time.monotonic()

    def add(self, rows: int) -> None:
        self.done += rows
        rate = (self.done - self.before) / max(1e-9, time.monotonic() - self.began)
        event = Event("generate", done=self.done, total=self.total, unit="rows", metrics={"rows/s": rate})
        self.progress(event)


@lru_cache(maxsize=8)
def open_bundle(uri: str, device: str, temperature: float | None = None) -> Bundle:
    """Fetched, verified and built once per worker process; a finished bundle never changes."""
    return Bundle.open(uri, device=device, temperature=temperature)


def make_part(
    job: GenerationJob, index: int, bundle: Bundle | None = None, meter: Meter | None = None
) -> Part:
    """Generate, write and record one part."""
    request = job.request
    check_gpu(request.device)
    bundle = bundle or open_bundle(job.bundle, request.device, request.temperature)
    if bundle.fingerprint != request.bundle:
        found, fix = "another model than the job began with", "run the same command again"
        raise DataError("BUNDLE", where=job.bundle, found=found, fix=fix)
    start, stop = job.rows(index)
    lineage = {
        "output_id": request.output_id,
        "model": request.model,
        "model_fingerprint": request.bundle,
        "dataset_fingerprint": request.dataset,
        "seed": str(request.seed),
        "rows": f"{start}:{stop}",
        "blocks": f"{start // bundle.block_rows}:{-(-stop // bundle.block_rows)}",
        "conditions": json.dumps(request.conditions, sort_keys=True),
        "temperature": json.dumps(request.temperature),
        "code": request.code,
        **({"check": request.check} if request.check else {}),
        **({"learnt": request.learnt} if request.learnt else {}),
    }
    earlier = _read_record(job, index)  # of a part that was lost or damaged since: made again in its place
    part = write_part(
        job.output,
        _row_groups(bundle, request, start, stop, meter),
        split="generated",
        name=f"generated-{index:05d}",
        attempt=earlier.path.split("/")[1] if earlier else new_attempt(),
        lineage=lineage,
    )
    try:
        store.create(job.record(index), part.model_dump_json().encode())
    except ConflictError:
        return _read_record(job, index) or part
    return part


def _row_groups(
    bundle: Bundle, request: Request, start: int, stop: int, meter: Meter | None
) -> Iterator[pa.Table]:
    """The part's rows in row groups of some blocks; of a finished group only the compressed form is held."""
    held: list[pa.RecordBatch] = []
    for batch in bundle.batches(stop - start, seed=request.seed, start=start, conditions=request.conditions):
        held.append(batch)
        if meter:
            meter.add(batch.num_rows)
        if len(held) == BLOCKS_PER_GROUP or sum(b.num_rows for b in held) >= ROWS_PER_GROUP:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def finished_parts(job: GenerationJob) -> dict[int, Part]:
    """Parts an earlier try recorded and whose file is there, whole."""

    def check(index: int) -> Part | None:
        part = _read_record(job, index)
        return part if part and store.size(store.join(job.output, part.path)) == part.bytes else None

    with ThreadPoolExecutor(8) as pool:
        found = pool.map(check, range(job.request.num_parts))
        return {index: part for index, part in enumerate(found) if part}


def _read_record(job: GenerationJob, index: int) -> Part | None:
    try:
        return Part.model_validate_json(store.read_bytes(job.record(index)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        found, fix = str(error).splitlines()[0], "delete this file and run the same command again"
        raise DataError("RECORD", where=job.record(index), found=found, fix=fix) from error


def in_process(
    job: GenerationJob, todo: Sequence[int], bundle: Bundle, meter: Meter
) -> Iterator[tuple[int, Part]]:
    for index in todo:
        yield index, make_part(job, index, bundle, meter)


def on_ray(
    job: GenerationJob, todo: Sequence[int], workers: int, need: Need, meter: Meter
) -> Iterator[tuple[int, Part]]:
    """Parts as Ray tasks, `workers` of them at a time; Ray runs a task again when its worker dies."""
    import ray

    board = uuid.uuid4().hex
    task = ray.remote(max_retries=3, max_calls=0, **need.options)(heard(make_part, board))
    waiting = list(reversed(todo))
    running: dict[Any, int] = {}
    with watched(board), errors_of_tasks("generate"):
        while waiting or running:
            while waiting and len(running) < workers:
                index = waiting.pop()
                running[task.remote(job, index)] = index
            part = ray.get(ready := first_ready(list(running)))
            meter.add(part.rows)
            yield running.pop(ready), part
    # What still runs is left to finish, a part a worker at most: ray.cancel of a task that is just ending
    # aborts the driver in Ray 2.60 ("task that was not pending").
