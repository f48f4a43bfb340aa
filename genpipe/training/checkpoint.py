"""Checkpoints that survive kills, outages and bit rot: safetensors and JSON, committed by a manifest.

    <run>/checkpoints/<attempt>/00000200.safetensors   weights, moving average, moments, best weights so far
    <run>/checkpoints/00000200-<attempt>.json          created last: step, file, sha256, the loop's numbers

A file no manifest names does not exist. Every checkpoint is complete (the best weights travel inside), so
losing one costs some steps and nothing else. Two processes that run the same attempt by mistake write
under different names and cannot spoil each other's. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from genpipe import store
from genpipe.errors import DataError, InfrastructureError, UsageError

KEEP = 2
GRACE_SECONDS = 3600.0
RETRY_SECONDS = (1.0, 3.0, 10.0, 30.0)
MOST_JSON, MOST_BYTES = 2**26, 2**34
DAMAGED = (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError, SafetensorError, DataError)
log = logging.getLogger("genpipe.training")


class Body(BaseModel):
    """What a manifest tells of its file. values: the loop's numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    step: int
    file: str
    bytes: int = Field(ge=0, le=MOST_BYTES)
    sha256: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    name: str
    tensors: dict[str, Tensor]
    values: dict[str, Any]


class Sink(Protocol):
    """Where the loop's checkpoints go."""

    def save(self, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> None: ...
    def newest(self, upto: int | None = None) -> Checkpoint | None: ...
    def wait(self) -> None: ...


class Checkpoints:
    """The checkpoints of one run. `save` returns at once; a thread writes, one checkpoint at a time."""

    def __init__(self, run: str) -> None:
        self.uri = store.join(run, "checkpoints")
        self.attempt = uuid.uuid4().hex[:8]
        self.last = ""
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._known = sorted(n for n in store.listing(self.uri) if n.endswith(".json"))

    def save(self, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Copy the state now and write it in the background; waits for the checkpoint before this one."""
        self.wait()
        copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
        values = json.loads(json.dumps(values))  # a snapshot, and the proof that it is JSON
        self._thread = threading.Thread(target=self._write, args=(step, copies, values), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the last `save` is committed; raises what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def newest(self, upto: int | None = None) -> Checkpoint | None:
        """The newest intact checkpoint, None if there never was one; damaged ones are named in the log.

        upto: those of later steps are forgotten first.
        """
        self.wait()
        if upto is not None:
            self._forget([name for name in self._known if _step_of(name) > upto])
        damaged = []
        for name in reversed(self._known):
            try:
                found = self._read(name)
            except DAMAGED as error:
                damaged.append(name)
                log.warning(
                    "checkpoint %s/%s is damaged (%s); falling back to the one before", self.uri, name, error
                )
                continue
            self.last = name
            self._known = [n for n in self._known if n not in damaged]
            return found
        if damaged:
            raise InfrastructureError(
                "CHECKPOINT",
                where=self.uri,
                found=f"all {len(damaged)} checkpoints are damaged",
                expected="one that matches its sha256",
                fix="restore the folder, or remove it to train again from the start",
            )
        return None

    def sweep(self, *, grace: float = GRACE_SECONDS) -> list[str]:
        """Remove data files no manifest names, `grace` seconds after they were written; returns them."""
        found = store.listing(self.uri)
        named = {_file_of(name) for name in found if name.endswith(".json")}
        newest = max(found.values(), default=0.0)  # the store's clock, not this machine's
        now = newest if "://" in self.uri else max(newest, time.time())
        data = [name for name in found if name.endswith(".safetensors") and name not in named]
        orphans = [name for name in data if now - found[name] >= grace]
        for name in orphans:
            store.remove(store.join(self.uri, name))
        return orphans

    def _write(self, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        data = save(tensors)
        name = f"{step:08d}-{self.attempt}.json"
        file, sha = _file_of(name), hashlib.sha256(data).hexdigest()
        body = {"step": step, "file": file, "bytes": len(data), "sha256": sha, "values": values}
        seal = hashlib.sha256(store.canonical(body)).hexdigest()
        manifest = store.canonical({"body": body, "sha256": seal})
        try:
            for pause in (*RETRY_SECONDS, None):
                try:
                    store.write_bytes(store.join(self.uri, file), data)
                    store.create(store.join(self.uri, name), manifest)
                    break
                except (InfrastructureError, UsageError) as error:  # of either, the place may come back
                    if pause is None:
                        raise
                    log.warning("checkpoint %s not written, trying again in %g s: %s", name, pause, error)
                    time.sleep(pause)
            self.last = name
            self._known = sorted({*self._known, name})
            self._prune()
        except Exception as error:  # raised in the loop's thread by `wait`
            self._error = error

    def _read(self, name: str) -> Checkpoint:
        manifest = json.loads(store.read_limited(store.join(self.uri, name), MOST_JSON))
        body = manifest["body"]
        if hashlib.sha256(store.canonical(body)).hexdigest() != manifest["sha256"]:
            raise ValueError("its manifest does not match its sha256")
        told = Body.model_validate(body)
        if told.file != _file_of(name):
            raise ValueError(f"it names {told.file}")
        data = store.read_limited(store.join(self.uri, told.file), told.bytes)
        if hashlib.sha256(data).hexdigest() != told.sha256:
            raise ValueError("its tensors do not match their sha256")
        return Checkpoint(name, load(data), told.values)

    def _prune(self) -> None:
        """Forget all but the newest `KEEP`."""
        self._forget(self._known[:-KEEP])

    def _forget(self, names: list[str]) -> None:
        """The manifest first, so that none ever lacks its file."""
        for name in names:
            store.remove(store.join(self.uri, name))
            store.remove(store.join(self.uri, _file_of(name)))
        self._known = [name for name in self._known if name not in names]


def _step_of(name: str) -> int:
    return int(name.split("-", 1)[0])


def _file_of(name: str) -> str:
    """The tensors' path, from the name of their manifest."""
    step, attempt = name.removesuffix(".json").split("-", 1)
    return f"{attempt}/{step}.safetensors"
