"""Who is killed for standing still: that process, and no later one of its number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from genpipe.stages.heartbeat import _born, kill_silent


def test_a_process_is_killed_only_if_it_is_the_one_that_was_heard_last() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        born = _born(process.pid)
        assert born and born != _born(os.getpid())
        process.send_signal(signal.SIGSTOP)
        assert not kill_silent(process.pid, "an earlier one")
        assert process.poll() is None
        assert kill_silent(process.pid, born)
        assert process.wait(10) == -signal.SIGKILL
    assert _born(process.pid) == ""
    assert not kill_silent(process.pid, born)
