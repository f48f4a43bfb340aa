"""Prefect's events, of which there is one worker a process."""

from __future__ import annotations

import threading

SETTLE_SECONDS = 10


def settle() -> None:
    """Wait until Prefect's events, by which task runs are recorded, have reached the server that is to go.

    The worker that sends them is one a process and keeps its first address: left as it is, it would send
    those of the next run to a server that is gone, at seven seconds each, and the process would not end
    before. Drained, it makes room for a new one. In a thread, since a notebook's own runs an event loop.
    """
    from prefect.events.worker import EventsWorker

    def drain() -> None:
        EventsWorker.drain_all(timeout=SETTLE_SECONDS)

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    thread.join(2 * SETTLE_SECONDS)
