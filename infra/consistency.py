"""Do compose.yaml, infra/k8s and prefect.yaml describe one and the same system?

They cannot share a file, so this compares them after their own tools have read them: images, ports,
environment, secrets, network policies, and that every part asks who is there. Used by infra/validate.py.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import gpu_group
import yaml

# What genpipe's own processes must be told everywhere; README.md of this folder explains each.
ENVIRONMENT = (
    "GENPIPE_STORE",
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_URL",
    "PREFECT_API_AUTH_STRING",
    "RAY_ADDRESS",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "MLFLOW_S3_ENDPOINT_URL",
)
POOL, POOL_TYPE = "genpipe", "process"
SAME_PLACE = {"postgres": "postgres", "s3": "s3", "store-init": "store-init", "mlflow": "mlflow"}
SAME_PLACE |= {"prefect-server": "prefect-server", "worker": "worker", "ray-head": "ray", "ray-worker": "ray"}
OWN_NAME = {"RAY_ADDRESS"}  # KubeRay names its service itself; only the port must agree


def example_variables(root: Path) -> list[str]:
    """Names in .env.example."""
    return re.findall(r"^([A-Z0-9_]+)=", (root / "infra/.env.example").read_text(), re.MULTILINE)


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod template by its `app` label. Ray's head and workers share one, and their image and environment; for
    those with a GPU, which compose does not have, see gpu_group.py.
    """
    templates = []
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "RayCluster":
            templates += [
                spec["headGroupSpec"]["template"],
                *(
                    group["template"]
                    for group in spec["workerGroupSpecs"]
                    if group["groupName"] != gpu_group.NAME
                ),
            ]
        elif "template" in spec:
            templates.append(spec["template"])
    return {template["metadata"]["labels"]["app"]: template["spec"] for template in templates}


def environment(pod: dict[str, Any], documents: list[dict[str, Any]]) -> dict[str, str | None]:
    """Variables of a pod's container; None for a value taken from a Secret or built from one."""
    maps = {doc["metadata"]["name"]: doc["data"] for doc in documents if doc["kind"] == "ConfigMap"}
    container = pod["containers"][0]
    found: dict[str, str | None] = {}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]
    for variable in container.get("env", []):
        value = variable.get("value")
        found[variable["name"]] = None if value is None or "$(" in value else value
    return found


def compare_images(root: Path, compose: dict[str, Any], found: dict[str, dict[str, Any]]) -> list[str]:
    problems = []
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    for service, app in SAME_PLACE.items():
        if service not in compose["services"] or app not in found:
            problems.append(f"images: compose service {service!r} or Kubernetes app {app!r} is missing")
            continue
        ours, theirs = compose["services"][service]["image"], found[app]["containers"][0]["image"]
        if ours != theirs:
            problems.append(f"images: {service} is {ours} in compose.yaml and {theirs} in infra/k8s")
        if ours.startswith("genpipe:") and ours != f"genpipe:{version}":
            problems.append(f"images: {service} is {ours}, pyproject.toml has version {version}")
    return problems


def compare_environment(
    compose: dict[str, Any], found: dict[str, dict[str, Any]], documents: list[dict[str, Any]]
) -> list[str]:
    problems = []
    for service in ("worker", "mlflow", "prefect-server", "store-init"):
        ours = compose["services"][service]["environment"]
        theirs = environment(found[SAME_PLACE[service]], documents)
        for name in sorted(set(ours) - set(theirs) - {"PREFECT_UI_API_URL"}):
            problems.append(f"environment: {service} has {name} in compose.yaml and not in infra/k8s")
        # Kubernetes builds an address with a password in it from a variable of its own; compose interpolates.
        for name in sorted(set(theirs) - set(ours) - {"MLFLOW_DB_PASSWORD", "PREFECT_DB_PASSWORD"}):
            problems.append(f"environment: {service} has {name} in infra/k8s and not in compose.yaml")
        for name, value in theirs.items():
            if value is not None and name in ours and ours[name] != value and name not in OWN_NAME:
                problems.append(
                    f"environment: {service}: {name} is {ours[name]!r} in compose.yaml, "
                    f"{value!r} in infra/k8s"
                )
        if service == "worker":
            problems += [f"environment: worker lacks {name}" for name in ENVIRONMENT if name not in ours]
    return problems


def compare_ports(
    compose: dict[str, Any], found: dict[str, dict[str, Any]], documents: list[dict[str, Any]]
) -> list[str]:
    """Every address names a Service and its port, every Service a policy that lets its clients in."""
    problems = []
    services = {
        doc["metadata"]["name"]: {port["port"] for port in doc["spec"]["ports"]}
        for doc in documents
        if doc["kind"] == "Service"
    }
    services["ray-head"] = services["genpipe-ray-head-svc"] = {
        6379
    }  # compose's name and the one KubeRay makes
    texts = [
        str(value)
        for service in compose["services"].values()
        for value in service.get("environment", {}).values()
    ]
    texts += [value or "" for pod in found.values() for value in environment(pod, documents).values()]
    for host, port in sorted(
        set(re.findall(r"(?:^|//|@)([a-z][a-z0-9-]*):(\d+)", "\n".join(texts), re.MULTILINE))
    ):
        if int(port) not in services.get(host, set()):
            problems.append(
                f"ports: an environment names {host}:{port}, no Service in infra/k8s has that port"
            )
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                problems.append(f"ports: compose publishes {name}:{port['target']} beyond loopback")
            if port["target"] not in services.get(name, set()):
                problems.append(
                    f"ports: compose publishes {name}:{port['target']}, the Service has {services.get(name)}"
                )
    entrances = {
        (doc["spec"]["podSelector"].get("matchLabels", {}).get("app"), port["port"])
        for doc in documents
        if doc["kind"] == "NetworkPolicy"
        for rule in doc["spec"].get("ingress", [])
        for port in rule.get("ports", [])
    }
    for doc in documents:
        if doc["kind"] == "Service":
            for port in doc["spec"]["ports"]:
                if (doc["spec"]["selector"]["app"], port["port"]) not in entrances:
                    problems.append(
                        f"ports: no NetworkPolicy lets anyone reach {doc['metadata']['name']}:{port['port']}"
                    )
    return problems


def compare_secrets(root: Path, compose_text: str, found: dict[str, dict[str, Any]]) -> list[str]:
    """Every secret asked for is in an example, and the other way round."""
    problems = []
    asked, offered = set(re.findall(r"\$\{([A-Z0-9_]+)", compose_text)), set(example_variables(root))
    problems += [
        f"secrets: compose.yaml asks for {name}, .env.example lacks it" for name in sorted(asked - offered)
    ]
    problems += [
        f"secrets: .env.example has {name}, compose.yaml never asks" for name in sorted(offered - asked)
    ]
    for match in re.findall(r"\$\{[A-Z0-9_]+(?!:\?)[^A-Z0-9_]", compose_text):
        if not match.endswith(":"):
            problems.append(
                f"secrets: {match}...: write ${{NAME:?...}}, so that compose refuses to start without it"
            )
    examples = yaml.safe_load_all((root / "infra/k8s/secrets.example.yaml").read_text())
    keys = {(doc["metadata"]["name"], key) for doc in examples for key in doc["stringData"]}
    for app, pod in found.items():
        for variable in pod["containers"][0].get("env", []):
            ref = variable.get("valueFrom", {}).get("secretKeyRef")
            if ref and (ref["name"], ref["key"]) not in keys:
                problems.append(f"secrets: {app}: {variable['name']} wants {ref['name']}/{ref['key']}, "
                                "secrets.example.yaml lacks it")  # fmt: skip
    return problems


LOCKS = {  # what a part must be told on its command line or in its environment, so that it asks who is there
    "s3": ("-s3.config=", "-filer.disableHttp"),
    "mlflow": ("basic-auth", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
    "prefect-server": ("PREFECT_SERVER_API_AUTH_STRING",),
    "ray-head": ("RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN", "--include-dashboard=false"),
    "ray-worker": ("RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN"),
    "worker": (
        "RAY_AUTH_MODE=token",
        "RAY_AUTH_TOKEN",
        "PREFECT_API_AUTH_STRING",
        "MLFLOW_TRACKING_PASSWORD",
    ),
}
DOORS = ("--ray-client-server-port", "--dashboard-host=0.0.0.0", "RAY_AUTH_MODE=disabled")
CLOSED_NETWORKS = ("database", "store")


def compare_locks(
    compose: dict[str, Any], found: dict[str, dict[str, Any]], documents: list[dict[str, Any]]
) -> list[str]:
    """Every part asks for a token or password in both descriptions; KubeRay sets Ray's by `authOptions`."""
    problems = []
    for service, locks in LOCKS.items():
        part, container = compose["services"][service], found[SAME_PLACE[service]]["containers"][0]
        theirs = environment(found[SAME_PLACE[service]], documents)
        told = {
            "compose.yaml": _told(part, "entrypoint", part.get("environment", {})),
            "infra/k8s": _told(container, "args", theirs),
        }
        for where, text in told.items():
            by_operator = where == "infra/k8s" and service.startswith("ray-")
            problems += [
                f"locks: {service} in {where} lacks {lock}"
                for lock in locks
                if lock not in text and not by_operator
            ]
            problems += [f"locks: {service} in {where} has {door}" for door in DOORS if door in text]
    for name in CLOSED_NETWORKS:
        if not compose["networks"][name].get("internal"):
            problems.append(f"locks: network {name} in compose.yaml is not internal")
    for doc in documents:
        if doc["kind"] == "RayCluster":
            if doc["spec"].get("authOptions", {}).get("mode") != "token":
                problems.append("locks: the RayCluster in infra/k8s lacks authOptions: {mode: token}")
            if doc["spec"]["headGroupSpec"]["rayStartParams"].get("include-dashboard") != "false":
                problems.append("locks: the RayCluster in infra/k8s starts a dashboard")
    return problems


def _told(part: dict[str, Any], also: str, variables: dict[str, str | None]) -> str:
    """Command line and environment of a part as one text."""
    words = [word for key in ("command", also) for word in _words(part.get(key))]
    return " ".join([*words, *(f"{name}={value}" for name, value in variables.items())])


def _words(command: str | list[str] | None) -> list[str]:
    return [command] if isinstance(command, str) else [str(word) for word in command or []]


def compare_prefect(root: Path, worker: dict[str, str | None]) -> list[str]:
    """prefect.yaml's deployments run in our pool and add no variable the worker is not told."""
    problems = []
    started = re.search(r"--pool (\S+) --type (\S+)", (root / "infra/worker.sh").read_text())
    if started is None or started.groups() != (POOL, POOL_TYPE):
        problems.append(
            f"prefect: infra/worker.sh does not start a worker with --pool {POOL} --type {POOL_TYPE}"
        )
    if not (root / "prefect.yaml").exists():
        return [*problems, "prefect: there is no prefect.yaml"]
    for deployment in yaml.safe_load((root / "prefect.yaml").read_text())["deployments"]:
        pool, name = deployment.get("work_pool") or {}, deployment["name"]
        if pool.get("name") != POOL:
            problems.append(f"prefect: deployment {name} is in work pool {pool.get('name')!r}, not {POOL!r}")
        for key, value in ((pool.get("job_variables") or {}).get("env") or {}).items():
            if key not in worker:
                problems.append(
                    f"prefect: deployment {name} sets {key}, which the worker in infra/ does not have"
                )
            elif worker[key] is not None and "{{" not in str(value) and str(value) != worker[key]:
                problems.append(
                    f"prefect: deployment {name}: {key} is {value!r}, the worker has {worker[key]!r}"
                )
    return problems


def compare(root: Path, compose: dict[str, Any], documents: list[dict[str, Any]]) -> list[str]:
    """All of the above."""
    found = pods(documents)
    problems = compare_images(root, compose, found)
    if problems:
        return problems  # with a service missing the rest would only repeat it
    problems += compare_environment(compose, found, documents)
    problems += compare_ports(compose, found, documents)
    problems += compare_locks(compose, found, documents)
    problems += gpu_group.compare(documents)
    problems += compare_secrets(root, (root / "infra/compose.yaml").read_text(), found)
    return problems + compare_prefect(root, environment(found["worker"], documents))
