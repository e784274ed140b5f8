"""A source and a host that are whole and small: for tests, and as the shortest example of how to embed this package."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from holdfast.snapshot.codec import Codec
from holdfast.snapshot.manifest import Manifest
from holdfast.snapshot.source import CheckpointFailure, Cut, OpenPart

__all__ = ["ObjectHost", "ObjectSource"]


class ObjectSource:
    """Services that are plain objects: `states[service]` is the whole state. Nothing is shared between them."""

    def __init__(self, codec: Codec, states: dict[str, Any] | None = None) -> None:
        self.codec = codec
        self.states: dict[str, Any] = states if states is not None else {}

    def dump(self, service: str, open_part: OpenPart) -> frozenset[str]:
        self.codec.dump(service, self.states[service], open_part("store"))
        return frozenset()

    def load(self, service: str, parts: Mapping[str, bytes]) -> None:
        self.states[service] = self.codec.load(service, parts["store"])


class ObjectHost:
    """Commands without a journal: `changed` counts one. Every LSN is durable at once."""

    def __init__(self, lsn: int = 0) -> None:
        self.lsn = lsn
        self.dirty: dict[str, int] = {}
        self.manifests: list[Manifest] = []
        self.failures: list[CheckpointFailure] = []

    def changed(self, service: str) -> int:
        """Note that a command changed `service`; returns its LSN."""
        self.lsn += 1
        self.dirty[service] = self.lsn
        return self.lsn

    @asynccontextmanager
    async def boundary(self) -> AsyncIterator[Cut]:
        cut = Cut(self.lsn, time.time_ns(), dict(self.dirty))
        yield cut
        self.dirty.clear()

    async def durable(self, lsn: int) -> None:
        assert lsn <= self.lsn, "an LSN that no command had"

    def checkpointed(self, manifest: Manifest) -> None:
        self.manifests.append(manifest)

    def checkpoint_failed(self, failure: CheckpointFailure) -> None:
        self.failures.append(failure)
        self.dirty = {**failure.dirty, **self.dirty}
