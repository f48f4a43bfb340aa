"""Rows in, rows out, block by block: what every verb on a user's own rows shares.

A block is a fixed number of rows, whatever the parts they lie in, so the bytes of the result depend on the
rows alone. Memory is one part of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from genpipe.dataset import Dataset, Part, new_attempt, write_part
from genpipe.delivery import begin, deliver
from genpipe.errors import PrivacyError
from genpipe.progress import Event, Progress
from genpipe.registry import Resolved
from genpipe.schema import Schema

PART_BLOCKS = 64


@dataclass(frozen=True)
class Written:
    """What comes of blocks. lineage: what was asked, which the output is claimed for; in every footer.
    rows: how many there will be, for those who wait.
    """

    name: str
    schema: Schema
    lineage: dict[str, str]
    rows: int


def allows(resolved: Resolved, verb: str) -> bool:
    """Whether a registered version is published for a verb, of which all of codes are `latent`."""
    return (verb if verb in ("impute", "likelihood") else "latent") in _allowed(resolved)


def _allowed(resolved: Resolved) -> list[str]:
    return resolved.tags.get("allow", "").replace("score", "likelihood").split(",")  # its earlier name


def check_allowed(resolved: Resolved, verb: str) -> None:
    """Raise PrivacyError where a registered version is not for this: its publisher says what it is for."""
    allowed = _allowed(resolved)
    if resolved.reference.startswith("models:/") and verb not in allowed:
        said = "for generating alone" if allowed == [""] else f"for generating and {', '.join(allowed)}"
        raise PrivacyError(
            "NOTALLOWED",
            where=resolved.reference,
            found=f"a generator published {said}; `{verb}` tells more of the people it learnt from",
            expected=f"one whose publisher allows {verb}",
            fix=f"who has the model can: genpipe register {resolved.name} --allow {verb}",
        )


def blocks(
    rows: Dataset, split: str, size: int, *, columns: list[str] | None = None, most: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a split, or so many first ones, in blocks of `size`."""
    held: list[pa.RecordBatch] = []
    left = rows.rows(split) if most is None else most
    for batch in rows.batches(split, columns=columns):
        batch = batch.slice(0, left)
        left -= batch.num_rows
        while batch.num_rows:
            take = size - sum(b.num_rows for b in held)
            held.append(batch.slice(0, take))
            batch = batch.slice(take)
            if sum(b.num_rows for b in held) == size:
                yield pa.concat_batches(held)
                held = []
        if not left:
            break
    if held:
        yield pa.concat_batches(held)


def write_blocks(
    output: str,
    made: Iterable[pa.RecordBatch],
    what: Written,
    progress: Progress,
    *,
    note: Callable[[], str] = str,
    found: Callable[[], dict[str, Any]] = dict,
) -> Dataset:
    """The blocks as a committed dataset, unless it was made before. note: what to say of those so far; found:
    what the whole has shown, for the origin.
    """
    begun = begin(output, what.lineage)
    if begun.made is not None:
        return begun.made
    parts: list[Part] = []
    attempt, done = new_attempt(), 0
    held: list[pa.RecordBatch] = []

    def write() -> None:
        name = f"generated-{len(parts):05d}"
        about = {"split": "generated", "name": name, "attempt": attempt, "lineage": what.lineage}
        parts.append(write_part(begun.work, pa.Table.from_batches(held), **about))  # type: ignore[arg-type]
        held.clear()

    for batch in made:
        held.append(batch)
        done += batch.num_rows
        progress(Event(what.lineage["stage"], done, what.rows, "rows", note=note()))
        if len(held) == PART_BLOCKS:
            write()
    if held:
        write()
    origin = {**what.lineage, **found()}
    return deliver(begun.work, output, name=what.name, schema=what.schema, parts=parts, origin=origin)
