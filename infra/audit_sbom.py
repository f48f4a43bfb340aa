"""The bill of materials of an installation for a CPU: CycloneDX JSON, checked against CycloneDX's schema."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from audit_licences import declared
from audit_locks import Locked, run_time
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def bill(root: Path, locked: list[Locked], policy: dict[str, Any]) -> Bom:
    """Every run-time package: version, licence, what it needs, and one hash for each allowed file."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    make = LicenseFactory().make_from_string
    product = Component(
        name=project["name"], version=project["version"], type=ComponentType.APPLICATION,
        bom_ref=f"{project['name']}@{project['version']}", licenses=[make(project["license"])],
    )  # fmt: skip
    bom, components = Bom(), {}
    bom.metadata.component = product
    for package in run_time(locked):
        licence = declared(package, policy)
        components[package.name] = Component(
            name=package.name, version=package.version, type=ComponentType.LIBRARY,
            bom_ref=f"{package.name}@{package.version}",
            purl=PackageURL(type="pypi", name=package.name, version=package.version),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in package.hashes],
            licenses=[make(licence)] if licence else [],
        )  # fmt: skip
        bom.components.add(components[package.name])
    bom.register_dependency(product, [components[n] for n in needs(project["name"]) if n in components])
    for name, component in components.items():
        bom.register_dependency(component, [components[n] for n in needs(name) if n in components])
    return bom


def needs(name: str) -> list[str]:
    """What an installed package asks for here, its extras apart; nothing when it is not installed."""
    try:
        asked = [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return []
    return sorted(
        {canonicalize_name(r.name) for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})}
    )


def write_sbom(root: Path, locked: list[Locked], policy: dict[str, Any], out: Path) -> list[str]:
    """Write the bill; the schema's complaints."""
    text = JsonV1Dot6(bill(root, locked, policy)).output_as_string(indent=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return [] if error is None else [str(error)]
