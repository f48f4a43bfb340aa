"""Ports for the servers that tests start."""

from __future__ import annotations

import os
import socket


def free_ports(count: int) -> list[int]:
    """`count` neighbouring ports that are free, and free again 10000 higher, where SeaweedFS listens too."""
    start = 20_000 + (os.getpid() * 16) % 20_000
    for first in range(start, 45_000, count):
        ports = range(first, first + count)
        if all(_is_free(p) and _is_free(p + 10_000) for p in ports):
            return list(ports)
    raise RuntimeError("no free ports between 20000 and 45000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False
