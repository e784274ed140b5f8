"""The snapshotter's host: what a checkpoint needs of the daemon, and what the daemon makes of a checkpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from holdfast.daemon.bus import Bus
from holdfast.daemon.events import CheckpointFailed, CheckpointWritten
from holdfast.daemon.executor import Executor
from holdfast.daemon.loader import Loader
from holdfast.daemon.services.determinism import wall_now_us
from holdfast.daemon.services.moto.state import MotoSource
from holdfast.journal import Journal, MemoryJournal
from holdfast.snapshot import CheckpointFailure, Cut, Manifest

__all__ = ["SnapshotHost"]

log = structlog.get_logger(__name__)


class SnapshotHost:
    """Implements `holdfast.snapshot.Host` over the executor, the bus and the journal."""

    def __init__(
        self, executor: Executor, bus: Bus, journal: Journal | MemoryJournal, loader: Loader, source: MotoSource
    ) -> None:
        self._executor = executor
        self._bus = bus
        self._journal = journal
        self._loader = loader
        self._source = source
        self._older_lsn = 0
        self.last: Manifest | None = None
        self.last_failed: tuple[str, ...] = ()
        self.failure = ""

    def found(self, manifest: Manifest) -> None:
        """The checkpoint that this life began with."""
        self.last = manifest
        self._older_lsn = manifest.lsn
        self._note_links(manifest)

    @asynccontextmanager
    async def boundary(self) -> AsyncIterator[Cut]:
        """A moment between two commands, with what is dirty at it; left normally, the cut's services count as clean."""
        async with self._executor.boundary():
            dirty = self._bus.take_dirty()
            try:
                with self._source.cut():
                    yield Cut(self._journal.last_lsn, wall_now_us() * 1000, dirty)
            except BaseException:
                self._bus.give_back(dirty)
                raise

    @property
    def dirty(self) -> bool:
        """True when there is anything to save."""
        return bool(self._bus.dirty)

    async def durable(self, lsn: int) -> None:
        """Wait until the journal is synced up to `lsn`, in every sync mode: a manifest never knows more than the journal."""
        await self._journal.synced(lsn)

    def checkpointed(self, manifest: Manifest) -> None:
        """A manifest was written and read back: tell the journal, which may drop what two checkpoints cover, and the bus."""
        self._note_links(manifest)
        self.last_failed = tuple(manifest.failed)
        if manifest.complete:
            self._journal.checkpointed(manifest.lsn, manifest.digest)
            # The two newest checkpoints are kept with every segment after the older (DESIGN, promise 5).
            self._journal.retire(self._older_lsn + 1)
            self._older_lsn = manifest.lsn
            self.last = manifest
            self.failure = ""
        else:
            self.failure = "; ".join(f"{name}: {reason}" for name, reason in manifest.failed.items())
            log.error("a checkpoint lacks services; the journal keeps them", failed=dict(manifest.failed))
        duration_s = max(0.0, wall_now_us() / 1e6 - manifest.time_ns / 1e9)
        services, failed = tuple(manifest.services), tuple(manifest.failed)
        self._bus.publish(CheckpointWritten(manifest.lsn, manifest.complete, services, failed, duration_s))

    def checkpoint_failed(self, failure: CheckpointFailure) -> None:
        """No manifest came of it: its services are dirty again, and the journal keeps everything meanwhile."""
        self._bus.give_back(dict(failure.dirty))
        self.failure = failure.reason
        self._bus.publish(CheckpointFailed(failure.reason))
        log.error("a checkpoint failed; the journal keeps everything meanwhile", reason=failure.reason)

    def _note_links(self, manifest: Manifest) -> None:
        self._loader.link({name: entry.links for name, entry in manifest.services.items()})
        for name, entry in manifest.services.items():
            self._source.noted(name, entry.links)
