"""The Ray that a command starts for itself: behind a token, on loopback, its sockets in a folder of the user.

Whoever speaks to a Ray runs code as its owner. Three locks keep others out, each sufficient for some of them:

- a random token per Ray, in this process's memory and its children's environment, never on a command line or
  in a file: Ray's servers refuse every call without it, also from other users of this machine;
- loopback: Ray replaces 127.0.0.1 by the outward address and then listens on every interface, unless it is
  told that clusters are not wanted; the variable for that is named after the systems where it is the default;
- a temporary folder inside one of mode 0700: Ray makes its own 0777, where others could move its sockets.

What Ray's token does not cover (gloo and NCCL between training workers) is bound to loopback as well, and
checks the token itself: genpipe/training/distributed.py.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys

from genpipe.private import Scratch
from genpipe.settings import Settings
from genpipe.stages.ray_internals import forget_token, ray_constants

TOKEN_BYTES = 32
OBJECT_STORE_BYTES = 256 * 2**20
# the longest socket below the temporary folder, with a process id of seven digits
_SOCKET = "/r/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_NICENESS = "RAY_worker_niceness"
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


class EmbeddedRay:
    """A running Ray of this process's own; `stop` ends it and leaves the environment as it was."""

    def __init__(self, settings: Settings) -> None:
        self._scratch = Scratch("ray", room=len(_SOCKET))
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        self._before = _set(
            {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(TOKEN_BYTES),
                "RAY_AUTH_TOKEN_PATH": None,
                _CLUSTERS: "0",
                "GLOO_SOCKET_IFNAME": loopback,
                "NCCL_SOCKET_IFNAME": loopback,
                # of 15, the default, they stand still beside anything else that runs on the machine
                _NICENESS: os.environ.get(_NICENESS, "0"),
            }
        )
        try:
            self._start(settings)
        except BaseException:
            self.stop()
            raise

    def _start(self, settings: Settings) -> None:
        import ray

        # read from the environment when ray is imported, which may have been before
        self._clusters = ray_constants().ENABLE_RAY_CLUSTER
        ray_constants().ENABLE_RAY_CLUSTER = False
        forget_token()
        ray.init(
            address="local",
            num_cpus=settings.cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(self._scratch.path / "r"),
        )

    def stop(self) -> None:
        import ray

        ray.shutdown(wait_for_processes=True)
        ray_constants().ENABLE_RAY_CLUSTER = self._clusters
        _set(self._before)
        forget_token()
        self._scratch.remove()


def _set(wanted: dict[str, str | None]) -> dict[str, str | None]:
    """Set or, with None, remove environment variables; returns what they were."""
    before = {name: os.environ.get(name) for name in wanted}
    for name, value in wanted.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return before
