"""What a report shows of a latent space: codes drawn from it, where held-out rows lie, decoded walks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from genpipe.bundle import Bundle
from genpipe.bundle.latent import as_tensor, decode, encode, has_encoder, prior, records, tensors
from genpipe.draws import Draws
from genpipe.evaluation.base import one_thread, subset
from genpipe.evaluation.page.crowd import whose
from genpipe.evaluation.page.latent import LatentView
from genpipe.families.base import Latent
from genpipe.seeds import numpy_rng

DRAWN, HELD = 1000, 5000  # codes drawn, held-out rows
WALKS, REACH, STEPS = 4, 2.0, 7  # directions; standard deviations to either side, in so many steps
FEWEST = 20  # codes of classes whose own spread is known


def latent_view(bundle: Bundle, holdout: pa.Table, seed: int) -> LatentView | None:
    """None for a family without codes."""
    if not isinstance(bundle.family, Latent):
        return None
    told = bundle.codec.draw_conditions(DRAWN, numpy_rng(seed, "latent map", "classes"))
    condition = as_tensor(told, bundle).long()
    rng = Draws(seed, "latent map", total=DRAWN, device=bundle.device)
    codes = prior(bundle, condition, rng).cpu().numpy().astype(np.float64)
    middle = codes.mean(0)
    with one_thread():
        wide, directions = np.linalg.svd(codes - middle, full_matrices=False)[1:]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    directions = directions * np.sign(largest)  # else their sign is chance
    variance = wide**2
    plane = directions[:2] if len(directions) > 1 else np.vstack([directions, np.zeros_like(directions)])
    share = np.append(variance / max(variance.sum(), 1e-12), 0.0)
    held = _held(bundle, subset(holdout, HELD, seed))
    classes, walked = _names(bundle, told), _commonest(told)
    return LatentView(
        drawn=(codes - middle) @ plane.T,
        classes=classes,
        shares=(float(share[0]), float(share[1])),
        held=None if held is None else (held - middle) @ plane.T,
        who=None if held is None else whose(subset(holdout, HELD, seed), bundle.schema),
        walks=_walks(bundle, codes, told, directions),
        at=np.linspace(-REACH, REACH, STEPS),
        told="" if classes is None else str(classes[walked]),
    )


def _held(bundle: Bundle, holdout: pa.Table) -> np.ndarray | None:
    """(M, Z) codes of held-out rows."""
    if not has_encoder(bundle):
        return None
    pieces = holdout.combine_chunks().to_batches(max_chunksize=bundle.block_rows)
    found = [encode(bundle, tensors(bundle, batch)).cpu().numpy() for batch in pieces]
    return np.concatenate(found).astype(np.float64)


def _names(bundle: Bundle, told: np.ndarray) -> np.ndarray | None:
    table = bundle.codec.conditions
    if not table.names:
        return None
    column = table.columns(bundle.schema, told)[table.names[0]].cast(pa.string())
    return np.asarray(column.fill_null("").to_pylist()).astype(str)


def _commonest(told: np.ndarray) -> int:
    """The place of a code of the commonest classes."""
    cells, inverse, counts = np.unique(told, axis=0, return_inverse=True, return_counts=True)
    return int(np.flatnonzero(inverse.ravel() == counts.argmax())[0]) if len(cells) else 0


def _walks(bundle: Bundle, codes: np.ndarray, told: np.ndarray, directions: np.ndarray) -> list[pa.Table]:
    """Decoded rows along each main direction, from the mean code of the commonest classes, as far as their
    codes vary along it.
    """
    first = _commonest(told)
    mine = codes[(told == told[first]).all(1)]
    steps, made = np.linspace(-REACH, REACH, STEPS), []
    for direction in directions[:WALKS]:
        wide = ((mine if len(mine) >= FEWEST else codes) @ direction).std()
        z = as_tensor((mine.mean(0) + steps[:, None] * wide * direction).astype(np.float32), bundle)
        condition = torch.from_numpy(told[first].astype(np.int64)).to(bundle.device).expand(STEPS, -1)
        made.append(pa.Table.from_batches([records(bundle, decode(bundle, z, condition), condition)]))
    return made
