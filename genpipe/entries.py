"""Config fields whose choices are the entries of a registry, a dict that may grow while the program runs.

    adversarial: Annotated[str, NameIn(ADVERSARIAL)]                     a name
    generator: Annotated[NetworkConfig, ConfigIn(NETWORKS, "network")]   the `Config` of an entry, by its tag

Both read the dict when a value is validated, so an entry that a plug-in or a test adds later is a choice at
once: in validation, in its error messages, in the JSON schema and in a search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticKnownError, core_schema


class NameIn:
    """A name of the registry, or one of `others`. searched: whether a search varies it over the registry."""

    def __init__(self, registry: Mapping[str, Any], *others: str, searched: bool = True) -> None:
        self.registry, self.others, self.searched = registry, others, searched

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.others, *self.registry)

    def validate(self, value: Any) -> str:
        if isinstance(value, str) and value in self.names:
            return value
        *first, last = map(repr, self.names)
        expected = f"{', '.join(first)} or {last}" if first else last
        raise PydanticKnownError("literal_error", {"expected": expected})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        search = {"search": {"choices": list(self.registry)}} if self.searched else {}
        return {"type": "string", "enum": list(self.names), **search}


class ConfigIn:
    """The config of an entry of the registry, told from the others by its field `tag`, which is a literal."""

    def __init__(self, registry: Mapping[str, Any], tag: str) -> None:
        self.registry, self.tag = registry, tag
        self._configs: tuple[Any, ...] = ()
        self._union: TypeAdapter[Any] | None = None

    @property
    def union(self) -> TypeAdapter[Any]:
        """All configs that are in the registry now."""
        configs = tuple(entry.Config for entry in self.registry.values())
        if self._union is None or configs != self._configs:
            for name, entry in self.registry.items():
                if (tag := entry.Config.model_fields.get(self.tag)) is None or tag.default != name:
                    wanted = f"{self.tag}: Literal[{name!r}] = {name!r}"
                    raise TypeError(f"{entry.__name__}.Config, the entry {name!r}, must have `{wanted}`")
            union = Annotated[Union[configs], Field(discriminator=self.tag)]  # type: ignore[valid-type] # noqa: UP007
            self._configs, self._union = configs, TypeAdapter(union)
        return self._union

    def validate(self, value: Any) -> Any:
        return self.union.validate_python(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(self.union.core_schema)


def name_in(field: FieldInfo) -> NameIn | None:
    """What makes the names of this field, if it is one of a registry's."""
    return next((m for m in field.metadata if isinstance(m, NameIn)), None)


def entries_of(config: BaseModel) -> Iterator[tuple[Mapping[str, Any], str]]:
    """(registry, name) of every entry that a config names, those of configs within it too."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        for mark in field.metadata:
            if isinstance(mark, NameIn) and value in mark.registry:
                yield mark.registry, value
            elif isinstance(mark, ConfigIn):
                yield mark.registry, getattr(value, mark.tag)
        if isinstance(value, BaseModel):
            yield from entries_of(value)
