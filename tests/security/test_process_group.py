"""Training workers on one machine: no rendezvous port, and a rank without the secret is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

RANK = """
import sys
from genpipe.training.distributed import Ranks, join_through_file
rank, path, secret = int(sys.argv[1]), sys.argv[2], sys.argv[3]
join_through_file(rank, 2, backend="gloo", path=path, timeout_s=60)
try:
    Ranks.current().check_peers(secret)
    print("trusted", flush=True)
except RuntimeError as error:
    print(error, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the loopback interface is called lo")
@pytest.mark.parametrize("other", ["one secret", "another"])
def test_a_rank_without_the_secret_is_sent_no_gradients(tmp_path: Path, other: str) -> None:
    import os

    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "ranks"), secret],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for rank, secret in enumerate(["one secret", other])
    ]  # fmt: skip
    try:
        told = [rank.stdout.readline().strip() for rank in ranks if rank.stdout]
        heard = [
            connection.laddr.ip
            for rank in ranks
            for connection in psutil.Process(rank.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    if other == "one secret":
        assert told == ["trusted", "trusted"]
    else:
        assert told == [f"rank {rank} of 2 does not know this run's secret" for rank in (1, 0)]
    assert set(heard) <= {"127.0.0.1", "::ffff:127.0.0.1"}
