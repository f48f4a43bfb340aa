"""Every training test runs on one thread: the machine's cores belong to other tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny_game import source

__all__ = ["one_thread", "source"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
