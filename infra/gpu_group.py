"""Are Ray's workers with a GPU, which compose does not have, the same as those without?"""

from __future__ import annotations

from typing import Any

NAME, GPU = "gpu", "nvidia.com/gpu"


def compare(documents: list[dict[str, Any]]) -> list[str]:
    """Workers with a GPU are the others, but for their image, size and place."""
    problems = []
    for document in documents:
        groups = {g["groupName"]: g for g in document.get("spec", {}).get("workerGroupSpecs", [])}
        if NAME not in groups:
            continue
        theirs, ours = (groups[n]["template"]["spec"]["containers"][0] for n in (NAME, "cpu"))
        for key in sorted((theirs.keys() | ours.keys()) - {"image", "resources"}):
            if theirs.get(key) != ours.get(key):
                problems.append(f"gpu: {key} of the GPU group in infra/k8s differs from the cpu group's")
        name, tag = ours["image"].split(":")
        if theirs["image"] != f"{name}-cuda:{tag}":
            problems.append(f"gpu: the GPU group's image is {theirs['image']}, not {name}-cuda:{tag}")
        if not theirs["resources"]["limits"].get(GPU):
            problems.append(f"gpu: the GPU group has no limit {GPU}, by which Ray hears of its GPUs")
    return problems
