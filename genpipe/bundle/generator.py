"""An opened bundle: the recipe's networks with their weights, and the rows they make.

Rows are drawn in fixed blocks: block i comes from `derive(seed, "generate", i)` and is always drawn whole,
so row n of a seed is the same whoever asks, in whatever slices, on however many workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import copy
from functools import cached_property, partial, reduce
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from genpipe import store
from genpipe.batch import to_arrays
from genpipe.bundle.conditions import Conditions, Test, parse_conditions
from genpipe.bundle.folder import AGAIN, METRICS, WEIGHTS, Origin, read_folder, sha256, write_folder
from genpipe.bundle.observed import draw_condition, free, partial_conditioning, replaced
from genpipe.bundle.sampling import Sampling
from genpipe.bundle.weights import built_for, check_block, read_weights
from genpipe.codecs import CODECS
from genpipe.codecs.base import Codec
from genpipe.codecs.stored import UNREADABLE
from genpipe.codecs.tabular.base import ColumnCodec
from genpipe.documents import first_line, parse_json
from genpipe.draws import Draws, one_thread
from genpipe.errors import DataError, QualityError, UsageError
from genpipe.families.base import PartialConditioning
from genpipe.recipe import Recipe, as_meant, check, make_family
from genpipe.schema import Schema
from genpipe.seeds import numpy_rng

BLOCK_VALUES = 2**18  # in one block: enough to keep a core busy, few enough to hold several
BLOCK_ROWS = {"text": 128, "tabular": 16384}
FEWEST_ROWS = 256  # of a table's block
MAX_DRAWS = 100  # blocks drawn to fill one block of tested rows: 1 % of them or more must fit
FIRST_DRAWS = 10  # after so many it is seen whether that can be: a fourth of what is needed by then is there


def save_bundle(
    uri: str,
    *,
    recipe: Recipe,
    codec: Codec,
    weights: Mapping[str, Tensor],
    metrics: Mapping[str, float],
    origin: Mapping[str, Any],
) -> Bundle:
    """Write a bundle and open it. Saving the same content again changes nothing.

    weights: "role.parameter" -> tensor. origin: where it comes from (name, dataset fingerprint, seed, code).
    """
    documents = {
        "recipe.json": recipe.model_dump(mode="json"),
        "schema.json": codec.schema.model_dump(mode="json"),
        "codec.json": codec.to_json(),
        "metrics.json": {name: value for name, value in metrics.items() if math.isfinite(value)},
        "origin.json": dict(origin),
    }
    write_folder(uri, documents, weights)
    return Bundle.open(uri)


class Bundle:
    """Made by `Bundle.open(uri)`, which verifies every file. `str(bundle)` is its URI.

    fingerprint: a hash of the content, the same wherever the folder lies.
    """

    def __init__(self, uri: str, content: Mapping[str, bytes], device: str, sampling: Sampling) -> None:
        self.uri, self.device = uri, device
        self.fingerprint = store.digest({name: sha256(data) for name, data in content.items()})
        read = {n: parse_json(d, where=store.join(uri, n)) for n, d in content.items() if n != WEIGHTS}
        expected, self._weights = "a bundle this version of genpipe can read", content[WEIGHTS]
        try:
            self.metrics: dict[str, float] = METRICS.validate_python(read["metrics.json"])
            self.origin: dict[str, Any] = read["origin.json"]
            origin = Origin.model_validate(self.origin)
        except UNREADABLE as error:
            raise DataError("BUNDLE", where=uri, found=first_line(error), expected=expected) from error
        origin.check_plugins(where=uri)
        fix = origin.other_versions
        try:
            self.recipe = Recipe.model_validate(as_meant(read["recipe.json"]))
            self.schema = Schema.model_validate(read["schema.json"])
            check(self.recipe, self.schema)
            self.codec: Codec = CODECS[self.recipe.kind].from_json(self.schema, read["codec.json"])
            self.spec = self.codec.spec(self.recipe.layout)
        except UNREADABLE as error:
            found = first_line(error)
            raise DataError("BUNDLE", where=uri, found=found, expected=expected, fix=fix) from error
        except (UsageError, DataError) as error:  # of a stranger's documents, not of an argument
            found = first_line(error)
            raise DataError(error.code, where=uri, found=found, expected=expected, fix=fix) from error
        check_block(self.recipe, self.spec, self.block_rows, weights=len(self._weights), where=uri)
        self._sample(sampling)

    def _sample(self, sampling: Sampling) -> None:
        self.family = make_family(self.recipe, self.spec)
        if sampling.given:
            self.recipe = sampling.on(self.recipe, self.family)
            self.family = make_family(self.recipe, self.spec)

    def at(self, sampling: Sampling) -> Self:
        """The same generator, its networks shared, as this says of sampling. Raises UsageError."""
        assert self.nets
        other = copy(self)
        other._sample(sampling)
        return other

    @classmethod
    def open(cls, uri: str, *, device: str = "cpu", sampling: Sampling = Sampling()) -> Self:  # noqa: B008
        """Read every file, compare it with the manifest, parse it within limits.

        sampling: in place of what the recipe says of it.
        """
        uri = uri.rstrip("/")
        return cls(uri, read_folder(uri), device, sampling)

    def __str__(self) -> str:
        return self.uri

    @property
    def learnt(self) -> str:
        """What is to be said of the rows it learnt; empty where a part of them is held out from it."""
        return "all rows" if self.origin.get("final") == "all" else ""

    @property
    def block_rows(self) -> int:
        """Rows of one block, at least 32; it depends on the bundle alone.

        Documents are written a token at a time, so theirs are smaller: ten rows should not cost a thousand.
        A table's are larger: the more rows, the nearer their shares are to the model's (`Draws.systematic`).
        And they divide the number of rows it learnt from, as so many are the most usual request.
        """
        most = BLOCK_ROWS.get(self.schema.kind, 1024)
        fitting = BLOCK_VALUES // int(np.prod(self.spec.shape))
        size = min(most, max(32, 1 << max(0, fitting.bit_length() - 1)))
        learnt = int(self.origin.get("rows", 0)) if self.schema.kind == "tabular" else 0
        return min(size, max(FEWEST_ROWS, -(-learnt // -(-learnt // size)))) if learnt else size

    @cached_property
    def nets(self) -> dict[str, nn.Module]:
        """The networks with their weights, ready to sample."""
        where = store.join(self.uri, WEIGHTS)
        built = built_for(self._weights, self.family, where=where)
        weights = read_weights(self._weights, where=where)
        for role, parameters in weights.items():
            try:
                built[role].load_state_dict(parameters)
            except (RuntimeError, ValueError) as error:
                raise DataError("WEIGHTS", where=where, found=first_line(error), fix=AGAIN) from error
        self._weights = b""
        return {role: built[role].eval().requires_grad_(False).to(self.device) for role in weights}

    def check_conditions(self, conditions: Mapping[str, Any] | None) -> Conditions:
        """Raise a UsageError if a name or value is not one this generator knows."""
        return parse_conditions(self.codec, conditions, self.family.takes_observed)

    def sample_block(
        self, *, seed: int, block: int, rows: int, conditions: Mapping[str, Any] | None = None
    ) -> pa.RecordBatch:
        """The first `rows` rows of block `block` of the stream that `seed` names, in the ingest schema."""
        if not 0 < rows <= self.block_rows:
            raise UsageError("ROWS", found=f"{rows} rows of a block", expected=f"1 to {self.block_rows}")
        return self._block(seed, block, rows, self.check_conditions(conditions))

    def _block(
        self, seed: int, block: int, rows: int, wanted: Conditions, test: Test | None = None
    ) -> pa.RecordBatch:
        """The block's rows with identifiers that follow from their number in the whole stream."""
        kept = self._kept(seed, block, rows, wanted, test)
        return self.codec.identify(kept, block * self.block_rows, seed)

    def _kept(
        self, seed: int, block: int, rows: int, wanted: Conditions, test: Test | None
    ) -> pa.RecordBatch:
        """Rows drawn until so many pass what they are tested for."""
        tests: list[Test] = [*([wanted] if wanted.filters else []), *([test] if test else [])]
        if not tests:
            return self._draw(seed, block, 0, wanted).slice(0, rows)
        kept: list[pa.RecordBatch] = []
        have = 0
        for draw in range(MAX_DRAWS):
            kept.append(reduce(lambda some, t: t.keep(some), tests, self._draw(seed, block, draw, wanted)))
            have += kept[-1].num_rows
            if have >= rows:
                return pa.concat_batches(kept).slice(0, rows)
            if draw + 1 >= FIRST_DRAWS and have * MAX_DRAWS * 4 < rows * (draw + 1):
                break
        drawn, most = (draw + 1) * self.block_rows, MAX_DRAWS * self.block_rows
        raise QualityError(
            "RARE",
            where="conditions",
            found=f"{have} of {drawn} generated rows ({have / drawn:.3%}) have "
            + " and ".join(map(str, tests)),
            expected=f"{rows} of {most} ({rows / most:.3%}) or more",
            fix=tests[-1].fix,
        )

    def _draw(self, seed: int, block: int, draw: int, wanted: Conditions) -> pa.RecordBatch:
        """One whole block, from seeds that depend on nothing but the arguments."""
        rows, path = self.block_rows, (seed, "generate", block, draw)
        rng = numpy_rng(*path, "records")
        given = wanted.columns(rows, rng)
        if wanted.classes:
            told = self.codec.begun(wanted.conditions(self.codec, rows, rng), rng)
        elif not wanted.observed:
            told = self.codec.draw_conditions(rows, rng)
        else:
            told = free(rows, len(self.codec.conditions.names))
        observed = (
            partial_conditioning(self.family, self.codec)[1].observed(given, fill=False)
            if wanted.observed
            else None
        )
        if wanted.begins:
            observed = wanted.begins.draw(rows, rng)
            told = wanted.begins.told(told, observed)
        made = self.draw(told, observed, Draws(*path, total=rows, device=self.device), rng, given)
        return wanted.begins.exact(made) if wanted.begins else replaced(made, given)

    def draw(
        self,
        told: np.ndarray,
        observed: np.ndarray | None,
        draws: Draws,
        rng: np.random.Generator,
        given: pa.RecordBatch | None = None,
        *,
        fill: bool = False,
    ) -> pa.RecordBatch:
        """Rows of the ingest schema. told (B, K): classes, UNOBSERVED where they are to be drawn (with `fill`
        none that is missing), given `observed` (B, T), tokens of a table set beforehand, and `given`,
        the values these stand for.
        """
        with one_thread(), torch.inference_mode():
            condition = torch.from_numpy(np.ascontiguousarray(told)).long().to(self.device)
            decode = self.codec.decode
            if observed is None:
                x = self.family.sample(self.nets, condition, draws)
            elif not isinstance(self.codec, ColumnCodec) and isinstance(self.family, PartialConditioning):
                begun = torch.from_numpy(observed).to(self.device)
                x = self.family.sample(self.nets, condition, draws, begun)
            else:
                family, table = partial_conditioning(self.family, self.codec)
                decode, tokens = (
                    partial(table.decode, given=given),
                    torch.from_numpy(observed).to(self.device),
                )
                if bool((condition < 0).any()):
                    condition = draw_condition(
                        family, self.nets, table.conditions, tokens, condition, draws, fill=fill
                    )
                x = family.sample(self.nets, condition, draws, tokens)
            if x.is_floating_point() and not bool(torch.isfinite(x).all()):
                found = "the generator makes values that are not finite"
                raise QualityError("NAN", where=self.uri, found=found, fix="train again")
            arrays = to_arrays(x, condition, self.spec)
        batch = decode(arrays, self.recipe.layout, rng)
        return pa.RecordBatch.from_arrays(batch.columns, schema=self.schema.arrow())

    def batches(
        self,
        rows: int,
        *,
        seed: int = 0,
        start: int = 0,
        conditions: Mapping[str, Any] | None = None,
        test: Test | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Rows [start, start + rows) of the stream, at most a block at a time. test: what they must pass."""
        wanted, stop = self.check_conditions(conditions), start + rows
        self.codec.check_rows(stop)
        while start < stop:
            block, skip = divmod(start, self.block_rows)
            upto = min(self.block_rows, skip + stop - start)
            yield self._block(seed, block, upto, wanted, test).slice(skip)
            start += upto - skip

    def sample(self, rows: int, *, seed: int = 0, conditions: Mapping[str, Any] | None = None) -> pa.Table:
        """`rows` rows in memory; `sample(10)` is the beginning of `sample(1000)`."""
        if rows < 1:
            raise UsageError("ROWS", found=f"{rows} rows", expected="1 or more")
        table = pa.Table.from_batches(self.batches(rows, seed=seed, conditions=conditions))
        return table.replace_schema_metadata(None)
