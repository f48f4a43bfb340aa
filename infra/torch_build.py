"""Which torch build is installed, or would be: the one question the set-up asks before it installs torch.

    python infra/torch_build.py installed             none (also: wrong version), cpu or cuda
    python infra/torch_build.py wanted                the version infra/torch.txt names
    python infra/torch_build.py planned REPORT.json   cpu or cuda, from `pip install --dry-run --report`

A build counts as CUDA when it brings along packages made for NVIDIA cards. Standard library only, and run by
an environment that is still being made.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

CUDA_PACKAGES = re.compile(r"^(nvidia|cuda|triton|pytorch-triton)\b", re.IGNORECASE)


def build_of(version: str, packages: Iterable[str]) -> str:
    """`cuda` when the local version label or any package beside torch says so."""
    label = version.partition("+")[2]
    if label == "cpu":
        return "cpu"
    return "cuda" if label.startswith("cu") or any(map(CUDA_PACKAGES.match, packages)) else "cpu"


def planned(report: Path) -> str:
    """Read pip's installation report."""
    items = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    torch = [item for item in items if item["name"].lower() == "torch"]
    if not torch:
        raise SystemExit(f"{report}: pip's report plans no torch")
    return build_of(torch[0]["version"], [item["name"] for item in items])


def installed(wanted: str) -> str:
    """Look at the environment this Python runs in."""
    try:
        found = metadata.distribution("torch")
    except metadata.PackageNotFoundError:
        return "none"
    if found.version.partition("+")[0] != wanted:
        return "none"
    return build_of(found.version, [dist.name for dist in metadata.distributions() if dist.name])


def wanted_version() -> str:
    """The version infra/torch.txt names."""
    match = re.search(r"^torch==(\S+)", (Path(__file__).parent / "torch.txt").read_text(), re.MULTILINE)
    if match is None:
        raise SystemExit("infra/torch.txt: no line 'torch==VERSION'")
    return match[1]


if __name__ == "__main__":
    if sys.argv[1:2] == ["installed"]:
        print(installed(wanted_version()))
    elif sys.argv[1:2] == ["wanted"]:
        print(wanted_version())
    elif sys.argv[1:2] == ["planned"] and len(sys.argv) == 3:
        print(planned(Path(sys.argv[2])))
    else:
        raise SystemExit(__doc__)
