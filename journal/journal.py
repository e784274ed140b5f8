"""The journal's face: open it, replay it, append to it, wait until what was appended is durable.

    journal = Journal.open(folder, state_id=..., checkpoint_lsn=...)     # recovery happens here
    for record in journal.read(after_lsn=checkpoint_lsn): ...            # replay
    async with journal:
        journal.reserve(size)                                            # or refuse, before anything is executed
        lsn = journal.append(Kind.COMMAND, "sqs", "SendMessage", time_ns, payload)
        await journal.durable(lsn)                                       # now it may be acknowledged

`memory.MemoryJournal` has the same face and writes nothing: the journal switched off.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from holdfast.journal.appender import Appender
from holdfast.journal.blobs import BlobStore
from holdfast.journal.disk import Disk, LocalDisk
from holdfast.journal.errors import JournalFailed, JournalFull, RecordTooLarge
from holdfast.journal.format import RECORD_BYTES_MAX, SEGMENT_HEADER_BYTES
from holdfast.journal.options import JournalOptions, Lane, SyncMode
from holdfast.journal.record import CheckpointNote, Kind, Record, pack_checkpoint, pack_record
from holdfast.journal.recovery import Recovered, RecoveryReport, recover
from holdfast.journal.retention import retirable
from holdfast.journal.scan import Progress, read_records
from holdfast.journal.segment import sealed_bytes_max
from holdfast.journal.spare import Spare
from holdfast.journal.writer import Writer

__all__ = ["Journal", "JournalStat"]


@dataclass(frozen=True, slots=True)
class JournalStat:
    """A journal at one moment. Times are in seconds, smoothed; `full` is true while commands are refused for want of room."""

    segments: int
    size_bytes: int
    first_lsn: int
    last_lsn: int
    durable_lsn: int
    synced_lsn: int
    epoch: int
    sync: SyncMode
    sync_s: float
    batch_records: float
    lane: Lane
    room_bytes: int
    full: bool
    failure: str


class Journal:
    """The write-ahead journal of one state, in one folder.

    Made by `open`, which recovers; `async with` starts and stops its writer. Between the two `read` replays. All
    methods belong to the thread of the event loop, but for `read`, `stat` and `blobs_needed`.
    """

    def __init__(
        self,
        folder: str,
        disk: Disk,
        recovered: Recovered,
        *,
        state_id: bytes,
        sync: SyncMode,
        blobs: BlobStore | None,
        options: JournalOptions,
    ) -> None:
        self.folder = folder
        self.sync = sync
        self.recovery: RecoveryReport = recovered.report
        self.on_durable: list[Callable[[int], None]] = []
        """Called with `durable_lsn` when it has grown. Listeners must not raise."""
        self.on_failure: list[Callable[[JournalFailed], None]] = []
        """Called once, when the journal fails. Listeners must not raise."""
        self._disk = disk
        self._state_id = state_id
        self._blobs = blobs
        self._options = options
        self._sealed = [segment.info() for segment in recovered.segments]
        self._damaged = {segment.path: segment.damages for segment in recovered.segments if segment.damages}
        self._begins_anew = recovered.begins_anew
        self._spare = Spare(disk, folder, options)
        self._appender: Appender | None = None
        self._writer: Writer | None = None
        self._pinned: deque[tuple[int, bytes]] = deque()
        self._blobs_named: deque[tuple[int, bytes]] | None = None
        self._blobs_appended: deque[tuple[int, bytes]] = deque()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        state_id: bytes,
        sync: SyncMode = SyncMode.ALWAYS,
        disk: Disk | None = None,
        checkpoint_lsn: int = 0,
        blobs: BlobStore | None = None,
        options: JournalOptions | None = None,
        progress: Progress | None = None,
        quarantine: str | os.PathLike[str] | None = None,
        may_begin_anew: bool = False,
    ) -> Journal:
        """Recover the journal in `folder`, which is made when missing.

        `checkpoint_lsn` is the LSN of the newest verified complete checkpoint, 0 when there is none: the journal must
        reach from there on, unless it `may_begin_anew` because it was switched off when that checkpoint was made. A
        torn tail is set aside in `quarantine` (by default a folder of that name in `folder`) and cut. Raises
        Corruption and IncompatibleFormat, with nothing changed, and OSError. `progress` is told (bytes done, bytes in
        all).
        """
        if not 0 < len(state_id) <= 32:
            raise ValueError("a state id has 1 to 32 bytes")
        folder = os.path.abspath(folder)
        disk = disk or LocalDisk()
        options = options or JournalOptions()
        recovered = recover(
            disk,
            folder,
            state_id=state_id,
            checkpoint_lsn=checkpoint_lsn,
            quarantine_folder=os.path.abspath(quarantine or os.path.join(folder, "quarantine")),
            may_begin_anew=may_begin_anew,
            time_ns=options.wall_ns(),
            progress=progress,
        )
        return cls(folder, disk, recovered, state_id=state_id, sync=sync, blobs=blobs, options=options)

    async def __aenter__(self) -> Self:
        """Begin this life's first segment and take appends, once.

        A full disk is no error here: `reserve` refuses until there is room.
        """
        assert self._writer is None, "a journal has one life: open it again for the next"
        appender = Appender(
            self._disk,
            self.folder,
            self._spare,
            self._options,
            state_id=self._state_id,
            epoch=self.epoch,
            next_lsn=self.recovery.last_lsn + 1,
            begins_anew=self._begins_anew,
            sealed=self._sealed,
        )
        try:
            appender.begin()
        except OSError:
            if not self._spare.full:
                raise
        self._appender = appender
        writer = Writer(appender, self.sync, self._options)
        writer.on_durable = self.on_durable
        writer.on_failure = self.on_failure
        writer.on_synced.append(self._unpin)
        self._writer = writer
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Commit and sync what was appended and seal the segment. Blocks the loop for that, so that no cancellation splits it."""
        self._running().stop()
        self._spare.close()

    # Where it stands.

    @property
    def epoch(self) -> int:
        """The life that this is."""
        return self.recovery.epoch

    @property
    def last_lsn(self) -> int:
        """The LSN given last."""
        return self._writer.last_lsn if self._writer is not None else self.recovery.last_lsn

    @property
    def durable_lsn(self) -> int:
        """Up to here records may be acknowledged, by the sync mode."""
        return self._writer.durable_lsn if self._writer is not None else self.recovery.last_lsn

    @property
    def synced_lsn(self) -> int:
        """Up to here records are on stable storage."""
        return self._writer.synced_lsn if self._writer is not None else self.recovery.last_lsn

    @property
    def failure(self) -> JournalFailed | None:
        """Why the journal is closed for good, None while it is not."""
        return self._writer.failure if self._writer is not None else None

    def stat(self) -> JournalStat:
        """Segments, sizes, LSNs and times, as they are now."""
        sealed = list(self._sealed)
        writer, appender = self._writer, self._appender
        open_bytes = appender.size_bytes if appender is not None else 0
        return JournalStat(
            segments=len(sealed) + (1 if open_bytes else 0),
            size_bytes=open_bytes + sum(segment.size_bytes for segment in sealed),
            first_lsn=self._first_lsn(),
            last_lsn=self.last_lsn,
            durable_lsn=self.durable_lsn,
            synced_lsn=self.synced_lsn,
            epoch=self.epoch,
            sync=self.sync,
            sync_s=writer.sync_s if writer is not None else 0.0,
            batch_records=writer.batch_records if writer is not None else 0.0,
            lane=writer.lane if writer is not None else Lane.INLINE,
            room_bytes=(appender.room_bytes if appender is not None else 0) + self._spare.made_bytes,
            full=self._spare.full and not self._spare.made_bytes,
            failure=str(self.failure or ""),
        )

    # Writing.

    def reserve(self, size_bytes: int) -> None:
        """Make sure that a record of up to `size_bytes` can be appended; holds until the caller awaits anything.

        Raises JournalFull when there is no room (it heals by itself once there is), RecordTooLarge, and JournalFailed
        when the journal has failed. Call it right before executing: nothing has been executed when it raises.
        """
        writer = self._running()
        writer.refuse_if_failed()
        need_bytes = size_bytes + self._options.reserve_margin_bytes + writer.pending_bytes
        if size_bytes > RECORD_BYTES_MAX:
            raise RecordTooLarge(f"a record of {size_bytes} bytes is larger than the journal takes")
        if not self._has_room(need_bytes):
            why = self._spare.error
            raise JournalFull(f"the journal has no room for {size_bytes} bytes more, nothing was executed: {why}")

    def append(
        self, kind: Kind, service: str, operation: str, time_ns: int, payload: bytes, blobs: tuple[bytes, ...] = ()
    ) -> int:
        """Queue a record and return its LSN. It is written at the end of this turn of the loop; wait for that with `durable`.

        The blobs that it names must be durable; they stay pinned until the record is. Raises JournalFailed.
        """
        if kind >= Kind.CHECKPOINT:
            raise ValueError(f"{kind.name} records take no LSN and are the journal's own")
        packed = pack_record(kind, service, operation, time_ns, payload, blobs)
        if len(packed) > RECORD_BYTES_MAX:
            raise RecordTooLarge(f"a record of {len(packed)} bytes is larger than the journal takes")
        lsn = self._running().append(packed, 1)
        for digest in blobs:
            self._name_blob(lsn, digest)
        return lsn

    async def durable(self, lsn: int) -> None:
        """Return when `lsn` may be acknowledged: synced (ALWAYS), written and not overdue for its sync (INTERVAL), at once (OFF).

        Raises JournalFailed. Cancelling one who waits harms nobody, and leaves the record where it is.
        """
        if self._writer is not None:
            await self._writer.durable(lsn)

    async def synced(self, lsn: int) -> None:
        """Return when `lsn` is on stable storage, whatever the sync mode: what a checkpoint waits for. Raises JournalFailed."""
        if self._writer is not None:
            await self._writer.synced(lsn)

    def checkpointed(self, lsn: int, manifest: bytes) -> None:
        """Note that the manifest of this digest is a checkpoint at `lsn`; only once it was read back. Raises JournalFailed.

        On a full disk the note is left out: nothing depends on it, and the room is for what the checkpoint will free.
        """
        writer = self._running()
        writer.refuse_if_failed()
        note = pack_checkpoint(CheckpointNote(lsn, manifest), self._options.wall_ns())
        if self._has_room(writer.pending_bytes + len(note) + self._options.reserve_margin_bytes):
            writer.append(note, 0)

    def retire(self, keep_from_lsn: int) -> list[str]:
        """Drop sealed segments with nothing at or after `keep_from_lsn` that time travel does not keep; returns their paths.

        `keep_from_lsn` is the LSN of the older of the two newest checkpoints. Raises OSError; what was dropped by
        then stays dropped.
        """
        if self.failure is not None:
            return []
        now_ns = self._options.wall_ns()
        appender = self._appender
        count = retirable(
            list(self._sealed),
            keep_from_lsn=keep_from_lsn,
            open_bytes=appender.size_bytes if appender is not None else 0,
            open_time_ns=appender.began_ns if appender is not None else now_ns,
            now_ns=now_ns,
            age_max_s=self._options.retention_age_s,
            bytes_max=self._options.retention_bytes,
        )
        retired: list[str] = []
        for _ in range(count):
            segment = self._sealed[0]
            self._disk.unlink(segment.path)
            self._disk.fsync_dir(
                self.folder
            )  # one by one: a crash must not leave a newer one gone and an older one there
            self._sealed.pop(0)
            retired.append(segment.path)
        self._forget_blobs()
        return retired

    # Reading.

    def read(self, after_lsn: int = 0) -> Iterator[Record]:
        """The records after `after_lsn` that take an LSN, in order, up to what is written now; in bounded memory.

        Raises Corruption where a record is missing or cannot be read.
        """
        next_lsn = after_lsn + 1
        upto_lsn = self._writer.written_lsn if self._writer is not None else self.recovery.last_lsn
        paths = [segment.path for segment in self._sealed if segment.next_lsn > next_lsn]
        if self._appender is not None and self._appender.first_lsn <= upto_lsn:
            paths.append(self._appender.path)
        for path in paths:
            for record in self._read_segment(path, next_lsn, upto_lsn):
                yield record
                next_lsn = record.lsn + 1

    def blobs_needed(self) -> set[bytes]:
        """The digests of every blob that a retained record names: roots of the blob store's garbage collection.

        The first call reads the records of earlier lives; leave that to a thread when the journal is large.
        """
        if self._blobs_named is None:
            named: deque[tuple[int, bytes]] = deque()
            for path in [segment.path for segment in self._sealed if segment.epoch < self.epoch]:
                for record in self._read_segment(path, 0, self.recovery.last_lsn):
                    named.extend((record.lsn, digest) for digest in record.blobs)
            self._blobs_named = named
        return {digest for _, digest in (*self._blobs_named, *self._blobs_appended)}

    # Inside.

    def _running(self) -> Writer:
        assert self._writer is not None, "the journal must be entered before it can be written to"
        return self._writer

    def _first_lsn(self) -> int:
        """The oldest LSN that is kept, or the next to come when none is."""
        if self._sealed:
            return self._sealed[0].first_lsn
        return self._appender.first_lsn if self._appender is not None else self.recovery.last_lsn + 1

    def _has_room(self, need_bytes: int) -> bool:
        """True when there are prepared bytes for `need_bytes` of records: in the open segment, or in the one after it.

        Only bytes that are on disk already count: what statvfs says is free may be another's a moment later. So this waits for
        a spare that is being filled, which happens when records come faster than zeros.
        """
        assert self._appender is not None
        if self._appender.fits(need_bytes):
            return True
        overhead_bytes = SEGMENT_HEADER_BYTES + sealed_bytes_max()
        return self._spare.provide(self._appender.grouped_bytes(need_bytes) + overhead_bytes)

    def _read_segment(self, path: str, next_lsn: int, upto_lsn: int) -> Iterator[Record]:
        """The records of one segment from `next_lsn` on (0: from wherever it begins), stepping over damage found by recovery."""
        try:
            file = self._disk.open(path)
        except FileNotFoundError:
            file = self._disk.open(path.removesuffix(".open") + ".seg")  # sealed meanwhile
        with file:
            yield from read_records(
                file, path, self._damaged.get(path, []), state_id=self._state_id, next_lsn=next_lsn, upto_lsn=upto_lsn
            )

    def _name_blob(self, lsn: int, digest: bytes) -> None:
        self._blobs_appended.append((lsn, digest))
        if self._blobs is not None:
            self._blobs.pin(digest)
            self._pinned.append((lsn, digest))

    def _unpin(self, synced_lsn: int) -> None:
        assert self._blobs is not None or not self._pinned
        while self._blobs is not None and self._pinned and self._pinned[0][0] <= synced_lsn:
            self._blobs.unpin(self._pinned.popleft()[1])

    def _forget_blobs(self) -> None:
        first_lsn = self._first_lsn()
        for named in (self._blobs_named, self._blobs_appended):
            while named and named[0][0] < first_lsn:
                named.popleft()
