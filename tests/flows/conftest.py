"""One embedded Prefect for the flow tests, and one home they share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def flow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A GENPIPE_HOME for the whole folder: starting Prefect costs seconds."""
    folder = tmp_path_factory.mktemp("flows") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "GENPIPE_STORE",
            "MLFLOW_TRACKING_URI",
            "RAY_ADDRESS",
            "GENPIPE_DEVICE",
            "PREFECT_API_URL",
        ):
            patch.delenv(name, raising=False)
        patch.setenv("GENPIPE_HOME", str(folder))
        patch.setenv("GENPIPE_CPUS", "2")
        yield folder


@pytest.fixture(scope="session")
def api(flow_home: Path) -> Iterator[Path]:
    """Flows run here, against the embedded server."""
    from genpipe.flows.embedded import prefect_api

    with prefect_api():
        yield flow_home


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of each function that checked a whole spec, once for each time it did."""
    from genpipe.pipeline import reading
    from genpipe.related import spec

    made: list[str] = []

    def counted(module: Any, name: str) -> None:
        real = getattr(module, name)

        def check(*given: Any, **more: Any) -> Any:
            made.append(name)
            return real(*given, **more)

        monkeypatch.setattr(module, name, check)

    counted(reading, "check_spec")
    counted(spec, "check_tables")
    return made
