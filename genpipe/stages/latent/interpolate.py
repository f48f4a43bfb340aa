"""interpolate: rows of the codes on the way from one code to another.

W ways · Z numbers of a code · K condition fields
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch

from genpipe.bundle import Bundle
from genpipe.bundle.conditions import parse_conditions
from genpipe.bundle.latent import as_tensor, decode, prior, records, tensors
from genpipe.dataset import Dataset
from genpipe.draws import Draws
from genpipe.errors import UsageError
from genpipe.evaluation.page.strips import write_strip
from genpipe.fields import AnyField, Integer, Number
from genpipe.progress import Progress, silent
from genpipe.requests import Interpolate
from genpipe.schema import Schema
from genpipe.seeds import numpy_rng
from genpipe.stages.generate.shards import open_bundle
from genpipe.stages.latent.opened import Opened, distinct, open_model, splits_of
from genpipe.stages.latent.rows import as_batch, columns_of
from genpipe.training.device import check_gpu

SHOWN = 10  # ways of a strip
PARALLEL = 1e-4  # sine of an angle below which two codes point the same way


def interpolate(asked: Interpolate, *, progress: Progress = silent) -> Dataset:
    """Rows on the way between the codes of two rows, or of codes that the generator draws.

    spherical: codes of many numbers have nearly equal lengths, and a straight way cuts through the middle of
    the ball, where there are none; the way round keeps the length (White 2016, arXiv:1609.04468, section
    2.1). linear: the straight way, for codes that are not spread around the origin. The first half of a way
    is of the class of its first end, the second of that of the other.
    """
    own = asked.between is not None
    opened = open_model(asked, of_rows=own)
    bundle = opened.bundle
    more: tuple[AnyField, ...] = (Integer(name="way"), Integer(name="step"), Number(name="share"))
    fields = distinct((*more, *bundle.schema.fields))
    schema = Schema(kind=bundle.schema.kind, fields=fields, target=bundle.schema.target)
    shares = np.linspace(0.0, 1.0, asked.steps)
    ways = 1 if own else asked.ways
    _check(asked)

    def made() -> Iterator[pa.RecordBatch]:
        ends, conditions = _ends_of_rows(opened, asked) if own else _drawn_ends(bundle, asked)
        size = max(1, bundle.block_rows // asked.steps)
        for way in range(0, ways, size):
            a, b = ends[0][way : way + size], ends[1][way : way + size]
            z = np.stack([between(a, b, t, asked.path) for t in shares], 1).reshape(-1, a.shape[1])
            side = np.repeat([conditions[int(t > 0.5)][way : way + size] for t in shares], 1, 0)
            condition = np.stack(list(side), 1).reshape(len(z), -1)
            batch = next(opened.run(_decoded, [(*opened.here, z, condition, way * asked.steps)]))
            columns = {
                "way": pa.array(np.repeat(np.arange(way, way + len(a)), asked.steps)),
                "step": pa.array(np.tile(np.arange(asked.steps), len(a))),
                "share": pa.array(np.tile(shares, len(a))),
            }
            yield as_batch(columns | columns_of(batch), schema)

    done = opened.write(made(), schema, progress, lambda: {"path": asked.path}, rows=ways * asked.steps)
    if asked.strip:
        first = next(done.batches("generated", rows=SHOWN * asked.steps)).select(list(bundle.schema.names))
        lines = [first.slice(i, asked.steps) for i in range(0, first.num_rows, asked.steps)]
        write_strip([pa.Table.from_batches([line]) for line in lines], bundle.schema, asked.strip)
    return done


def _check(asked: Interpolate) -> None:
    if asked.between is not None and (len(asked.between) != 2 or asked.dataset is None):
        found = f"{len(asked.between)} rows" + ("" if asked.dataset else " of no dataset")
        raise UsageError(
            "BETWEEN", where="between", found=found, expected="two rows, and the dataset they are in"
        )
    if asked.between is None and (asked.dataset or asked.split):
        found, fix = "a dataset without rows of it", "say between which rows, or leave the dataset out"
        raise UsageError("BETWEEN", where="dataset", found=found, fix=fix)
    if asked.between is not None and (asked.conditions or asked.ways > 1):
        found, fix = "classes or ways to draw beside two rows", "leave them out"
        raise UsageError("BETWEEN", where="between", found=found, fix=fix)


def between(a: np.ndarray, b: np.ndarray, share: float, path: str) -> np.ndarray:
    """(W, Z) codes `share` of the way from a to b, both (W, Z).

    spherical: the direction turns evenly (slerp: Shoemake 1985) and the length grows evenly.
    """
    straight: np.ndarray = (1 - share) * a + share * b
    if path == "linear":
        return straight
    length = [np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12) for z in (a, b)]
    one, other = a / length[0], b / length[1]
    angle = np.arccos(np.clip((one * other).sum(1, keepdims=True), -1.0, 1.0))
    turn = np.sin(angle)
    with np.errstate(divide="ignore", invalid="ignore"):
        direction = (np.sin((1 - share) * angle) * one + np.sin(share * angle) * other) / turn
    bent = direction * ((1 - share) * length[0] + share * length[1])
    return np.where(turn < PARALLEL, straight, bent).astype(a.dtype)


Ends = tuple[list[np.ndarray], list[np.ndarray]]  # codes (W, Z) and classes (W, K) of both ends


def _ends_of_rows(opened: Opened, asked: Interpolate) -> Ends:
    assert asked.between is not None
    split = splits_of(opened.data, asked.split)[0]
    count = opened.data.rows(split)
    for row in asked.between:
        if not 0 <= row < count:
            expected = f"0 to {count - 1} of split {split!r}"
            raise UsageError("BETWEEN", where="between", found=f"row {row}", expected=expected)
    codes, classes = [], []
    for row in asked.between:
        table = opened.data.rows_at(split, np.array([row]))
        codes.append(opened.codes(table, blind=False))
        rows = tensors(opened.bundle, table.combine_chunks().to_batches()[0])
        classes.append(rows.condition.cpu().numpy())
    return codes, classes


def _drawn_ends(bundle: Bundle, asked: Interpolate) -> Ends:
    wanted = parse_conditions(bundle.codec, asked.conditions, "none")
    if wanted.filters:
        found = f"a condition on {', '.join(wanted.filters)}"
        expected = f"the target, {', '.join(bundle.schema.conditions) or 'of which there is none'}"
        raise UsageError("CONDITION", where="conditions", found=found, expected=expected)
    rng = numpy_rng(asked.seed, "interpolate", "classes")
    if wanted.classes:
        told = wanted.conditions(bundle.codec, asked.ways, rng)
    else:
        told = bundle.codec.draw_conditions(asked.ways, rng)
    condition = torch.from_numpy(np.ascontiguousarray(told)).long().to(bundle.device)
    draws = Draws(asked.seed, "interpolate", total=asked.ways, device=bundle.device)
    codes = [prior(bundle, condition, draws).cpu().numpy() for _ in range(2)]
    return codes, [told, told]


def _decoded(uri: str, device: str, z: np.ndarray, condition: np.ndarray, start: int) -> pa.RecordBatch:
    check_gpu(device)
    bundle = open_bundle(uri, device)
    told = as_tensor(condition, bundle).long()
    return records(bundle, decode(bundle, as_tensor(z, bundle), told), told, start=start)
