"""generate: exactly the rows asked for, from a registered or trained model, as a Dataset of Parquet parts.

Writes <output>/ (a Dataset, split "generated") of the parts that shards.py makes, see delivery.py. The same
request is the same output id and the same bytes, and is done once; a job killed anywhere and started again
makes the missing parts only. Memory is one part per worker.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.bundle.sampling import Sampling
from genpipe.dataset import Dataset, Part
from genpipe.delivery import begin, deliver
from genpipe.errors import InfrastructureError, UsageError
from genpipe.progress import Progress, silent
from genpipe.registry import Resolved, resolve
from genpipe.requests import Generate
from genpipe.settings import read_settings
from genpipe.stages.checked import check_of, said
from genpipe.stages.cluster import connect, where_to_draw
from genpipe.stages.generate.copies import check_no_copies
from genpipe.stages.generate.shards import (
    GenerationJob,
    Meter,
    Request,
    finished_parts,
    in_process,
    on_ray,
    open_bundle,
)
from genpipe.stages.placement import check_workers, need_to_sample, nodes, room
from genpipe.stages.trained_on import dataset_of
from genpipe.training.device import parameters
from genpipe.version import __version__

BLOCKS_PER_PART, USUAL_PARTS, MAX_PARTS = 16, 1024, 100_000


def generate(asked: Generate, *, progress: Progress = silent) -> Dataset:
    """Generate rows and return them as a committed Dataset (split "generated").

    The target, and columns the generator can be given (all, with recipe 'tabular_any_order'), shape the rows
    by `conditions`; others select among them. By default there is a Ray worker a CPU or a GPU where there is
    more than one part or only the cluster has a GPU, and the output is <store>/generated/<name>/<output id>.
    """
    settings, rows = read_settings(), asked.rows
    resolved = resolve(asked.model)
    name = store.check_name(asked.name or resolved.name)
    device, remote = where_to_draw(settings, asked.workers)
    bundle = open_bundle(resolved.uri, device, Sampling.of(asked))
    if not isinstance(rows, int):
        found = "missing" if rows is None else "rows of tables"
        raise UsageError("ROWS", where="rows", found=found, expected="a number", fix="say how many (--rows)")
    bundle.check_conditions(asked.conditions)
    learnt = _learnt(asked, bundle)
    bundle.codec.check_rows(rows)
    request = _request(asked, rows, resolved, bundle)
    check_parts(request.num_parts)
    output = (asked.output or store.join(settings.store, "generated", name, request.output_id)).rstrip("/")
    begun = begin(output, request.model_dump())
    if begun.made is not None:
        return said(begun.made, progress, note="already made")
    job = GenerationJob(resolved.uri, begun.work, request, learnt)
    parts = {} if begun.fresh else finished_parts(job)
    if len(parts) == request.num_parts and Dataset.exists(output):
        return said(Dataset(output), progress, note="already made")
    todo = [index for index in range(request.num_parts) if index not in parts]
    meter = Meter(progress, total=rows, done=sum(part.rows for part in parts.values()))
    on_workers = (remote or request.num_parts > 1) if asked.workers is None else asked.workers > 0
    if on_workers and todo:
        connect(settings)
        need, there = need_to_sample(parameters(bundle.family), device), nodes()
        check_workers(1, need, there)
        made = on_ray(job, todo, asked.workers or room(need, there), need, meter)
    else:
        made = in_process(job, todo, bundle, meter)
    try:
        for index, part in made:
            parts[index] = part
            check_space(begun.work, parts.values(), rows=rows)
    except (FileNotFoundError, InfrastructureError):
        # another process with the same request was first, and has cleared away
        begun = begin(output, request.model_dump())
        if begun.made is None:
            raise
        return said(begun.made, progress, note="made by another process")
    about = {"stage": "generate", "output_id": request.output_id, **request.model_dump()}
    if redrawn := sum(part.redrawn for part in parts.values()):
        about["redrawn"] = redrawn
    made_of = [part.part for part in parts.values()]
    done = deliver(begun.work, output, name=name, schema=bundle.schema, parts=made_of, origin=about)
    return said(done, progress)


def _learnt(asked: Generate, bundle: Bundle) -> str:
    """The dataset whose texts must not be copied, if it is asked for. Raises where it is not at hand."""
    if asked.no_copies is None:
        return ""
    check_no_copies(asked.no_copies, bundle.schema.kind)
    if "from" in bundle.origin:
        found = f"a model that went on from {bundle.origin['from']}, whose texts it has learnt, too"
        fix = "leave it out, or train a model of one dataset"
        raise UsageError(
            "NOCOPIES", where="no_copies", found=found, expected="one that learnt one dataset", fix=fix
        )
    return dataset_of(bundle)[0].uri


def _request(asked: Generate, rows: int, resolved: Resolved, bundle: Bundle) -> Request:
    given = asked.identity() | {
        "rows_per_part": asked.rows_per_part or part_rows(rows, bundle),
        "conditions": plain(asked.conditions or {}),
    }
    return Request(
        **given,
        model=resolved.reference,
        bundle=bundle.fingerprint,
        dataset=str(bundle.origin.get("dataset_fingerprint", "")),
        device=bundle.device,
        code=__version__,
        check=check_of(resolved, bundle.fingerprint),
        learnt=bundle.learnt,
    )


def part_rows(rows: int, bundle: Bundle) -> int:
    """Rows of a part where the user does not say: some blocks, more of them in a very large job."""
    blocks = -(-rows // bundle.block_rows)
    return bundle.block_rows * max(BLOCKS_PER_PART, -(-blocks // USUAL_PARTS))


def plain(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions as JSON has them: dates, times and numpy's numbers as text or numbers."""

    def value(v: Any) -> Any:
        v = v.item() if hasattr(v, "item") else v
        if isinstance(v, list | tuple):  # steps of a history
            return [value(each) for each in v]
        return v if v is None or isinstance(v, str | int | float | bool) else str(v)

    return {
        name: {value(k): value(share) for k, share in v.items()} if isinstance(v, Mapping) else value(v)
        for name, v in conditions.items()
    }


def check_parts(number: int) -> None:
    if number > MAX_PARTS:
        found, fix = f"{number} parts", "raise rows_per_part"
        raise UsageError("PARTS", found=found, expected=f"at most {MAX_PARTS}", fix=fix)


def check_space(output: str, parts: Iterable[Part], *, rows: int) -> None:
    """Stop between two parts, with figures, rather than in the middle of one when the disk is full."""
    if store.scheme_of(output) != "file":
        return
    done, size = map(sum, zip(*((part.rows, part.bytes) for part in parts), strict=True))
    needed, free = size * (rows - done) // done, shutil.disk_usage(store.path_of(output)).free
    if needed > free:
        raise InfrastructureError(
            "DISK",
            where=output,
            found=f"{free / 1e6:.0f} MB free",
            expected=f"{needed / 1e6:.0f} MB for the rows to come",
            fix="free some space and run the same command again: finished parts are kept",
        )
