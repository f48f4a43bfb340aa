"""The supply chain: a changed wheel, a vulnerable or unfree package, a database that does not answer."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "infra"))  # a folder of scripts, not a package

import audit  # noqa: E402
import audit_advisories  # noqa: E402
import audit_licences  # noqa: E402
import audit_locks  # noqa: E402
import audit_sbom  # noqa: E402

LOCKED = audit_locks.read_locks(ROOT)
POLICY: dict[str, Any] = tomllib.loads((ROOT / "infra/audit.toml").read_text())
TORCH = next(package for package in LOCKED if package.name == "torch" and package.group == "run")


def advisory(name: str, fixed: str | None, **more: Any) -> dict[str, Any]:
    """An OSV record about all versions of a package before `fixed`."""
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    affected = {
        "package": {"ecosystem": "PyPI", "name": name},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    return {"id": "TEST-2026-1", "modified": "2026-11-01T00:00:00Z", "affected": [affected], **more}


def listing(ecosystem: str, version: str) -> dict[str, Any]:
    """An OSV record that lists one version of torch."""
    return {
        "id": "T",
        "affected": [{"package": {"ecosystem": ecosystem, "name": "torch"}, "versions": [version]}],
    }


# --- a changed torch wheel ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that serves wheels of the right name and version with other contents."""
    folder = tmp_path_factory.mktemp("mirror")
    for version in (TORCH.version, f"{TORCH.version}+cpu"):
        info = f"torch-{version}.dist-info"
        files = {
            "torch/__init__.py": "raise SystemExit('poisoned')",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        rows = [
            f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},"
            for name, text in files.items()
        ]
        files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
        with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
            for name, text in files.items():
                wheel.writestr(name, text)
    return folder


def commands_that_install_torch() -> list[list[str]]:
    """The lines of infra/setup.sh themselves, so that one without hashes is tried as it stands."""
    script = (ROOT / "infra/setup.sh").read_text().replace("\\\n", " ")
    lines = re.findall(r"^\s*quietly (.* (?:-r|--requirement) \S*torch\S*)$", script, re.MULTILINE)
    return [line.replace('"', "").split() for line in lines if "--dry-run" not in line]


@pytest.mark.parametrize("command", commands_that_install_torch(), ids=lambda words: Path(words[-1]).name)
def test_a_changed_torch_is_refused(command: list[str], poisoned: Path, tmp_path: Path) -> None:
    name = Path(command[-1]).name
    pins = (ROOT / "infra" / name.replace("-cpu", "")).read_text()
    if name == "torch-cpu.txt":  # as infra/setup.sh makes it
        pins = re.sub(r"^torch==[^ ]*", r"\g<0>+cpu", pins, flags=re.MULTILINE)
    if (
        name == "torch-cuda.txt"
    ):  # the folder has none of NVIDIA's packages; torch's own entry is the question
        pins = next(part for part in re.split(r"\n(?=\S)", pins) if part.startswith("torch="))
    (tmp_path / name).write_text(pins + "\n")
    tools = {"$venv/bin/python": sys.executable, "$venv/bin/uv": str(Path(sys.executable).parent / "uv")}
    words = [tools.get(word, word) for word in command[:-1] if not word.startswith("--torch-backend=")]
    words += [name, "--no-index", "--find-links", str(poisoned), "--target", "site"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}  # no other place has a true torch
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=clean)
    assert not (tmp_path / "site/torch").exists(), "the poisoned wheel was installed"
    assert done.returncode != 0
    assert re.search("(?i)hash mismatch|do not match the hashes|no matching distribution", done.stderr), (
        done.stderr
    )


def test_every_way_to_install_torch_was_tried() -> None:
    tried = {Path(command[-1]).name for command in commands_that_install_torch()}
    assert tried == {"torch.txt", "torch-cpu.txt", "torch-cuda.txt"}
    dockerfile = (ROOT / "infra/Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install [^&;\n]*torch\S*\.txt", dockerfile)
    assert len(installs) == 2 and all("--require-hashes" in command for command in installs)


def test_both_torch_files_name_one_version_that_pyproject_allows() -> None:
    versions = {package.version for package in LOCKED if package.name == "torch"}
    assert versions == {TORCH.version}
    assert "torch>=2.13,<2.14" in (ROOT / "pyproject.toml").read_text() and TORCH.version.startswith("2.13.")


# --- known vulnerabilities ----------------------------------------------------------------------------------


@pytest.fixture
def database() -> Iterator[tuple[str, set[str]]]:
    """An OSV server on loopback that knows one flaw, of jinja2 before 99; and whom it was asked about."""
    asked: set[str] = set()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
            asked.add(name)
            record = advisory(name, "99", aliases=["CVE-2026-0001"], details="", references=[])
            body = json.dumps({"vulns": [record]} if name == "jinja2" else {}).encode()
            self.send_response(200 if self.path == "/v1/query" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_known_flaw_of_a_locked_package_is_found(database: tuple[str, set[str]]) -> None:
    some = [package for package in LOCKED if package.name in ("jinja2", "torch", "ruff", "triton")]
    found = audit_advisories.ask(some, f"--osv-url={database[0]}/v1/query")
    assert database[1] == {"jinja2", "torch", "ruff", "triton"}
    assert len(found) == 1 and found[0].startswith("jinja2 ") and found[0].endswith("fixed in 99")
    assert {"TEST-2026-1", "CVE-2026-0001"} <= set(found[0].replace(";", "").split())


@pytest.mark.slow
def test_the_database_is_asked_about_every_locked_package(database: tuple[str, set[str]]) -> None:
    assert len(audit_advisories.ask(LOCKED, f"--osv-url={database[0]}/v1/query")) == 1
    assert database[1] == {package.name for package in LOCKED}


def test_a_database_that_refuses_is_not_called_success(database: tuple[str, set[str]]) -> None:
    with pytest.raises(audit_advisories.NotChecked, match="cannot be reached"):
        audit_advisories.ask(LOCKED[:1], f"--osv-url={database[0]}/elsewhere")


@pytest.mark.slow
def test_a_database_out_of_reach_is_not_called_success(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "infra/audit.py"), "--sbom", str(tmp_path / "sbom.json")]
    command += ["--osv-url=http://127.0.0.1:9/v1/query"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == audit.NOT_CHECKED == 4, done.stdout + done.stderr
    assert "vulnerabilities NOT CHECKED" in done.stdout and "cannot be reached" in done.stdout


def test_skipped_packages_are_not_called_success() -> None:
    """pip-audit ends with 0 and "No known vulnerabilities found" when an index knows no package at all."""
    answer = {"dependencies": [{"name": p.name, "skip_reason": "not found"} for p in LOCKED], "fixes": []}
    with pytest.raises(
        audit_advisories.NotChecked, match=f"did not answer for {len({p.name for p in LOCKED})} of"
    ):
        audit_advisories.findings(json.dumps(answer), LOCKED)


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (advisory("Torch", None), True),
        (advisory("torch", "2.13.0"), False),
        (advisory("torch", "2.14"), True),
        (advisory("torch", None, withdrawn="2026-11-02T00:00:00Z"), False),
        (advisory("unrelated-package", None), False),
        (listing("npm", "2.13.0"), False),
        (listing("PyPI", "2.13"), True),
    ],
)  # fmt: skip
def test_a_copy_of_the_database_is_read_as_osv_says(
    record: dict[str, Any], found: bool, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("TEST.json", json.dumps(record))
        archive.writestr("OTHER.json", json.dumps(advisory("nobody-locks-this", None)))
    lines, source = audit_advisories.look_up(LOCKED, tmp_path / "all.zip")
    assert bool(lines) == found and "advisories in" in source


def test_an_empty_copy_of_the_database_is_not_called_success(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    for path in (tmp_path / "none.json", tmp_path / "missing.zip"):
        with pytest.raises(audit_advisories.NotChecked):
            audit_advisories.look_up(LOCKED, path)


def test_a_finding_fails_and_an_accepted_one_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "osv.json").write_text(json.dumps(advisory("torch", None)))
    assert audit.check_vulnerabilities(LOCKED, {}, tmp_path / "osv.json") == audit.FOUND
    accepted = {"vulnerabilities": [{"id": "TEST-2026-1", "reason": "not reachable"}]}
    assert audit.check_vulnerabilities(LOCKED, accepted, tmp_path / "osv.json") == 0
    assert "accepted: torch" in capsys.readouterr().out
    stale = {"vulnerabilities": [{"id": "TEST-1999-9", "reason": "gone"}]}
    assert audit.check_vulnerabilities(LOCKED[:1], stale, tmp_path / "osv.json") == audit.FOUND


# --- licences -----------------------------------------------------------------------------------------------


def test_every_licence_is_allowed_or_has_a_reason() -> None:
    assert audit_licences.check_licences(LOCKED, POLICY["licences"])[0] == []


@pytest.mark.parametrize(
    ("name", "licence", "excepted", "complaint"),
    [
        ("numpy", "BUSL-1.1", False, "BUSL-1.1 is not allowed"),
        ("numpy", "Elastic-2.0", False, "Elastic-2.0 is not allowed"),
        ("numpy", "SSPL-1.0 AND MIT", False, "is not allowed"),
        ("numpy", "Commons Clause", False, "is not allowed"),
        ("numpy", "AGPL-3.0-only", True, "no exception is possible"),
        ("numpy", "GPL-3.0-or-later AND MIT", True, "no exception is possible"),
        ("ruff", "GPL-3.0-only", False, "is not allowed"),
        ("ruff", "GPL-3.0-only", True, None),
        ("numpy", "MIT OR GPL-3.0-only", False, None),
    ],
)  # fmt: skip
def test_unfree_licences_are_refused(name: str, licence: str, excepted: bool, complaint: str | None) -> None:
    policy = POLICY["licences"] | {"declared": POLICY["licences"]["declared"] | {name: licence}}
    if excepted:
        policy["exceptions"] = policy["exceptions"] | {name: "a reason"}
    problems = [
        line for line in audit_licences.check_licences(LOCKED, policy)[0] if line.startswith(f"{name} ")
    ]
    assert bool(problems) == bool(complaint) and (complaint or "") in "\n".join(problems)


def test_silence_and_needless_exceptions_are_reported() -> None:
    policy = POLICY["licences"] | {"exceptions": {"numpy": "not needed"}}
    stranger = replace(LOCKED[0], name="no-such-package")
    problems = "\n".join(audit_licences.check_licences([stranger], policy)[0])
    assert "no-such-package" in problems and "exception for numpy" in problems


# --- bill of materials --------------------------------------------------------------------------------------


def test_the_sbom_is_valid_and_complete(tmp_path: Path) -> None:
    assert audit_sbom.write_sbom(ROOT, LOCKED, POLICY["licences"], tmp_path / "sbom.json") == []
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    components = {component["name"]: component for component in bill["components"]}
    assert set(components) == {package.name for package in audit_locks.run_time(LOCKED)}
    for package in audit_locks.run_time(LOCKED):
        found = components[package.name]
        assert found["version"] == package.version and found["licenses"]
        assert {one["content"] for one in found["hashes"]} == set(package.hashes)
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in bill["dependencies"]}
    assert f"torch@{TORCH.version}" in edges["genpipe@0.1.0"] and edges[f"torch@{TORCH.version}"]


def test_a_bill_that_its_schema_refuses_is_noticed(tmp_path: Path) -> None:
    wrong = [replace(TORCH, hashes=("not a hash",))]
    assert audit_sbom.write_sbom(ROOT, wrong, POLICY["licences"], tmp_path / "sbom.json")


def test_a_lock_without_a_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "infra").mkdir()
    for name in audit_locks.LOCKS:
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "infra/torch.txt").write_text("# as it was\ntorch==2.13.0\n")
    with pytest.raises(SystemExit, match=r"infra/torch.txt: no version or no hash: 'torch==2.13.0'"):
        audit_locks.read_locks(tmp_path)
