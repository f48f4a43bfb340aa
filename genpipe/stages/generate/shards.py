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
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.sampling import Sampling
from genpipe.codecs.base import LEAST
from genpipe.dataset import Part, new_attempt, write_part
from genpipe.errors import ConflictError, DataError
from genpipe.progress import Event, Progress
from genpipe.requests import Generate
from genpipe.stages.cluster import errors_of_tasks, first_ready
from genpipe.stages.generate.copies import NoCopies, learnt_runs
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
    top_k: int | None = None
    top_p: float | None = None
    no_repeat: int | None = None
    no_copies: int | None = None
    device: str
    code: str
    tag: str
    check: str = ""
    learnt: str = ""

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Nothing said is nothing written: the id of such a request is as it always was."""
        return {k: v for k, v in dump(self).items() if v or k not in {"check", "learnt", *Generate.later}}

    @property
    def sampling(self) -> Sampling:
        return Sampling.of(self)

    @property
    def output_id(self) -> str:
        return store.digest(self.model_dump())

    @property
    def num_parts(self) -> int:
        return -(-self.rows // self.rows_per_part)


@dataclass(frozen=True)
class GenerationJob:
    """What a worker is sent: references and the request, never a model. output: where parts are made. learnt:
    the dataset whose texts must not be copied, where the request says so.
    """

    bundle: str
    output: str
    request: Request
    learnt: str = ""

    def record(self, index: int) -> str:
        return store.join(self.output, "shards", f"{index:05d}.json")

    def rows(self, index: int) -> tuple[int, int]:
        start = index * self.request.rows_per_part
        return start, min(self.request.rows, start + self.request.rows_per_part)


class Made(Part):
    """A part, and how many rows were drawn again because they copied."""

    redrawn: int = Field(default=0, ge=0, exclude_if=lambda rows: rows == 0)

    @property
    def part(self) -> Part:
        return Part(**self.model_dump(exclude={"redrawn"}))


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
def open_bundle(uri: str, device: str, sampling: Sampling = Sampling()) -> Bundle:  # noqa: B008
    """Fetched, verified and built once per worker process; a finished bundle never changes."""
    return Bundle.open(uri, device=device, sampling=sampling)


def make_part(
    job: GenerationJob, index: int, bundle: Bundle | None = None, meter: Meter | None = None
) -> Made:
    """Generate, write and record one part."""
    request = job.request
    check_gpu(request.device)
    bundle = bundle or open_bundle(job.bundle, request.device, request.sampling)
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
        **{k: json.dumps(getattr(request, k)) for k in sorted(Generate.later) if getattr(request, k)},
        "code": request.code,
        **({"check": request.check} if request.check else {}),
        **({"learnt": request.learnt} if request.learnt else {}),
    }
    earlier = _read_record(job, index)  # of a part that was lost or damaged since: made again in its place
    test = no_copies(job, bundle) if request.no_copies else None
    part = write_part(
        job.output,
        _row_groups(bundle, request, start, stop, meter, test),
        split="generated",
        name=f"generated-{index:05d}",
        attempt=earlier.path.split("/")[1] if earlier else new_attempt(),
        lineage=lineage,
    )
    made = Made(**part.model_dump(), redrawn=test.dropped if test else 0)
    try:
        store.create(job.record(index), made.model_dump_json().encode())
    except ConflictError:
        return _read_record(job, index) or made
    return made


def no_copies(job: GenerationJob, bundle: Bundle) -> NoCopies:
    """The test of a job that says so."""
    request, begins = job.request, bundle.check_conditions(job.request.conditions).begins
    assert request.no_copies
    least = bundle.recipe.codec.rare_below or LEAST
    keys = learnt_runs(job.learnt, request.dataset, request.no_copies, least)
    prompts = begins.prompts.values.to_pylist() if begins and begins.prompts else []
    return NoCopies(bundle.schema.of_kind("text")[0].name, request.no_copies, keys, prompts)


def _row_groups(
    bundle: Bundle, request: Request, start: int, stop: int, meter: Meter | None, test: NoCopies | None
) -> Iterator[pa.Table]:
    """The part's rows in row groups of some blocks; of a finished group only the compressed form is held."""
    held: list[pa.RecordBatch] = []
    made = bundle.batches(
        stop - start, seed=request.seed, start=start, conditions=request.conditions, test=test
    )
    for batch in made:
        held.append(batch)
        if meter:
            meter.add(batch.num_rows)
        if len(held) == BLOCKS_PER_GROUP or sum(b.num_rows for b in held) >= ROWS_PER_GROUP:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def finished_parts(job: GenerationJob) -> dict[int, Made]:
    """Parts an earlier try recorded and whose file is there, whole."""

    def check(index: int) -> Made | None:
        part = _read_record(job, index)
        return part if part and store.size(store.join(job.output, part.path)) == part.bytes else None

    with ThreadPoolExecutor(8) as pool:
        found = pool.map(check, range(job.request.num_parts))
        return {index: part for index, part in enumerate(found) if part}


def _read_record(job: GenerationJob, index: int) -> Made | None:
    try:
        return Made.model_validate_json(store.read_bytes(job.record(index)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        found, fix = str(error).splitlines()[0], "delete this file and run the same command again"
        raise DataError("RECORD", where=job.record(index), found=found, fix=fix) from error


def in_process(
    job: GenerationJob, todo: Sequence[int], bundle: Bundle, meter: Meter
) -> Iterator[tuple[int, Made]]:
    for index in todo:
        yield index, make_part(job, index, bundle, meter)


def on_ray(
    job: GenerationJob, todo: Sequence[int], workers: int, need: Need, meter: Meter
) -> Iterator[tuple[int, Made]]:
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
