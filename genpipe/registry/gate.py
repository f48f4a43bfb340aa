"""What stands before MLflow's scoring server: requests are read within a limit, checked, and take turns.

MLflow reads a request whole, repeats it in errors together with a stack trace, drops parameters that it does
not know, runs as many requests as it has threads, and goes on when the client has gone. It has no setting for
any of this; but it makes its FastAPI application right after loading the model, so the model can see to it
that this application gets one more middleware.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import HTTP_STATUS_TO_ERROR_CODE, MlflowException

from genpipe.registry.serving import answering, gone, shortened
from genpipe.settings import serve_limits

if TYPE_CHECKING:
    from genpipe.registry.serving import Served

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SERVER = "mlflow.pyfunc.scoring_server.app"
SMALL = 1  # blocks, which two rows cost too; requests for more take turns
AT_ONCE, WAITING, INSIDE = 2, 16, 64  # large requests at work and in the queue, requests of any size
TURN_SECONDS = 0.05
PASSED_OVER = 16  # times the bytes allowed


def guard(model: Served) -> None:
    """Put a Gate before the scoring server that is loading this model; elsewhere nothing happens."""
    if SERVER not in sys.modules:
        return
    import fastapi
    from starlette.middleware import Middleware

    plain = fastapi.FastAPI

    class Guarded(plain):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **options: Any) -> None:
            fastapi.FastAPI = plain  # type: ignore[misc]
            super().__init__(*args, middleware=[Middleware(Gate, model=model)], **options)

    fastapi.FastAPI = Guarded  # type: ignore[misc]


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


class Gate:
    """ASGI middleware for /invocations."""

    def __init__(self, app: Any, *, model: Served) -> None:
        self.app, self.model = app, model
        self.inside = self.waiting = self.running = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != "/invocations":
            return await self.app(scope, receive, send)
        self.inside += 1
        try:
            if self.inside > INSIDE:
                raise _busy(f"{INSIDE} requests are being answered")
            await self._answer(scope, receive, send)
        except Refusal as refusal:
            await _reply(send, refusal.status, refusal.message)
        finally:
            self.inside -= 1

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            raise Refusal(415, "[E-TYPE] a request that is not application/json; send JSON")
        body = await _read(receive, serve_limits().bytes)
        if body is None:
            return
        try:
            with answering():
                large = self.model.weigh_body(body) > SMALL
        except MlflowException as error:
            raise Refusal(error.get_http_status_code(), error.message) from None
        event = threading.Event()
        watcher = asyncio.create_task(_watch(receive, event))
        gone.set(event)  # MLflow's thread copies this context
        try:
            if not large:
                return await self.app(scope, _replay(body, watcher), _tidy(send))
            if not await self._turn(event):
                return
            try:
                await self.app(scope, _replay(body, watcher), _tidy(send))
            finally:
                self.running -= 1
        finally:
            event.set()
            watcher.cancel()

    async def _turn(self, event: threading.Event) -> bool:
        """Wait for one of few places; False if the client goes first."""
        if self.waiting >= WAITING:
            raise _busy(f"{WAITING} large requests are waiting")
        self.waiting += 1
        try:
            while self.running >= AT_ONCE:
                if event.is_set():
                    return False
                await asyncio.sleep(TURN_SECONDS)
        finally:
            self.waiting -= 1
        self.running += 1
        return True


def _busy(found: str) -> Refusal:
    return Refusal(503, f"[E-BUSY] {found}; try again later")


async def _read(receive: Receive, most: int) -> bytes | None:
    """The request's body; None if the client goes before its end. Of a longer one the rest is passed over
    for a while: a client that still sends does not see a reply.
    """
    body, size, more = bytearray(), 0, True
    while more and size <= PASSED_OVER * most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > most:
            body.clear()
        else:
            body += part
    if size > most:
        expected = f"at most {most} (GENPIPE_SERVE_MAX_BYTES of the server)"
        raise Refusal(413, f"[E-LIMIT] request: more bytes than allowed; expected {expected}")
    return bytes(body)


async def _watch(receive: Receive, event: threading.Event) -> None:
    """Set the event when the client has gone, or MLflow has told it that it took too long."""
    while (await receive())["type"] != "http.disconnect":
        pass
    event.set()


def _replay(body: bytes, watcher: asyncio.Task[None]) -> Receive:
    """The body again, for MLflow; then whatever the watcher sees."""
    told = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        if (message := next(told, None)) is not None:
            return message
        await asyncio.shield(watcher)
        return {"type": "http.disconnect"}

    return receive


def _tidy(send: Send) -> Send:
    """Replies as they are; errors short, and without the request and the stack trace that MLflow adds."""
    held: list[Message] = []

    async def tidied(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            held.append(message)
        elif not held:
            await send(message)
        else:
            held.append(message)
            if not message.get("more_body", False):
                body = b"".join(part.get("body", b"") for part in held[1:])
                await _reply(send, held[0]["status"], _message(body))

    return tidied


def _message(body: bytes) -> str:
    try:
        told = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        told = body.decode(errors="replace")
    return shortened(str(told).rsplit("\nError: ", 1)[-1])


async def _reply(send: Send, status: int, message: str) -> None:
    usual = "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR"
    told = {"error_code": HTTP_STATUS_TO_ERROR_CODE.get(status, usual), "message": message}
    body = json.dumps(told).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
