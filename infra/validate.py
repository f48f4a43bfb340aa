"""Check everything in infra/ offline: no container engine, no cluster, no network. Part of `make check`.

    python infra/validate.py [--root REPOSITORY]

Each check is somebody else's tool, made strict enough that a misspelt field fails and is named. Only the
KubeRay resources need code: their schema is in the operator's CRDs, which we do not ship; they are looked for
in $GENPIPE_DATA/kuberay-crds, and that check is skipped, saying so, when they are not there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import consistency
import images

KUBERNETES = "1.37"
TOOLS = Path(sys.executable).parent  # the environment's own copies, whether or not it is activated


class Skipped(Exception):
    """This check cannot run here; the message says why."""


def run_tool(*command: str, root: Path) -> tuple[str, list[str]]:
    """Output and complaints: anything on stderr counts, since docker-compose's exit code says nothing.

    docker-compose would fill in variables of ours, and then misses none.
    """
    try:
        done = subprocess.run(
            [str(TOOLS / command[0]), *command[1:]],
            cwd=root,
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            capture_output=True,
            text=True,
            timeout=120,
        )
    except OSError as error:  # the repackaged binaries exist for the common platforms only
        raise Skipped(f"{command[0]} does not run on this machine: {error}") from error
    problems = done.stderr.splitlines()
    if done.returncode and not problems:
        problems = done.stdout.splitlines() or [f"{command[0]} failed without a word"]
    return done.stdout, problems


def manifests(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, document) for every document in infra/k8s; a patch, which is a list, is none."""
    for file in sorted((root / "infra/k8s").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if not isinstance(document, list):
                yield file.name, document


def check_yaml(root: Path) -> list[str]:
    """Syntax and duplicate keys."""
    files = ["infra", *(["prefect.yaml"] if (root / "prefect.yaml").exists() else [])]
    return run_tool("yamllint", "--strict", "--format=parsable", "-c=infra/.yamllint", *files, root=root)[1]


def check_dockerfile(root: Path) -> list[str]:
    """Instructions, versions, caches."""
    return run_tool("hadolint", "infra/Dockerfile", root=root)[1]


def compose_model(root: Path) -> tuple[dict[str, Any], list[str]]:
    """The compose file as docker-compose understands it; every variable of .env.example is its own name."""
    names = consistency.example_variables(root)
    env_file = root / "infra/.env.check"
    env_file.write_text("".join(f"{name}={name}\n" for name in names))
    try:
        command = ("--env-file", str(env_file), "-f", "infra/compose.yaml", "config", "--format=json")
        output, problems = run_tool("docker-compose", *command, root=root)
    finally:
        env_file.unlink()
    return (json.loads(output) if output.strip() and not problems else {}), problems


def check_compose(root: Path) -> list[str]:
    """The real docker-compose reads it without a complaint."""
    return compose_model(root)[1]


def check_kustomization(root: Path) -> list[str]:
    """It renders, its fields are known, and all that lies in the folder is named in it."""
    problems = run_tool("kubectl", "kustomize", "infra/k8s", root=root)[1]
    told = yaml.safe_load((root / "infra/k8s/kustomization.yaml").read_text())
    listed = [*told.get("resources", []), *(patch["path"] for patch in told.get("patches", []))]
    present = {file.name for file in (root / "infra/k8s").glob("*.yaml")}
    for name in sorted(
        present - set(listed) - {"kustomization.yaml", "secrets.example.yaml", "secrets.yaml"}
    ):
        problems.append(f"infra/k8s/{name} is not among the resources or patches of kustomization.yaml")
    return problems


def check_kubernetes(root: Path) -> list[str]:
    """Every document against Kubernetes' own schema, unknown fields refused."""
    problems = []
    for name, document in manifests(root):
        if document["apiVersion"].startswith(("ray.io/", "kustomize.config.k8s.io/")):
            continue  # check_kuberay and check_kustomization
        label = f"infra/k8s/{name}: {document.get('kind')} {document.get('metadata', {}).get('name')}"
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{label}: {'.'.join(map(str, error.path))}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            problems.append(f"{label}: {error}")
    return problems


def closed(schema: Any) -> Any:
    """The same schema, refusing unknown fields wherever it lists fields and does not say it keeps others."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if result.pop("x-kubernetes-int-or-string", False):
        result.pop("type", None)
    if isinstance(result.get("properties"), dict) and not result.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result


@lru_cache
def kuberay_schema(folder: Path, kind: str, api_version: str) -> dict[str, Any]:
    """The strict schema of one resource; an unknown kind or version is a schema nothing fits."""
    file = folder / f"ray.io_{kind.lower()}s.yaml.gz"
    versions = []
    if file.exists():  # the C loader, because these files have tens of thousands of lines
        versions = yaml.load(gzip.decompress(file.read_bytes()), yaml.CSafeLoader)["spec"]["versions"]
    for version in versions:
        if api_version == f"ray.io/{version['name']}":
            schema = version["schema"]["openAPIV3Schema"]
            schema["properties"]["metadata"] = {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
            }
            return closed(schema)
    return {"not": {}, "description": f"no CRD for {api_version} {kind}"}


def check_kuberay(root: Path) -> list[str]:
    """Ray resources against the operator's CRDs, as they are written and with all patches."""
    folder = Path(os.environ.get("GENPIPE_DATA", "")) / "kuberay-crds"
    if not os.environ.get("GENPIPE_DATA") or not folder.is_dir():
        raise Skipped("KubeRay's CRDs are not here (folder kuberay-crds in $GENPIPE_DATA)")
    rendered, problems = run_tool("kubectl", "kustomize", "infra/k8s", root=root)
    patched = [("as rendered", document) for document in yaml.safe_load_all(rendered)]
    for name, document in [*manifests(root), *patched]:
        if not document["apiVersion"].startswith("ray.io/"):
            continue
        schema = kuberay_schema(folder, document["kind"], document["apiVersion"])
        for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
            problems.append(f"infra/k8s/{name}: {'.'.join(map(str, error.path))}: {error.message}")
    return problems


def check_consistency(root: Path) -> list[str]:
    """Compose, Kubernetes and prefect.yaml name the same images, ports, environment and secrets."""
    compose, problems = compose_model(root)
    rendered, more = run_tool("kubectl", "kustomize", "infra/k8s", root=root)
    if problems or more:
        return ["not compared: compose.yaml or kustomization.yaml cannot be read (above)"]
    return consistency.compare(root, compose, [doc for doc in yaml.safe_load_all(rendered) if doc])


def check_images(root: Path) -> list[str]:
    """Every image by digest, or with a reason."""
    rendered, problems = run_tool("kubectl", "kustomize", "infra/k8s", root=root)
    return problems or images.check(root, list(yaml.safe_load_all(rendered)))


CHECKS: dict[str, Callable[[Path], list[str]]] = {
    "yamllint": check_yaml,
    "hadolint": check_dockerfile,
    "docker-compose": check_compose,
    "kustomize": check_kustomization,
    "kubernetes": check_kubernetes,
    "kuberay": check_kuberay,
    "consistency": check_consistency,
    "images": check_images,
}


def main(root: Path, names: list[str]) -> int:
    """Run the named checks; 1 when any complains."""
    failed = False
    for name in names:
        try:
            problems = CHECKS[name](root)
        except Skipped as reason:
            print(f"infra: {name:<15} skipped: {reason}")
            continue
        print(f"infra: {name:<15} {'FAILED' if problems else 'ok'}")
        for problem in problems:
            print(f"  {problem}")
        failed = failed or bool(problems)
    return int(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check infra/ offline.")
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).parent.parent, help="repository to look at"
    )
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), help="some checks only")
    arguments = parser.parse_args()
    sys.exit(main(arguments.root.resolve(), arguments.only))
