"""What the lock files name: packages, versions and the hashes of the files that may be installed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# run: what the product needs; dev: tools that are run and never shipped; cuda: only installed for DEVICE=cuda
LOCKS = {
    "requirements.lock": "run",
    "infra/torch.txt": "run",
    "requirements-dev.lock": "dev",
    "infra/fuzz.txt": "dev",
    "infra/torch-cuda.txt": "cuda",
}


@dataclass(frozen=True)
class Locked:
    """One pinned package; `hashes` are hexadecimal SHA-256, one for each file that may be installed."""

    name: str
    version: str
    hashes: tuple[str, ...]
    group: str


def read_locks(root: Path) -> list[Locked]:
    """All packages of all locks; a line that is no pin with hashes raises SystemExit naming it."""
    found = []
    for file, group in LOCKS.items():
        lines = [line for line in (root / file).read_text().splitlines() if not line.startswith("#")]
        for entry in re.split(r"\n(?=\S)", "\n".join(lines)):
            pin = re.match(r"([A-Za-z0-9._-]+)={2,3}([^\s;\\]+)", entry)
            hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry))
            if pin is None or not hashes:
                raise SystemExit(f"{file}: no version or no hash: {entry.splitlines()[0]!r}; run `make lock`")
            found.append(Locked(re.sub(r"[-_.]+", "-", pin[1]).lower(), pin[2], hashes, group))
    return found


def run_time(locked: list[Locked]) -> list[Locked]:
    """What an installation for a CPU has."""
    return [package for package in locked if package.group == "run"]
