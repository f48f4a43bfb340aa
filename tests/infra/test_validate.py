"""A misspelt field anywhere in infra/ fails `infra/validate.py`, which names it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

# check, file, what stands there, the misspelling, and what the complaint must contain
MISSPELT = [
    ("yamllint", "infra/k8s/namespace.yaml", "kind: Namespace", "kind: Namespace\nkind: Namespace", "kind"),
    ("hadolint", "infra/Dockerfile", "COPY --from=build", "COPY --frm=build", "--frm"),
    ("docker-compose", "infra/compose.yaml", "    shm_size: 1g", "    shm_sise: 1g", "shm_sise"),
    ("docker-compose", "infra/.env.example", "RAY_AUTH_TOKEN=", "RAY_AUTH_TOKE=", "RAY_AUTH_TOKEN"),
    ("kustomize", "infra/k8s/kustomization.yaml", "resources:", "resourcess:", "resourcess"),
    ("kustomize", "infra/k8s/kustomization.yaml", "  - s3.yaml\n", "", "s3.yaml"),
    ("kubernetes", "infra/k8s/mlflow.yaml", "readinessProbe:", "readynessProbe:", "readynessProbe"),
    ("kubernetes", "infra/k8s/network-policies.yaml", "policyTypes:", "policyType:", "policyType"),
    ("kubernetes", "infra/k8s/secrets.example.yaml", "stringData:", "stringDatas:", "stringDatas"),
    ("kuberay", "infra/k8s/ray.yaml", "  authOptions:", "  authOption:", "authOption"),
    ("kuberay", "infra/k8s/ray.yaml", "          image: genpipe", "          imag: genpipe", "imag"),
    ("kuberay", "infra/k8s/ray.yaml", 'num-cpus: "2"', "num-cpus: 2", "num-cpus"),
    ("kuberay", "infra/k8s/ray-gpu.yaml", 'num-cpus: "4"', "num-cpus: 4", "num-cpus"),
    ("consistency", "infra/k8s/ray-gpu.yaml", "image: genpipe-cuda:", "image: genpipe:", "genpipe-cuda"),
    (
        "consistency",
        "infra/k8s/ray-gpu.yaml",
        'limits: {cpu: "4", memory: 16Gi, nvidia.com/gpu: "1"}',
        'limits: {cpu: "4", memory: 16Gi}',
        "limit nvidia.com/gpu",
    ),
    (
        "consistency",
        "infra/k8s/ray-gpu.yaml",
        'RAY_USAGE_STATS_ENABLED, value: "0"',
        'RAY_USAGE_STATS_ENABLED, value: "1"',
        "env of the GPU group",
    ),
    ("consistency", "infra/compose.yaml", "seaweedfs:4.48", "seaweedfs:4.47", "seaweedfs:4.47"),
    (
        "consistency",
        "infra/compose.yaml",
        "GENPIPE_STORE: s3://lake",
        "GENPIPE_STOR: s3://lake",
        "GENPIPE_STOR",
    ),
    ("consistency", "infra/k8s/environment.yaml", "mlflow:5000", "mlflow:5001", "mlflow:5001"),
    ("consistency", "infra/k8s/network-policies.yaml", "port: 4200}", "port: 4201}", "prefect-server:4200"),
    ("consistency", "infra/k8s/prefect.yaml", "key: auth-string", "key: auth", "prefect/auth"),
    ("consistency", "infra/compose.yaml", '"127.0.0.1:4200:4200"', '"4200:4200"', "beyond loopback"),
    ("images", "infra/Dockerfile", "@sha256:34386ef0", "@sha256:34386ef", "has no digest"),
    ("images", "infra/k8s/mlflow.yaml", "image: genpipe:", "image: ghost/genpipe:", "ghost/genpipe:"),
    ("images", "infra/compose.yaml", "  image: genpipe:0.1.0", "  image: busybox", "busybox"),
    ("consistency", "prefect.yaml", "name: genpipe", "name: genpip", "genpip"),
    ("consistency", "infra/compose.yaml", "RAY_AUTH_MODE: token", "RAY_AUTH_MODE: disabled", "RAY_AUTH_MODE"),
    ("consistency", "infra/compose.yaml", " --app-name basic-auth", "", "mlflow in compose.yaml lacks"),
    (
        "consistency",
        "infra/compose.yaml",
        " -filer.disableHttp -s3",
        " -s3",
        "s3 in compose.yaml lacks -filer",
    ),
    ("consistency", "infra/compose.yaml", "store: {internal: true}", "store: {}", "network store"),
    ("consistency", "infra/k8s/s3.yaml", "            - -s3.config=/config/s3.json\n", "", "s3 in infra/k8s"),
    ("consistency", "infra/k8s/ray.yaml", "    mode: token\n", "    mode: disabled\n", "authOptions"),
]


def load_validate() -> ModuleType:
    """infra/ is a folder of scripts, not a package."""
    spec = importlib.util.spec_from_file_location("validate", ROOT / "infra/validate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VALIDATE = load_validate()


def problems_of(root: Path, check: str) -> str:
    try:
        return "\n".join(VALIDATE.CHECKS[check](root))
    except VALIDATE.Skipped as reason:
        pytest.skip(str(reason))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the checks look at."""
    ignore = shutil.ignore_patterns("secrets", ".env", "__pycache__")
    shutil.copytree(ROOT / "infra", tmp_path / "infra", ignore=ignore)
    for name in ("pyproject.toml", "prefect.yaml"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "check",
    ["yamllint", "hadolint", "docker-compose", "kustomize", "kubernetes", "kuberay", "consistency", "images"],
)
def test_infra_as_it_is_passes(check: str, tree: Path) -> None:
    assert problems_of(tree, check) == ""


@pytest.mark.parametrize(
    ("check", "file", "right", "wrong", "named"), MISSPELT, ids=lambda value: str(value)[:40]
)
def test_a_misspelling_is_named(
    check: str, file: str, right: str, wrong: str, named: str, tree: Path
) -> None:
    if not (tree / file).exists():
        pytest.skip(f"{file} is not in this checkout")
    text = (tree / file).read_text()
    assert right in text, f"{file} has no {right!r}: the case is out of date"
    (tree / file).write_text(text.replace(right, wrong))
    assert named in problems_of(tree, check)


def test_the_script_fails_and_a_check_that_cannot_run_says_why(tree: Path) -> None:
    (tree / "infra/k8s/namespace.yaml").write_text("kind: [")
    command = [sys.executable, str(ROOT / "infra/validate.py"), "--root", str(tree), "--only"]
    environment = {key: value for key, value in os.environ.items() if key != "GENPIPE_DATA"}
    options = {"capture_output": True, "text": True, "env": environment, "timeout": 120}
    done = subprocess.run([*command, "kuberay", "yamllint"], **options)  # type: ignore[call-overload]
    assert done.returncode == 1
    assert "skipped: KubeRay's CRDs are not here" in done.stdout
    assert "namespace.yaml" in done.stdout
