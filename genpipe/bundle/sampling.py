"""What a consumer may set of sampling, in place of what the recipe says."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genpipe.errors import UsageError
from genpipe.families import FAMILIES
from genpipe.families.base import Family
from genpipe.recipe import Recipe


class Sampling(BaseModel):
    """temperature: below 1 likelier rows and more alike, above 1 bolder ones. top_k, top_p: draw each token
    from the likeliest alone. no_repeat: no run of so many tokens comes twice in a text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    temperature: float | None = Field(default=None, gt=0, le=100)
    top_k: int | None = Field(default=None, ge=1, le=2**31)
    top_p: float | None = Field(default=None, gt=0, le=1)
    no_repeat: int | None = Field(default=None, ge=2, le=2**20)

    @classmethod
    def of(cls, asked: Any) -> Self:
        """What a request says of it; each may be missing."""
        return cls.read({name: getattr(asked, name, None) for name in cls.model_fields})

    @classmethod
    def read(cls, asked: dict[str, Any]) -> Self:
        """Raises UsageError."""
        try:
            return cls.model_validate(asked)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "sampling"
            found = f"{first['input']!r}"[:100]
            expected = "temperature above 0 to 100, top_k from 1, top_p above 0 to 1, no_repeat from 2"
            raise UsageError("SAMPLING", where=where, found=found, expected=expected) from None

    @property
    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)

    def on(self, recipe: Recipe, family: Family) -> Recipe:
        """The recipe so changed. Raises a UsageError where its family has no such thing."""
        able = controls(family)
        for name, value in self.given.items():
            if name not in able:
                raise UsageError(
                    name.upper().replace("_", ""),
                    where=name,
                    found=f"{value} for a generator of family {recipe.family.family}"
                    + (f" and layout {recipe.layout}" if able else ""),
                    expected=_expected(name, able),
                )
        if not self.given:
            return recipe
        return recipe.model_copy(update={"family": recipe.family.model_copy(update=self.given)})


def controls(family: Family) -> tuple[str, ...]:
    """What of sampling may be changed after training; one that says nothing of it may have a temperature."""
    said: tuple[str, ...] = getattr(family, "controls", ("temperature",) if family.has_temperature else ())
    return said


def _expected(name: str, able: tuple[str, ...]) -> str:
    if able:
        return f"{' or '.join(able)}; {name} is of " + ("texts" if name == "no_repeat" else "tokens")
    hot = [name for name, family in FAMILIES.items() if family.has_temperature]
    what = "a number above 0, for" if name == "temperature" else "nothing of it but for"
    return f"{what} the families " + " and ".join(hot)
