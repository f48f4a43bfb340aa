"""What the locks bring along: known vulnerabilities, licences, and a bill of materials. `make audit` runs it.

    python infra/audit.py [--advisories PATH | --osv-url URL] [--sbom build/sbom.cdx.json]

--advisories takes a copy of OSV's data (its all.zip for PyPI, a folder or a file of OSV records) for machines
without a network. Exit codes: 0 all in order, 1 something found, 4 nothing found but nobody could be asked.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from audit_advisories import NotChecked, ask, look_up
from audit_licences import check_licences
from audit_locks import Locked, read_locks, run_time
from audit_sbom import write_sbom

FOUND, NOT_CHECKED = 1, 4


def report(name: str, verdict: str, lines: Iterable[str] = ()) -> None:
    """One line a check, what it has to say below."""
    print(f"audit: {name:<15} {verdict}")
    for line in lines:
        print(f"  {line}")


def check_vulnerabilities(
    locked: list[Locked], policy: dict[str, Any], advisories: Path | None, osv_url: str | None = None
) -> int:
    """0, FOUND or NOT_CHECKED, and says which."""
    accepted = {item["id"]: item["reason"] for item in policy.get("vulnerabilities", [])}
    try:
        if advisories is None:
            found = ask(locked, *([f"--osv-url={osv_url}"] if osv_url else []))
            source = f"OSV, {len(locked)} packages"
        else:
            found, source = look_up(locked, advisories)
    except NotChecked as reason:
        report(
            "vulnerabilities", "NOT CHECKED", [str(reason), "give a copy of OSV's data: --advisories all.zip"]
        )
        return NOT_CHECKED
    ids = {line: set(line.replace(";", " ").split()) for line in found}
    open_ones = [line for line in found if not ids[line] & accepted.keys()]
    notes = [f"accepted: {line}" for line in found if ids[line] & accepted.keys()]
    stale = [f"{name} is accepted in infra/audit.toml and not found any more" for name in accepted
             if not any(name in words for words in ids.values())]  # fmt: skip
    problems = open_ones + stale
    report("vulnerabilities", "FAILED" if problems else f"ok ({source})", problems + notes)
    return FOUND if problems else 0


def main(root: Path, advisories: Path | None, osv_url: str | None, sbom: Path) -> int:
    """Run the three checks; the worst result."""
    policy = tomllib.loads((root / "infra/audit.toml").read_text())
    locked = read_locks(root)
    codes = [check_vulnerabilities(locked, policy, advisories, osv_url)]
    problems, notes = check_licences(locked, policy["licences"])
    report("licences", "FAILED" if problems else f"ok ({len(locked)} packages)", problems + notes)
    codes.append(FOUND if problems else 0)
    problems = write_sbom(root, locked, policy["licences"], sbom)
    report("SBOM", "FAILED" if problems else f"ok ({len(run_time(locked))} packages in {sbom})", problems)
    codes.append(FOUND if problems else 0)
    return FOUND if FOUND in codes else max(codes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Known vulnerabilities, licences and SBOM of the locks.")
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--root", type=Path, default=here, help="repository to look at")
    parser.add_argument("--advisories", type=Path, help="a copy of OSV's data instead of the network")
    parser.add_argument("--osv-url", help="a mirror of OSV's query service")
    parser.add_argument("--sbom", type=Path, default=here / "build/sbom.cdx.json", help="where the SBOM goes")
    arguments = parser.parse_args()
    sys.exit(main(arguments.root, arguments.advisories, arguments.osv_url, arguments.sbom))
