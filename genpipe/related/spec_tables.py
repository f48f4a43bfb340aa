"""The tables of a spec (spec.py) and how they belong together, as they are written."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from genpipe.pipeline.spec import Gate, Generate, SomeHoldout
from genpipe.recipe import Recipe
from genpipe.recipes import parse_recipe
from genpipe.requests import Part
from genpipe.requests.types import Column, Data, Minutes, Name, Place, Reason, Seed


def _labels(value: Any) -> Any:
    """Columns that name a row together are one text: "order, line"."""
    if not isinstance(value, dict):
        return value
    return {", ".join(map(str, k)) if isinstance(k, list | tuple) else k: v for k, v in value.items()}


Columns = Column | Annotated[tuple[Column, ...], Field(min_length=1, max_length=100)]


class TableSpec(Part):
    """One table. key: the column, or columns together, that tell its rows apart. parent, foreign_key: the
    table whose key stands in that column, or these columns in the key's order; none where it is missing.
    references: further columns in which the key of a table may stand, also of this one; several, in the key's
    order, with commas between them. entity: instead of a parent, the column that tells whose row it is.
    order_by: dates, times or numbers in whose order the rows of one parent follow each other (default: that
    of the file).
    """

    source: Data | tuple[Place, ...]
    key: Columns | None = None
    parent: Name | None = None
    foreign_key: Columns | None = None
    references: Annotated[dict[Column, Name], BeforeValidator(_labels)] = Field(default_factory=dict)
    entity: Column | None = None
    order_by: Column | None = None
    schema_file: Annotated[Place | None, Field(alias="schema")] = None
    options: dict[str, Any] = Field(default_factory=dict)
    recipe: str | dict[str, Any] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of the key."""
        return several(self.key)

    @property
    def link(self) -> tuple[str, ...]:
        """The columns that say to whom a row belongs."""
        return several(self.foreign_key or self.entity)

    @property
    def named(self) -> dict[str, tuple[str, ...]]:
        """Reference, as it is written -> its columns."""
        return {label: tuple(re.split(r"\s*,\s*", label)) for label in self.references}

    @property
    def naming(self) -> tuple[str, ...]:
        """The columns of all references."""
        return tuple(column for columns in self.named.values() for column in columns)

    @property
    def single(self) -> bool:
        """Whether a parent has one such row at most: the key is the parent's."""
        return bool(self.parent and self.key) and {*self.keys} == {*self.link}


def several(columns: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else columns or ()


class TablesSpec(Part):
    """recipe: of every table that has none of its own. orphans: what becomes of rows whose parent is missing.

    holdout: share of the families, a row without a parent and all that descends from it, that is held out.
    References tie no families: a row of either split may refer to one of the other.
    gate, unchecked, generate: as in a pipeline's spec, for `genpipe run`; generate.rows counts rows without
    parents.
    """

    name: Name
    tables: dict[Name, TableSpec] = Field(min_length=1)
    recipe: str | dict[str, Any] | None = None
    holdout: SomeHoldout = 0.2
    orphans: Literal["fail", "drop"] = "fail"
    seed: Seed = 0
    minutes: Minutes | None = None
    gate: Gate = Gate()
    unchecked: Reason | None = None
    generate: Generate | None = None
    _checked: bool = PrivateAttr(default=False)  # whether `check_tables` has seen it

    def recipe_of(self, name: str) -> Recipe:
        """How the rows of a table are learnt."""
        table = self.tables[name]
        return parse_recipe(table.recipe if table.recipe is not None else self.recipe, "tabular")

    def needs(self) -> dict[str, list[str]]:
        """Table -> the tables that are to be made before it: its parent, and those it refers to, each once,
        but for `late`. No sets: their order is another in every process.
        """
        return self._needs()[0]

    def late(self) -> list[tuple[str, str]]:
        """(table, reference) of those that can only be chosen when all rows are there: to the own table, and
        of a circle of tables the last that the spec names.
        """
        return self._needs()[1]

    def _needs(self) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
        needs = {n: [t.parent] if t.parent else [] for n, t in self.tables.items()}
        late, keys = list[tuple[str, str]](), {n: {*t.keys} for n, t in self.tables.items()}
        every = [(n, label, {*columns}) for n, t in self.tables.items() for label, columns in t.named.items()]
        every.sort(key=lambda one: not one[2] & keys[one[0]])  # what a key is made of cannot come late
        for name, label, _ in every:
            other = self.tables[name].references[label]
            if other == name or other not in self.tables or _needs_itself(needs, name, other):
                late.append((name, label))
            elif other not in needs[name]:
                needs[name].append(other)
        return needs, late


def _needs_itself(needs: dict[str, list[str]], name: str, other: str) -> bool:
    """Whether a table is needed by one that it would need."""
    seen, left = set[str](), [other]
    while left:
        one = left.pop()
        if one == name:
            return True
        if one not in seen:
            seen.add(one)
            left += needs.get(one, [])
    return False
