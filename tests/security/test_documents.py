"""SECURITY.md and docs/security.md: every promise names a test, every test and link is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_security_documents_name_exists() -> None:
    text = (ROOT / "docs/security.md").read_text() + (ROOT / "SECURITY.md").read_text()
    named = set(re.findall(r"`(tests/[a-z_/]+\.py)(?:::(\w+))?`", text))
    assert named, "the documents name no test"
    missing = [f for f, _ in named if not (ROOT / f).is_file()]
    missing += [
        f"{f}::{t}" for f, t in named if t and f not in missing and f"def {t}(" not in (ROOT / f).read_text()
    ]
    assert not missing, f"named and not there: {sorted(missing)}"


def test_every_promise_names_its_test() -> None:
    text = (ROOT / "docs/security.md").read_text()
    promises = [
        line for line in text.split("## ")[1].splitlines() if line.startswith("| ") and "---" not in line
    ][1:]
    assert promises
    bare = [line for line in promises if "`tests/" not in line and "infra/validate.py" not in line]
    assert not bare, f"no test named: {bare}"


def test_links_in_the_security_documents_lead_somewhere() -> None:
    for file in (ROOT / "SECURITY.md", ROOT / "docs/security.md"):
        for target in re.findall(r"\]\(([^)#]+)", file.read_text()):
            assert "@" not in target and "//" not in target, f"{file.name}: {target}: no addresses"
            assert (file.parent / target).exists(), f"{file.name}: {target} is not there"
