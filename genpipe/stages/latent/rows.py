"""encode, reconstruct, anomaly, compress: what a generator makes of each row of a dataset.

Each gives a row of the result for each row of the data, with its split and number, and what is measured of
all of them together in the manifest (`scores`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.bundle import Bundle
from genpipe.bundle.latent import SQUARED, decode, differences, encode, errors, records, tensors
from genpipe.dataset import Dataset
from genpipe.errors import UsageError, unknown
from genpipe.evaluation.learners import area_under_curve
from genpipe.fields import AnyField, Number
from genpipe.progress import Progress, silent
from genpipe.requests import Anomaly, Compress, Encode, Reconstruct
from genpipe.schema import Schema
from genpipe.stages.generate.shards import open_bundle
from genpipe.stages.latent.opened import Block, Opened, codes_of_block, open_rows
from genpipe.stages.latent.sizes import packed, plain
from genpipe.training.device import check_gpu

PEAK = 4.0  # (1 - -1)², the greatest squared error of a value: what decibels are told against


def encode_rows(asked: Encode, *, progress: Progress = silent) -> Dataset:
    """The code of each row, `z_0` ..., beside its split and number."""
    opened = open_rows(asked, blind=asked.blind)
    names = [f"z_{i}" for i in range(opened.bundle.family.latent)]  # type: ignore[attr-defined]
    schema = Schema(kind="tabular", fields=opened.fields(*(Number(name=name) for name in names)))

    def made() -> Iterator[pa.RecordBatch]:
        for block, z in each_block(opened, codes_of_block, asked.blind):
            columns = opened.keys(block) | {n: pa.array(z[:, i], pa.float64()) for i, n in enumerate(names)}
            yield as_batch(columns, schema)

    return opened.write(made(), schema, progress)


def reconstruct(asked: Reconstruct, *, progress: Progress = silent) -> Dataset:
    """The row that each row's code decodes to, beside how far off it is (`bundle.latent.errors`).

    Numbers of a table are the decoder's means, choices its likeliest; identifiers are made up.
    """
    opened = open_rows(asked)
    schema = decoded_schema(opened, *map(_error, error_names(opened)))
    sums: dict[str, float] = defaultdict(float)
    rows = sum(map(opened.count, opened.splits))

    def made() -> Iterator[pa.RecordBatch]:
        for block, (batch, told) in each_block(opened, _told, False, True):
            for name, each in told.items():
                sums[name] += float(each.sum())
            yield as_batch(opened.keys(block) | columns_of(batch) | _arrays(told), schema)

    return opened.write(
        made(), schema, progress, lambda: {f"mean_{name}": total / rows for name, total in sums.items()}
    )


def anomaly(asked: Anomaly, *, progress: Progress = silent) -> Dataset:
    """How unusual the generator finds each row: `anomaly`, one of its errors, by default its first metric (of
    a VAE the bound, in nats); the higher, the more unusual. The other errors stand beside it.

    The generator is not told the row's class: that counts which explains the row best, so a row needs none.
    With `planted`, the area under the ROC curve of each error is in the scores, 0.5 being chance.
    """
    opened = open_rows(asked, blind=True, columns=[asked.planted] if asked.planted else [])
    names = error_names(opened)
    chosen = asked.score or names[0]
    if chosen not in names:
        raise unknown("error", chosen, names, where="score")
    schema = Schema(kind="tabular", fields=opened.fields(Number(name="anomaly"), *map(_error, names)))
    usual = _usual(opened, asked) if asked.planted else ""
    seen: dict[str, list[np.ndarray]] = defaultdict(list)

    def made() -> Iterator[pa.RecordBatch]:
        extra = [asked.planted] if asked.planted else []
        for block, (_, told) in each_block(opened, _told, True, False, columns=extra):
            if asked.planted:
                seen["planted"].append(labels(block.batch.column(asked.planted)) != usual)
                for name in names:
                    seen[name].append(told[name].astype(np.float32))
            mine = {"anomaly": pa.array(told[chosen])} | _arrays(told)
            yield as_batch(opened.keys(block) | mine, schema)

    def found() -> dict[str, Any]:
        if not asked.planted:
            return {"score": chosen}
        every = {name: np.concatenate(parts) for name, parts in seen.items()}
        where = every.pop("planted")
        area = {f"auc_{name}": area_under_curve(where, each) for name, each in every.items()}
        return {"score": chosen, "usual": usual, "planted": int(where.sum()), "rows": len(where)} | area

    return opened.write(made(), schema, progress, found)


def _usual(opened: Opened, asked: Anomaly) -> str:
    """The value that usual rows have in the column of planted ones. Raises where that tells nothing."""
    name, counts = str(asked.planted), defaultdict[str, int](int)
    for split in opened.splits:
        for batch in opened.data.batches(split, columns=[name]):
            for value, number in zip(*np.unique(labels(batch.column(name)), return_counts=True), strict=True):
                counts[str(value)] += int(number)
            if len(counts) > 1000:
                break
    if len(counts) < 2 or len(counts) > 1000 or (asked.usual is not None and asked.usual not in counts):
        shown = ", ".join(sorted(counts)[:10])
        found = f"{len(counts)} values, {shown}" if len(counts) <= 1000 else "more than 1000 values"
        expected = f"2 or more, {asked.usual!r} among them" if asked.usual is not None else "2 to 1000"
        raise UsageError("PLANTED", where=name, found=found, expected=expected)
    return asked.usual if asked.usual is not None else max(counts, key=lambda value: counts[value])


def compress(asked: Compress, *, progress: Progress = silent) -> Dataset:
    """Rows from codes that are rounded to multiples of `step`, and what they cost. It loses: `squared_error`
    says how much of each row, and the scores of all, beside what the codes lose that are not rounded.

    bits_per_value: of the rounded codes and classes, packed block by block by DEFLATE. Beside it the same
    rows without loss: PNG, FLAC, or DEFLATE of a table or series (sizes.py). The decoder, which both sides
    need, is in `decoder_bytes` and counted nowhere else.
    """
    opened = open_rows(asked)
    schema = decoded_schema(opened, _error(SQUARED))
    total: dict[str, float] = defaultdict(float)

    def made() -> Iterator[pa.RecordBatch]:
        for block, (batch, lost, told) in each_block(opened, _compressed, asked.step):
            for name, number in told.items():
                total[name] += number
            yield as_batch(opened.keys(block) | columns_of(batch) | _arrays({SQUARED: lost}), schema)

    return opened.write(made(), schema, progress, lambda: _costs(opened, asked.step, total))


def _costs(opened: Opened, step: float, total: dict[str, float]) -> dict[str, Any]:
    bundle, rows = opened.bundle, total.pop("rows")
    values, size = total.pop("values"), total.pop("bytes")
    lossless = {name: number for name, number in total.items() if name not in ("lost", "unrounded")}
    weights = sum(
        t.nbytes for role in bundle.family.sample_roles for t in bundle.nets[role].state_dict().values()
    )
    mean = {name: total[name] / rows for name in ("lost", "unrounded")}
    return {
        "step": step,
        "bytes_per_row": size / rows,
        "bits_per_value": 8 * size / values,
        SQUARED: mean["lost"],
        f"{SQUARED}_unrounded": mean["unrounded"],
        "psnr_db": float(10 * np.log10(PEAK / max(mean["lost"], 1e-12))),
        **{f"bits_per_value_{name}": 8 * number / values for name, number in lossless.items()},
        **{f"{name}_bytes_per_row": number / rows for name, number in lossless.items()},
        "decoder_bytes": weights,
    }


def _told(
    uri: str, device: str, blind: bool, deliver: bool, block: Block
) -> tuple[pa.RecordBatch | None, dict[str, np.ndarray]]:
    check_gpu(device)
    bundle = open_bundle(uri, device)
    rows = tensors(bundle, block.batch)
    told = errors(bundle, rows, ("latent", block.split, block.start), blind=blind)
    if not deliver:
        return None, told
    x = decode(bundle, encode(bundle, rows), rows.condition)
    return records(bundle, x, rows.condition, start=block.start), told


def _compressed(
    uri: str, device: str, step: float, block: Block
) -> tuple[pa.RecordBatch, np.ndarray, dict[str, float]]:
    check_gpu(device)
    bundle = open_bundle(uri, device)
    rows = tensors(bundle, block.batch)
    z = encode(bundle, rows)
    x, exact = (decode(bundle, each, rows.condition) for each in ((z / step).round() * step, z))
    lost = differences(bundle, rows.x, x)
    name, size, values = plain(bundle, block.batch)
    told = {
        "rows": float(rows.size),
        "values": float(values),
        "bytes": float(len(packed(z.cpu().numpy(), rows.condition.cpu().numpy(), step))),
        "lost": float(lost.sum()),
        "unrounded": float(differences(bundle, rows.x, exact).sum()),
        name: float(size),
    }
    return records(bundle, x, rows.condition, start=block.start), lost, told


def each_block(
    opened: Opened, work: Any, *given: Any, columns: list[str] | None = None
) -> Iterator[tuple[Block, Any]]:
    """Each block, and what `work(uri, device, *given, block)` makes of it."""
    waiting: list[Block] = []

    def jobs() -> Iterator[tuple[Any, ...]]:
        for block in opened.blocks(columns or ()):
            waiting.append(block)
            yield (*opened.here, *given, block)

    for made in opened.run(work, jobs()):
        yield waiting.pop(0), made


def error_names(opened: Opened) -> list[str]:
    return [*opened.bundle.family.metrics, SQUARED]


def _error(name: str) -> AnyField:
    return Number(name=name)


def decoded_schema(opened: Opened, *more: AnyField) -> Schema:
    """Of decoded rows beside their keys."""
    made = opened.bundle.schema
    return Schema(kind=made.kind, fields=opened.fields(*made.fields, *more), target=made.target)


def columns_of(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def _arrays(numbers: dict[str, np.ndarray]) -> dict[str, pa.Array]:
    return {name: pa.array(each, pa.float64()) for name, each in numbers.items()}


def as_batch(columns: dict[str, pa.Array], schema: Schema) -> pa.RecordBatch:
    kinds = schema.arrow()
    return pa.RecordBatch.from_arrays([columns[name] for name in kinds.names], schema=kinds)


def labels(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(N,) values of a column as text, missing ones empty."""
    return np.asarray(pc.fill_null(column.cast(pa.string()), "").to_pylist(), dtype=object).astype(str)


def values_of(bundle: Bundle, table: pa.Table) -> np.ndarray:
    """(N, D) the rows' own values, as networks have them."""
    pieces = table.combine_chunks().to_batches(max_chunksize=bundle.block_rows)
    return np.concatenate([tensors(bundle, batch).x.float().flatten(1).cpu().numpy() for batch in pieces])
