"""The journal switched off: the same face as `Journal`, nothing behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

from holdfast.journal.errors import JournalFailed
from holdfast.journal.journal import JournalStat
from holdfast.journal.options import Lane, SyncMode
from holdfast.journal.record import Kind, Record
from holdfast.journal.recovery import RecoveryReport

__all__ = ["MemoryJournal"]


class MemoryJournal:
    """The journal switched off: LSNs are counted, everything is durable at once, nothing is kept."""

    def __init__(self, last_lsn: int = 0, epoch: int = 1) -> None:
        self.last_lsn = last_lsn
        self.epoch = epoch
        self.sync = SyncMode.OFF
        self.failure: JournalFailed | None = None
        self.recovery = RecoveryReport(
            last_lsn, epoch, records=0, groups=0, torn=None, damages=(), quarantined=(), checkpoint=None, clean=True
        )
        self.on_durable: list[Callable[[int], None]] = []
        self.on_failure: list[Callable[[JournalFailed], None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    @property
    def durable_lsn(self) -> int:
        """The LSN given last: there is nothing to wait for."""
        return self.last_lsn

    @property
    def synced_lsn(self) -> int:
        """The LSN given last: there is nothing to wait for."""
        return self.last_lsn

    def reserve(self, size_bytes: int) -> None:
        """Always passes."""

    def append(
        self, kind: Kind, service: str, operation: str, time_ns: int, payload: bytes, blobs: tuple[bytes, ...] = ()
    ) -> int:
        """Count an LSN."""
        self.last_lsn += 1
        for listener in self.on_durable:
            listener(self.last_lsn)
        return self.last_lsn

    async def durable(self, lsn: int) -> None:
        """Returns at once."""

    async def synced(self, lsn: int) -> None:
        """Returns at once."""

    def checkpointed(self, lsn: int, manifest: bytes) -> None:
        """Nothing to note."""

    def retire(self, keep_from_lsn: int) -> list[str]:
        """Nothing to drop."""
        return []

    def read(self, after_lsn: int = 0) -> Iterator[Record]:
        """No records."""
        return iter(())

    def blobs_needed(self) -> set[bytes]:
        """None: no record is kept."""
        return set()

    def stat(self) -> JournalStat:
        """No segments, no bytes."""
        return JournalStat(
            segments=0,
            size_bytes=0,
            first_lsn=self.last_lsn + 1,
            last_lsn=self.last_lsn,
            durable_lsn=self.last_lsn,
            synced_lsn=self.last_lsn,
            epoch=self.epoch,
            sync=self.sync,
            sync_s=0.0,
            batch_records=0.0,
            lane=Lane.INLINE,
            room_bytes=0,
            full=False,
            failure="",
        )
