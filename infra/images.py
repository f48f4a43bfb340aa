"""Is every container image named by its digest? A tag can be pointed at another image; a digest cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PINNED = re.compile(r"@sha256:[0-9a-f]{64}$")
# image (a name alone stands for all its tags) = why it has no digest
WITHOUT_DIGEST = {
    "genpipe-cuda": "ours: as genpipe, with the CUDA build of torch",
    "genpipe": "ours: built here from infra/Dockerfile; a release's digest is known only after it is pushed",
}


def dockerfile_images(text: str) -> Iterator[str]:
    """What FROM and COPY --from name, with build arguments' defaults filled in and other stages left out."""
    defaults = {name: value.strip('"') for name, value in re.findall(r"^ARG (\w+)=(\S*)", text, re.MULTILINE)}
    text = re.sub(r"\$\{(\w+)\}", lambda match: defaults.get(match[1], ""), text)
    stages = set(re.findall(r"^FROM .*\bAS (\S+)", text, re.MULTILINE | re.IGNORECASE))
    for image in re.findall(r"^FROM (?:--\S+ )*(\S+)|^COPY --from=(\S+)", text, re.MULTILINE):
        name = image[0] or image[1]
        if name not in stages:
            yield name


def named_images(document: Any) -> Iterator[str]:
    """Every value of a key `image` in compose or Kubernetes YAML."""
    if isinstance(document, list):
        for item in document:
            yield from named_images(item)
    elif isinstance(document, dict):
        for key, value in document.items():
            if key == "image" and isinstance(value, str):
                yield value
            else:
                yield from named_images(value)


def check(root: Path, rendered: list[dict[str, Any]]) -> list[str]:
    """Images without a digest and without a reason, and reasons nobody needs.

    rendered: Kubernetes' documents as kustomize makes them, since it may put in other tags and digests.
    """
    found = [("Dockerfile", image) for image in dockerfile_images((root / "infra/Dockerfile").read_text())]
    compose = yaml.safe_load((root / "infra/compose.yaml").read_text())
    found += [("compose.yaml", image) for image in named_images(compose)]
    found += [("k8s", image) for image in named_images(rendered)]
    problems, needed = [], set()
    for file_name, image in dict.fromkeys(found):
        if PINNED.search(image):
            continue
        reason = {image, image.partition(":")[0]} & WITHOUT_DIGEST.keys()
        needed |= reason
        if not reason:
            problems.append(
                f"infra/{file_name}: {image} has no digest: add @sha256:..., or in infra/images.py why not"
            )
    problems += [f"infra/images.py: nothing uses {name} without a digest any more" for name in
                 sorted(WITHOUT_DIGEST.keys() - needed)]  # fmt: skip
    return problems
