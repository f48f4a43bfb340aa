"""generate: exactly the rows asked for, from a registered or trained model, as a Dataset of Parquet parts.

Writes <output>/manifest.json (a Dataset, split "generated") after the parts that shards.py makes. The same
request is the same output id and the same bytes, and is done once; a job killed anywhere and started again
makes the missing parts only. Memory is one part per worker.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from genpipe import store
from genpipe.bundle import Bundle
from genpipe.dataset import Dataset, Part, commit
from genpipe.errors import InfrastructureError, UsageError
from genpipe.progress import Progress, silent
from genpipe.registry import Resolved, resolve
from genpipe.settings import read_settings
from genpipe.stages.checked import check_of, said
from genpipe.stages.generate.shards import (
    Job,
    Meter,
    Request,
    claim,
    finished_parts,
    in_process,
    on_ray,
    open_bundle,
)
from genpipe.training.device import resolve_device
from genpipe.version import __version__

BLOCKS_PER_PART, USUAL_PARTS, MAX_PARTS, MAX_NUMBER = 16, 1024, 100_000, 2**63 - 1


def generate(
    model: object,
    *,
    rows: int,
    output: str | None = None,
    conditions: Mapping[str, Any] | None = None,
    temperature: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    rows_per_part: int | None = None,
    name: str | None = None,
    tag: str = "",
    progress: Progress = silent,
) -> Dataset:
    """Generate `rows` rows and return them as a committed Dataset (split "generated").

    model: "models:/name@champion", "models:/name/3", a bundle's URI, or what `train` or `register` returned.
    output: a folder or s3:// prefix; by default <store>/generated/<name>/<output id>.
    conditions: column -> value, or {value: share}. The target, and columns the generator can be given (all,
    with recipe 'tabular_any_order'), shape the rows; others select among them. temperature: of sampling.
    workers: 0 in this process, else Ray tasks; None = one a CPU, where there is more than one part.
    tag: any text; makes an equal request another output.
    """
    settings = read_settings()
    check_numbers(rows=(rows, 1), seed=(seed, 0), workers=(workers, 0), rows_per_part=(rows_per_part, 1))
    resolved = _one(str(model))
    name = store.check_name(name or resolved.name)
    bundle = open_bundle(resolved.uri, resolve_device(settings.device), temperature)
    bundle.check_conditions(conditions)
    bundle.codec.check_rows(rows)
    request = Request(
        model=resolved.reference,
        bundle=bundle.fingerprint,
        dataset=str(bundle.origin.get("dataset_fingerprint", "")),
        rows=rows,
        rows_per_part=rows_per_part or part_rows(rows, bundle),
        seed=seed,
        conditions=plain(conditions or {}),
        temperature=temperature,
        device=bundle.device,
        code=__version__,
        tag=tag,
        check=check_of(resolved, bundle.fingerprint),
    )
    check_parts(request.num_parts)
    output = (output or store.join(settings.store, "generated", name, request.output_id)).rstrip("/")
    job = Job(resolved.uri, output, request)
    parts = {} if claim(output, request.model_dump()) else finished_parts(job)
    if len(parts) == request.num_parts and Dataset.exists(output):
        return said(Dataset(output), progress, note="already made")
    todo = [index for index in range(request.num_parts) if index not in parts]
    meter = Meter(progress, total=rows, done=sum(part.rows for part in parts.values()))
    workers = (settings.cpus if request.num_parts > 1 else 0) if workers is None else workers
    made = on_ray(job, todo, workers, meter, settings) if workers else in_process(job, todo, bundle, meter)
    for index, part in made:
        parts[index] = part
        check_space(output, parts.values(), rows=rows)
    about = {"stage": "generate", "output_id": request.output_id, **request.model_dump()}
    made_of = list(parts.values())
    return said(commit(output, name=name, schema=bundle.schema, parts=made_of, origin=about), progress)


def _one(model: str) -> Resolved:
    resolved = resolve(model)
    if resolved.tables:
        found, fix = "a set of related tables", f"genpipe generate-tables {model}"
        raise UsageError("TABLES", where=model, found=found, expected="one generator", fix=fix)
    return resolved


def part_rows(rows: int, bundle: Bundle) -> int:
    """Rows of a part where the user does not say: some blocks, more of them in a very large job."""
    blocks = -(-rows // bundle.block_rows)
    return bundle.block_rows * max(BLOCKS_PER_PART, -(-blocks // USUAL_PARTS))


def check_numbers(**limits: tuple[int | None, int]) -> None:
    """Each `name=(value, smallest)` is a whole number in range, or None."""
    for what, (value, smallest) in limits.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and smallest <= value <= MAX_NUMBER):
            expected = f"a whole number from {smallest} to {MAX_NUMBER}"
            raise UsageError("NUMBER", where=what, found=repr(value), expected=expected)


def plain(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions as JSON has them: dates, times and numpy's numbers as text or numbers."""

    def value(v: Any) -> Any:
        v = v.item() if hasattr(v, "item") else v
        return v if v is None or isinstance(v, str | int | float | bool) else str(v)

    return {
        name: {value(k): share for k, share in v.items()} if isinstance(v, Mapping) else value(v)
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
