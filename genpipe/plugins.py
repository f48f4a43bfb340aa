"""Plug-ins: installed packages that add entries to genpipe's registries.

A plug-in is a `Plugin` value under an entry point of the group `genpipe.plugins`, in its pyproject.toml:

    [project.entry-points."genpipe.plugins"]
    spectral = "genpipe_spectral:PLUGIN"

Each process reads the entry points of what is installed there when it first reads a registry. So the command
line, a Ray or Prefect worker and a consumer of MLflow see the same entries, and `import genpipe` costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cache
from threading import RLock
from typing import Any, TypeVar

from genpipe.errors import UsageError

GROUP = "genpipe.plugins"
T = TypeVar("T")
_lock = RLock()


@dataclass(frozen=True)
class Plugin:
    """What a package adds: for each registry a mapping of new names to entries of its form."""

    families: Mapping[str, Any] = field(default_factory=dict)  # FAMILIES of genpipe.families
    networks: Mapping[str, Any] = field(default_factory=dict)  # NETWORKS of genpipe.networks
    losses: Mapping[str, Any] = field(default_factory=dict)  # ADVERSARIAL of genpipe.objectives
    penalties: Mapping[str, Any] = field(default_factory=dict)  # PENALTIES of genpipe.objectives
    codecs: Mapping[str, Any] = field(default_factory=dict)  # CODECS of genpipe.codecs, by data kind
    sources: Mapping[str, Any] = field(default_factory=dict)  # SOURCES of genpipe.sources, by data kind
    judges: Mapping[str, Any] = field(default_factory=dict)  # JUDGES of genpipe.evaluation, by data kind
    recipes: Mapping[str, Callable[[], Any]] = field(default_factory=dict)  # RECIPES of genpipe.recipes


@dataclass(frozen=True)
class Installed:
    """A plug-in by the name of its entry point, and the distribution it comes from."""

    name: str
    distribution: str
    version: str
    plugin: Plugin

    def __str__(self) -> str:
        return f"plug-in {self.name!r} of {self.distribution} {self.version}"


class Registry(MutableMapping[str, T]):
    """A dict of entries by name, to which those of plug-ins are added before it is first read.

    part: the field of Plugin that holds entries for it.
    """

    def __init__(self, part: str, entries: Mapping[str, T]) -> None:
        self.part, self._entries, self._whole = part, dict(entries), False
        self._owners: dict[str, Installed] = {}

    def _all(self) -> dict[str, T]:
        if not self._whole:
            with _lock:
                self._add_plugins()
        return self._entries

    def _add_plugins(self) -> None:
        if self._whole or _Reading.now:  # a plug-in that reads it while it is loaded finds our own entries
            return
        found: dict[str, T] = {}
        owners: dict[str, Installed] = {}
        for installed in installed_plugins():
            for name, entry in getattr(installed.plugin, self.part).items():
                if name in self._entries or name in found:
                    raise UsageError(
                        "PLUGIN",
                        where=str(installed),
                        found=f"{name!r} among its {self.part}, which {owners.get(name, 'genpipe')} has",
                        expected="names that nobody else has",
                        fix=f"rename it there, or pip uninstall {installed.distribution}",
                    )
                found[name], owners[name] = entry, installed
        self._entries |= found
        self._owners, self._whole = owners, True

    def owner(self, name: str) -> Installed | None:
        """The plug-in an entry comes from; None for our own."""
        return self._owners.get(name) if name in self._all() else None

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __setitem__(self, name: str, entry: T) -> None:
        self._all()[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"Registry({self.part}: {', '.join(self._entries)})"


class _Reading:
    now = False  # whether this process is loading plug-ins; the lock is held then


def installed_plugins() -> tuple[Installed, ...]:
    """The plug-ins of this environment by name, loaded once; a UsageError names one that cannot be."""
    with _lock:
        return _installed()


@cache
def _installed() -> tuple[Installed, ...]:
    from importlib.metadata import entry_points

    _Reading.now = True
    try:
        return tuple(_load(entry) for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name))
    finally:
        _Reading.now = False


def _load(entry: Any) -> Installed:
    distribution, version = (entry.dist.name, entry.dist.version) if entry.dist else (entry.module, "0")
    fix = f"install another version of {distribution}, or pip uninstall {distribution}"
    try:
        plugin = entry.load()
    except Exception as error:  # whatever a stranger's module raises
        found = f"{type(error).__name__}: {error}"
        raise UsageError("PLUGIN", where=f"{distribution} {version}", found=found, fix=fix) from error
    if not isinstance(plugin, Plugin):
        found, expected = f"{entry.value} is a {type(plugin).__name__}", "a genpipe.plugins.Plugin"
        raise UsageError("PLUGIN", where=f"{distribution} {version}", found=found, expected=expected, fix=fix)
    return Installed(entry.name, distribution, version, plugin)


def needed_by(named: Iterator[tuple[Mapping[str, Any], str]]) -> dict[str, dict[str, str]]:
    """Of (registry, name) pairs: the plug-ins these come from, as origin.json names them."""
    owners = [o for r, name in named if isinstance(r, Registry) and (o := r.owner(name)) is not None]
    return {o.name: {"distribution": o.distribution, "version": o.version} for o in owners}
