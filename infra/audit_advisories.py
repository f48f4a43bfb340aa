"""Known vulnerabilities of what the locks name: OSV is asked through pip-audit, or a copy of its data read.

pip-audit calls a package it got no answer for "skipped" and then reports that nothing was found. Here that is
`NotChecked`: silence of the database is no good news.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audit_locks import Locked
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


class NotChecked(Exception):
    """Nobody answered for some or all packages; the message says why."""


def ask(locked: list[Locked], *extra: str) -> list[str]:
    """One line for each finding, from OSV over the network; NotChecked when there is no full answer."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        pins.write_text("".join(f"{p.name}=={p.version} --hash=sha256:{p.hashes[0]}\n" for p in locked))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--disable-pip"]
        command += ["--vulnerability-service=osv", "--format=json", "--progress-spinner=off", *extra]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    return findings(done.stdout, locked, done.stderr)


def findings(output: str, locked: list[Locked], complaints: str = "") -> list[str]:
    """Read pip-audit's JSON; NotChecked when it is none, or lacks an answer for a locked package."""
    try:
        answer = json.loads(output)["dependencies"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        last = (complaints.strip().splitlines() or ["no output"])[-1]
        raise NotChecked(f"the vulnerability database cannot be reached ({last[:300]})") from error
    answered = {canonicalize_name(item["name"]) for item in answer if "skip_reason" not in item}
    unanswered = {package.name for package in locked} - answered
    if unanswered:
        count = f"{len(unanswered)} of {len(locked)} packages ({min(unanswered)}, ...)"
        raise NotChecked(f"the database did not answer for {count}")
    return [
        f"{item['name']} {item['version']}: {' '.join([bug['id'], *bug['aliases']])}; "
        f"fixed in {', '.join(bug['fix_versions']) or 'no version yet'}"
        for item in answer
        for bug in item["vulns"]
    ]


def records(path: Path) -> Iterator[dict[str, Any]]:
    """OSV records of a .json file (one or a list), a folder of such, or a .zip as OSV publishes them."""
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield from records(file)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    yield json.loads(archive.read(name))
    else:
        content = json.loads(path.read_text())
        yield from content if isinstance(content, list) else [content]


def is_affected(version: str, affected: dict[str, Any]) -> bool:
    """OSV's own rule: a listed version, or inside a range of events."""
    mine = Version(version)
    if any(mine == parsed for parsed in map(_version, affected.get("versions", [])) if parsed):
        return True
    for stretch in affected.get("ranges", []):
        if stretch.get("type") != "ECOSYSTEM":
            continue
        inside = False
        told = [(_version(text), kind) for event in stretch["events"] for kind, text in event.items()]
        events = [(at, kind) for at, kind in told if at is not None]
        for at, kind in sorted(events, key=lambda pair: pair[0]):
            if kind == "introduced" and mine >= at:
                inside = True
            elif (kind == "fixed" and mine >= at) or (kind == "last_affected" and mine > at):
                inside = False
        if inside:
            return True
    return False


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def look_up(locked: list[Locked], path: Path) -> tuple[list[str], str]:
    """Findings in a copy of OSV's data, and what the copy is; NotChecked when it holds nothing of PyPI."""
    if not path.exists():
        raise NotChecked(f"{path} does not exist")
    versions = {package.name: package.version for package in locked}
    found: list[str] = []
    count, newest = 0, ""
    for record in records(path):
        ours = [item for item in record.get("affected", []) if _ecosystem(item) == "PyPI"]
        count, newest = count + bool(ours), max(newest, str(record.get("modified", "")))
        if record.get("withdrawn"):
            continue
        for item in ours:
            name = canonicalize_name(item["package"]["name"])
            if name in versions and is_affected(versions[name], item):
                found.append(
                    f"{name} {versions[name]}: {' '.join([record['id'], *record.get('aliases', [])])}"
                )
    if not count:
        raise NotChecked(f"{path} holds no advisory about a PyPI package")
    return found, f"{count} advisories in {path}, the newest of {newest[:10] or 'no date'}"


def _ecosystem(affected: dict[str, Any]) -> str:
    return str(affected.get("package", {}).get("ecosystem", ""))
