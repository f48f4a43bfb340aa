"""Licences of every locked package, read from what is installed, against the list in infra/audit.toml."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Any

from audit_locks import Locked
from license_expression import ExpressionError, get_spdx_licensing

SPDX = get_spdx_licensing()
COPYLEFT = ("GPL-", "AGPL-")


@cache
def is_spdx(text: str) -> bool:
    """Whether every identifier of an expression is on SPDX's list."""
    try:
        return SPDX.parse(text, validate=True, strict=True) is not None
    except ExpressionError:
        return False


def declared(package: Locked, policy: dict[str, Any]) -> str | None:
    """The licence as an SPDX expression, else in the package's own words; None when it says nothing."""
    if package.name in policy["declared"]:
        return str(policy["declared"][package.name])
    try:
        about: Any = metadata.distribution(package.name).metadata  # an e-mail message, which has `get`
    except metadata.PackageNotFoundError:
        return None
    # PEP 639's field first, then the old free text where it is an identifier, then the classifiers.
    first_line = next(iter((about.get("License") or "").strip().splitlines()), "").strip()
    labels = [label.split(" :: ") for label in about.get_all("Classifier") or []]
    labels = [label[-1] for label in labels if label[0] == "License" and label[-1] != "DFSG approved"]
    for text in (about.get("License-Expression"), first_line, labels[0] if len(labels) == 1 else None):
        text = policy["means"].get(text, text)
        if text and (is_spdx(text) or text in policy["allowed"]):
            return str(text)
    return "; ".join(labels) or first_line or None


def fits(licence: str, allowed: set[str]) -> bool:
    """Whether one may use the package under allowed licences alone: any side of OR, every side of AND."""
    if licence in allowed or not is_spdx(licence):
        return licence in allowed
    tree = SPDX.parse(licence)
    return bool(
        tree.subs({symbol: _truth(str(symbol) in allowed) for symbol in tree.symbols}).simplify() == SPDX.TRUE
    )


def _truth(value: bool) -> Any:
    return SPDX.TRUE if value else SPDX.FALSE


def check_licences(locked: list[Locked], policy: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(problems, notes)."""
    problems, notes = [], []
    allowed, unused = set(policy["allowed"]), dict(policy["exceptions"])
    for package in locked:
        if package.group == "cuda":
            continue
        licence = declared(package, policy)
        reason = policy["exceptions"].get(package.name)
        if licence is None:
            problems.append(f"{package.name} {package.version}: does not say its licence; look, and add it "
                            "to [licences.declared]")  # fmt: skip
        elif fits(licence, allowed):
            continue
        elif reason is None:
            problems.append(
                f"{package.name} {package.version}: {licence} is not allowed; find another package"
            )
        elif package.group != "dev" and is_spdx(licence) and only_copyleft(licence):
            problems.append(
                f"{package.name} {package.version}: {licence} in what we ship: no exception is possible"
            )
        else:
            unused.pop(package.name)
            notes.append(f"{package.name}: {licence} ({package.group}): {reason}")
    problems += [f"exception for {name} is not needed any more: remove it" for name in sorted(unused)]
    nvidia = sum(package.group == "cuda" for package in locked)
    notes.append(
        f"{nvidia} packages for DEVICE=cuda not looked at: NVIDIA's own terms, never installed by default"
    )
    return problems, notes


def only_copyleft(licence: str) -> bool:
    """GPL or AGPL on every way to read the expression."""
    keys = {str(key) for key in SPDX.parse(licence).objects if not str(key).startswith(COPYLEFT)}
    return not fits(licence, keys)
