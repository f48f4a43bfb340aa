"""A search whose trials are killed: no verdict on their recipes, a clear error, a rerun works."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from small_dataset import small_dataset

import genpipe
from genpipe.errors import InfrastructureError

pytestmark = pytest.mark.faults


def killer(stop: threading.Event) -> None:
    """Ends every process of a trial of this process's Ray as it appears."""
    while not stop.wait(0.05):
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, ProcessLookupError):
                words = " ".join(process.cmdline())
                if words.startswith("ray::") and "IDLE" not in words and "Agent" not in words:
                    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes by name")
def test_trials_that_are_killed_say_nothing_of_their_recipes(
    home: Path, ray_cluster: dict[str, float]
) -> None:
    dataset = small_dataset(str(home / "store/datasets/people"))
    said: list[logging.LogRecord] = []
    screen = logging.Handler(logging.WARNING)  # what Ray hands to its own, which writes to the terminal
    screen.emit = said.append  # type: ignore[method-assign]
    logging.getLogger("ray").addHandler(screen)
    stop = threading.Event()
    thread = threading.Thread(target=killer, args=(stop,), daemon=True)
    thread.start()
    search = {"recipes": ["tabular_vae"], "vary": {"steps": [20, 30]}, "trials": 2}
    try:
        with pytest.raises(
            InfrastructureError, match="trials ended without a word on their recipe"
        ) as caught:
            genpipe.tune(dataset, **search)
    finally:
        stop.set()
        thread.join()
        logging.getLogger("ray").removeHandler(screen)
    assert caught.value.exit_code == 4
    assert not said  # the error names them in its own words
    found = genpipe.tune(dataset, **search)
    states = [t.state for t in found.trials]  # one that lags behind may be stopped
    assert set(states) <= {"finished", "stopped"} and "finished" in states
