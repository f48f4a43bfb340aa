"""A wire to a server that can be made to fail: it passes bytes on, hangs, trickles, cuts or resets."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Literal

Fault = Literal["none", "hangs", "trickles", "cut", "reset"]
CUT_AFTER = 1000  # bytes of a piece of an answer


class Wire:
    """Listens on `port` and connects each caller with `to`. fault: of all that passes from now on."""

    def __init__(self, to: int) -> None:
        self.to, self.calls = to, 0
        self.fault: Fault = "none"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self.listener.accept()
                self.calls += 1
                server = socket.create_connection(("127.0.0.1", self.to))
                for work, ends in ((self._ask, (caller, server)), (self._answer, (server, caller))):
                    threading.Thread(target=work, args=ends, daemon=True).start()

    def _ask(self, caller: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := caller.recv(65_536):
                if self.fault == "reset":
                    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                server.sendall(data)
        for end in (caller, server):
            with suppress(OSError):
                end.close()

    def _answer(self, server: socket.socket, caller: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if self.fault == "hangs":
                    continue
                if self.fault == "cut" and len(data) > CUT_AFTER:
                    caller.sendall(data[:CUT_AFTER])
                    caller.shutdown(socket.SHUT_RDWR)
                    break
                if self.fault == "trickles":
                    for byte in data:
                        caller.sendall(bytes([byte]))
                        time.sleep(0.5)
                else:
                    caller.sendall(data)
