"""A generator's codes of rows, and rows of codes: what jobs on the latent space and reports are made of.

    B rows · Z numbers of a code · K condition fields · C combinations of classes

Decoding draws nothing (`Middle`): rows are the decoder's means and likeliest choices, so that two rows differ
by their codes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from genpipe.batch import Batch, to_arrays, to_batch
from genpipe.bundle.generator import Bundle
from genpipe.draws import Draws, Middle, one_thread
from genpipe.errors import QualityError, UsageError
from genpipe.families.base import Family, Latent
from genpipe.recipe import FAMILIES
from genpipe.recipes.starting import RECIPES
from genpipe.seeds import numpy_rng

MOST_CELLS = 32  # combinations of classes that are tried, the commonest first
SQUARED = "squared_error"
Errors = dict[str, np.ndarray]


def latent_family(bundle: Bundle) -> Latent:
    """The bundle's family, if it has codes. Raises a UsageError that names those that have."""
    if isinstance(bundle.family, Latent):
        return bundle.family
    able = sorted(name for name, family in FAMILIES.items() if hasattr(family, "encode"))
    every = {name: build() for name, build in RECIPES.items()}
    names = [n for n, r in every.items() if r.family.family in able and r.kind == bundle.schema.kind]
    raise UsageError(
        "NOLATENT",
        where=bundle.uri,
        found=f"a generator of family {bundle.recipe.family.family}, which has no code of a row",
        expected=f"one of family {' or '.join(able)}",
        fix=f"train with recipe {' or '.join(map(repr, names))}"
        if names
        else f"no starting recipe of {bundle.schema.kind} data has codes",
    )


def encoders(family: Family) -> tuple[str, ...]:
    """The published roles that make codes of rows, which generating does without."""
    played = {role for role, plays in family.network_roles.items() if plays.endswith("encoder")}
    return tuple(sorted(played & set(family.publishes) - set(family.sample_roles)))


def has_encoder(bundle: Bundle) -> bool:
    return isinstance(bundle.family, Latent) and set(encoders(bundle.family)) <= set(bundle.nets)


def encoding_family(bundle: Bundle) -> Latent:
    """`latent_family` of a bundle that still has its encoder."""
    family = latent_family(bundle)
    if not has_encoder(bundle):
        raise UsageError(
            "NOENCODER",
            where=bundle.uri,
            found="a generator without its encoder",
            expected="one that makes codes of rows",
            fix="use the bundle of its run, or register it with --allow latent",
        )
    return family


def tensors(bundle: Bundle, batch: pa.RecordBatch) -> Batch:
    """Rows as the networks take them. A condition field that is missing counts as an unknown class."""
    for name in bundle.schema.conditions:
        if name not in batch.schema.names:
            kind = bundle.schema.field(name).arrow()
            batch = batch.append_column(name, pa.nulls(batch.num_rows, kind))
    return to_batch(bundle.codec.encode(batch, bundle.recipe.layout), bundle.spec, bundle.device)


def classes(bundle: Bundle) -> tuple[Tensor, Tensor]:
    """((C, K) combinations of classes, (C,) their shares) in the training rows, the commonest of them."""
    table = bundle.codec.conditions
    if not table.names:
        return torch.zeros(1, 0, dtype=torch.long), torch.ones(1, dtype=torch.float64)
    cells = np.asarray(sorted(table.cells, key=lambda cell: -cell[-1])[:MOST_CELLS])
    share = torch.from_numpy(cells[:, -1] / cells[:, -1].sum())
    return torch.from_numpy(cells[:, :-1]).long(), share


def encode(bundle: Bundle, rows: Batch, *, blind: bool = False) -> Tensor:
    """(B, Z) codes. blind: the encoder is not told a row's class: the mean of its codes under every class,
    each weighed by its share of the training rows.
    """
    family = encoding_family(bundle)
    with one_thread(), torch.no_grad():
        if not blind or not bundle.spec.conditions:
            return _finite(bundle, family.encode(bundle.nets, rows).float())
        cells, shares = classes(bundle)
        total = torch.zeros(rows.size, family.latent, device=rows.x.device)
        for cell, share in zip(cells, shares, strict=True):
            total += float(share) * family.encode(bundle.nets, _told(rows, cell)).float()
    return _finite(bundle, total)


def decode(bundle: Bundle, z: Tensor, condition: Tensor) -> Tensor:
    """(B, *shape) rows of codes (B, Z), as the networks have them: their means and likeliest choices."""
    family = latent_family(bundle)
    with one_thread(), torch.no_grad():
        x = family.decode(bundle.nets, z, condition, Middle(len(z), device=z.device))
    return _finite(bundle, x)


def records(bundle: Bundle, x: Tensor, condition: Tensor, *, start: int = 0) -> pa.RecordBatch:
    """Decoded rows in the ingest schema. start: the number of the first, for identifiers that differ."""
    rng = numpy_rng(0, "latent", start, "records")
    batch = bundle.codec.decode(to_arrays(x, condition, bundle.spec), bundle.recipe.layout, rng)
    batch = pa.RecordBatch.from_arrays(batch.columns, schema=bundle.schema.arrow())
    return bundle.codec.identify(batch, start, 0)


def prior(bundle: Bundle, condition: Tensor, rng: Draws) -> Tensor:
    """(B, Z) codes as generating draws them."""
    family = latent_family(bundle)
    with one_thread(), torch.no_grad():
        return _finite(bundle, family.prior(bundle.nets, condition, rng).float())


def errors(bundle: Bundle, rows: Batch, path: tuple[int | str, ...], *, blind: bool = False) -> Errors:
    """How badly the generator tells each row, (B,) of each measure.

    The family's own metrics (of a VAE nats a row: bound, reconstruction, kl), and `squared_error`, the mean
    over the row's values of (decoded - row)², where numbers, pixels and levels lie in [-1, 1] and choices are
    0 or 1; of tokens the share that differ. blind: those under the class that tells the row best by the first
    metric, which is the model's guess of it. path: names the draws.
    """
    if not blind or not bundle.spec.conditions:
        return _errors(bundle, rows, path)
    best: Errors = {}
    first = bundle.family.metrics[0]
    for cell in classes(bundle)[0]:
        found = _errors(bundle, _told(rows, cell), path)
        better = found[first] < best[first] if best else np.ones(rows.size, bool)
        best = {name: np.where(better, each, best.get(name, each)) for name, each in found.items()}
    return best


def _errors(bundle: Bundle, rows: Batch, path: tuple[int | str, ...]) -> Errors:
    found = _metrics(bundle, rows, path)
    made = decode(bundle, encode(bundle, rows), rows.condition)
    return found | {SQUARED: differences(bundle, rows.x, made)}


def differences(bundle: Bundle, x: Tensor, made: Tensor) -> np.ndarray:
    """(B,) `squared_error` of rows and what was made of them."""
    apart = (x != made).double() if bundle.spec.layout == "tokens" else (x - made).double().square()
    return np.asarray(apart.flatten(1).mean(1).cpu().numpy())


def _metrics(bundle: Bundle, rows: Batch, path: tuple[int | str, ...]) -> Errors:
    """The family's metrics of each row by itself: all rows at once where torch can (`vmap`), else one by
    one, as networks that go step by step need.
    """
    family, nets = bundle.family, bundle.nets

    def one(x: Tensor, condition: Tensor) -> dict[str, Tensor]:
        rng = Draws(*path, total=1, device=bundle.device)  # type: ignore[misc, arg-type]
        return family.holdout_loss(nets, Batch(x[None], condition[None]), rng)

    with one_thread(), torch.no_grad():
        try:
            every: Callable[..., dict[str, Tensor]] = torch.vmap(one, randomness="same")
            told = every(rows.x, rows.condition)
        except RuntimeError:
            each = [one(x, c) for x, c in zip(rows.x, rows.condition, strict=True)]
            told = {name: torch.stack([row[name] for row in each]) for name in family.metrics}
    return {name: told[name].double().cpu().numpy() for name in family.metrics}


def _told(rows: Batch, cell: Tensor) -> Batch:
    return Batch(rows.x, cell.to(rows.x.device).expand(rows.size, -1), rows.mask)


def _finite(bundle: Bundle, values: Tensor) -> Tensor:
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        found = "codes or rows that are not finite"
        raise QualityError("NAN", where=bundle.uri, found=found, fix="train again")
    return values


def as_tensor(values: Any, like: Bundle) -> Tensor:
    """Numbers as a tensor where the bundle's networks are."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device)
