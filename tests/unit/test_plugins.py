"""Plug-ins of a process: what they add, what is refused, and what a bundle says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from genpipe import plugins
from genpipe.bundle.folder import Origin
from genpipe.errors import DataError, UsageError
from genpipe.plugins import Plugin, Registry


@dataclass
class Dist:
    name: str
    version: str


@dataclass
class Entry:
    """An entry point, as importlib.metadata has them."""

    name: str
    load: Callable[[], Any]
    dist: Dist | None
    value: str = "package:PLUGIN"
    module: str = "package"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(**entries: Any) -> None:
        found = [
            Entry(name, plugin if callable(plugin) else lambda p=plugin: p, Dist(f"genpipe-{name}", "0.2"))
            for name, plugin in entries.items()
        ]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found)
        plugins._installed.cache_clear()

    yield install
    monkeypatch.undo()
    plugins._installed.cache_clear()


def test_entries_are_added_at_the_first_read_and_know_their_owner(installed: Any) -> None:
    loaded: list[str] = []

    def load() -> Plugin:
        loaded.append("spectral")
        return Plugin(losses={"cosine": 3}, networks={"fourier": 4})

    installed(spectral=load)
    registry = Registry("losses", {"hinge": 1})
    assert not loaded
    assert dict(registry) == {"hinge": 1, "cosine": 3}
    assert dict(Registry("networks", {})) == {"fourier": 4} and loaded == ["spectral"]
    assert registry.owner("hinge") is None and str(registry.owner("cosine")) == (
        "plug-in 'spectral' of genpipe-spectral 0.2"
    )
    named = iter([(registry, "hinge"), (registry, "cosine"), ({"cosine": 1}, "cosine")])
    assert plugins.needed_by(named) == {"spectral": {"distribution": "genpipe-spectral", "version": "0.2"}}


def test_a_plugin_that_reads_a_registry_while_it_loads_finds_our_own_entries(installed: Any) -> None:
    registry = Registry("losses", {"hinge": 1})
    installed(spectral=lambda: Plugin(losses={"cosine": len(registry)}))
    assert dict(registry) == {"hinge": 1, "cosine": 1}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"a": Plugin(losses={"hinge": 2})},
            "'a' of genpipe-a 0.2: 'hinge' among its losses, which genpipe has",
        ),
        (
            {"a": Plugin(losses={"new": 2}), "b": Plugin(losses={"new": 3})},
            "'new' among its losses, which plug-in 'a' of genpipe-a 0.2 has; .*pip uninstall genpipe-b",
        ),
        ({"a": lambda: {"losses": {}}}, "package:PLUGIN is a dict; expected a genpipe.plugins.Plugin"),
        ({"a": lambda: 1 / 0}, "genpipe-a 0.2: ZeroDivisionError: division by zero; install another version"),
    ],
)
def test_what_cannot_be_added_is_refused_each_time(installed: Any, entries: Any, message: str) -> None:
    installed(**entries)
    registry = Registry("losses", {"hinge": 1})
    for _ in range(2):
        with pytest.raises(UsageError, match=message):
            list(registry)


def test_a_bundle_says_what_to_install(installed: Any) -> None:
    needs = {"spectral": {"distribution": "genpipe-spectral", "version": "0.2"}}
    origin = Origin.model_validate(json.loads(json.dumps({"name": "x", "plugins": needs})))
    installed()
    with pytest.raises(
        DataError, match=r"'spectral' of genpipe-spectral.*: pip install genpipe-spectral==0\.2$"
    ):
        origin.check_plugins(where="here")
    installed(spectral=Plugin())
    origin.check_plugins(where="here")
    assert origin.other_versions == ""
    needs["spectral"]["version"] = "0.1"
    assert "pip install genpipe-spectral==0.1" in Origin.model_validate({"plugins": needs}).other_versions


@pytest.mark.parametrize(
    ("distribution", "version"),
    [
        ("x --index-url http://evil", "1"),
        ("-r", "1"),
        ("https://evil/x.whl", "1"),
        ("x", "1; rm"),
        ("x", "-e ."),
    ],
)
def test_a_stranger_cannot_have_more_installed_than_a_name_and_a_version(
    distribution: str, version: str
) -> None:
    with pytest.raises(ValidationError):
        Origin.model_validate({"plugins": {"p": {"distribution": distribution, "version": version}}})
