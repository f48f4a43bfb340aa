"""Each role's key against every prefix of the store: what infra/s3.example.json grants, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def load(name: str, path: Path) -> ModuleType:
    """A module by its path: infra/ is no package, and several folders have a conftest."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


shared = load("shared_conftest", ROOT / "tests/conftest.py")
IDENTITIES = json.loads((ROOT / "infra/s3.example.json").read_text())["identities"]
# what each may do below lake/genpipe: r reads and lists, w writes and deletes as well
ROLES: dict[str, dict[str, str]] = {
    "ingest": {"datasets": "rw"},
    "train": dict.fromkeys(("datasets", "runs", "studies", "tables", "models", "registry"), "rw"),
    "generate": {"models": "rw", "generated": "rw"},
    "consume": {"generated": "r"},
}
PREFIXES = ("datasets", "runs", "studies", "tables", "models", "registry", "generated", "elsewhere")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server that knows the example's roles, each with its name as its key; its address."""
    shared.weed()
    with pytest.MonkeyPatch.context() as patch:
        roles = {one["name"]: one["actions"] for one in IDENTITIES if one["name"] in ROLES}
        patch.setattr(shared, "RIGHTS", shared.RIGHTS | roles)
        address = f"http://127.0.0.1:{shared.free_ports(4)[0]}"
        running = shared.S3Server(tmp_path_factory.mktemp("roles"), {"AWS_ENDPOINT_URL": address})
        try:
            running.start()
            for prefix in PREFIXES:
                client(address, shared.KEY).put_object(
                    Bucket="lake", Key=f"genpipe/{prefix}/secret", Body=b"1"
                )
            yield address
        finally:
            running.kill()


def client(address: str, key: str | None) -> Any:
    """A client with a role's key, or with none."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(signature_version=None if key else UNSIGNED, retries={"max_attempts": 1})
    return boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", config=config,
        aws_access_key_id=key, aws_secret_access_key=shared.SECRET if key else None,
    )  # fmt: skip


def allowed(s3: Any, prefix: str) -> str:
    """What the server lets this client do below a prefix: "", "r", "w" or "rw"."""
    from botocore.exceptions import ClientError

    key = f"genpipe/{prefix}/secret"
    attempts = {
        "read": lambda: s3.get_object(Bucket="lake", Key=key),
        "list": lambda: s3.list_objects_v2(Bucket="lake", Prefix=f"genpipe/{prefix}/"),
        "write": lambda: s3.put_object(
            Bucket="lake", Key=f"genpipe/{prefix}/new", Body=b"1", IfNoneMatch="*"
        ),
        "replace": lambda: s3.put_object(Bucket="lake", Key=key, Body=b"2"),
        "delete": lambda: s3.delete_object(Bucket="lake", Key=f"genpipe/{prefix}/new"),
    }
    done = set()
    for name, attempt in attempts.items():
        try:
            attempt()
            done.add(name)
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403, error
    assert {"read", "list"} <= done or not {"read", "list"} & done, done
    assert {"write", "replace", "delete"} <= done or not {"write", "replace", "delete"} & done, done
    return ("r" if "read" in done else "") + ("w" if "write" in done else "")


@pytest.mark.slow
@pytest.mark.parametrize("role", [*ROLES, None])
def test_a_role_reaches_its_own_prefixes_and_no_other(role: str | None, server: str) -> None:
    found = {prefix: allowed(client(server, role), prefix) for prefix in PREFIXES}
    assert {prefix: what for prefix, what in found.items() if what} == (ROLES[role] if role else {})


def test_no_role_has_a_key_until_somebody_makes_one() -> None:
    for one in IDENTITIES:
        if one["name"] in ROLES:
            assert one["credentials"] == [], f"{one['name']}: a key that everybody can read here"
    assert {one["name"] for one in IDENTITIES} == {"admin", "genpipe", "mlflow", *ROLES}


@pytest.mark.slow
def test_a_key_left_from_the_example_stops_the_start(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = load("prepare_store", ROOT / "infra/prepare_store.py")
    pairs = {pair["accessKey"]: pair["secretKey"] for one in IDENTITIES for pair in one["credentials"]}
    assert pairs == prepare.EXAMPLE_KEYS
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    prepare.check_no_example_key()  # the store of this test has none of them
    monkeypatch.setattr(prepare, "EXAMPLE_KEYS", {"consume": shared.SECRET})
    with pytest.raises(SystemExit, match="still has the key consume"):
        prepare.check_no_example_key()


def test_the_documented_roles_are_the_ones_of_the_example() -> None:
    text = (ROOT / "docs/security.md").read_text()
    for role, rights in ROLES.items():
        row = re.search(rf"^\| \*\*{role}\*\*[^|]*\|([^|]*)\|([^|]*)\|", text, re.MULTILINE)
        assert row is not None, f"docs/security.md has no row for {role}"
        reads, writes = (set(re.findall(r"`(\w+)/`", cell)) for cell in row.groups())
        assert reads == set(rights), role
        assert writes == {prefix for prefix, what in rights.items() if "w" in what}, role
