"""The appender: turns batches of packed records into groups in the open segment, and moves on to the next segment.

It knows nothing of event loops and waiters, and has one caller at a time (the writer's lane), but for `sync`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from holdfast.journal.format import GROUP_OVERHEAD_BYTES_MAX, SegmentHeader, group_bytes
from holdfast.journal.record import Kind, pack_record, takes_lsn
from holdfast.journal.segment import SegmentInfo, SegmentWriter, begin_segment, cut_into_groups

if TYPE_CHECKING:
    from holdfast.journal.disk import Disk
    from holdfast.journal.options import JournalOptions
    from holdfast.journal.spare import Spare

__all__ = ["Appender"]


class Appender:
    """Where the journal's bytes go. After a method raised OSError nothing more is to be written: see `Writer`, fail-stop."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        spare: Spare,
        options: JournalOptions,
        *,
        state_id: bytes,
        epoch: int,
        next_lsn: int,
        begins_anew: bool,
        sealed: list[SegmentInfo],
    ) -> None:
        self.epoch = epoch
        self.next_lsn = next_lsn
        self.synced_lsn = next_lsn - 1
        self.marked_lsn = next_lsn - 1
        self.sealed = sealed
        self._disk = disk
        self._folder = folder
        self._spare = spare
        self._options = options
        self._state_id = state_id
        self._begins_anew = begins_anew
        self._segment: SegmentWriter | None = None

    @property
    def path(self) -> str:
        """The open segment's file, empty when there is none."""
        return self._segment.path if self._segment is not None else ""

    @property
    def first_lsn(self) -> int:
        """The first LSN of the open segment; the next to come, when there is none."""
        return self._segment.header.first_lsn if self._segment is not None else self.next_lsn

    @property
    def began_ns(self) -> int:
        """When the open segment was begun; now, when there is none."""
        return self._segment.header.time_ns if self._segment is not None else self._options.wall_ns()

    @property
    def size_bytes(self) -> int:
        """How much of the open segment has been written."""
        return self._segment.offset if self._segment is not None else 0

    @property
    def room_bytes(self) -> int:
        """How long a group still fits in the open segment."""
        return self._segment.room_bytes if self._segment is not None else 0

    def fits(self, payload_bytes: int) -> bool:
        """True when a batch of that size needs no new segment, and so no more than writes and one sync."""
        return self._segment is not None and self.grouped_bytes(payload_bytes) <= self._segment.room_bytes

    def grouped_bytes(self, payload_bytes: int) -> int:
        """How much a batch takes in a segment, at most: two groups that follow each other are longer than one may be."""
        groups = 2 * (payload_bytes // self._options.group_bytes_max) + 1
        return payload_bytes + groups * GROUP_OVERHEAD_BYTES_MAX

    def begin(self) -> None:
        """Begin the next segment, so that the first record finds its place made."""
        spare, size_bytes = self._spare.take()
        header = SegmentHeader(
            first_lsn=self.next_lsn,
            epoch=self.epoch,
            time_ns=self._options.wall_ns(),
            size_bytes=size_bytes if self._options.zero_fill else 0,
            chain_seed=int.from_bytes(os.urandom(4), "little"),
            state_id=self._state_id,
            begins_anew=self._begins_anew,
        )
        self._segment = begin_segment(self._disk, self._folder, spare, header, size_bytes)
        self._begins_anew = False
        self._spare.want()

    def commit(self, records: list[bytes], *, sync: bool) -> float:
        """Write packed records and, with `sync`, make them durable; returns how long that sync took, in seconds."""
        for group in cut_into_groups(records, self._options.group_bytes_max):
            payload = b"".join(group)
            segment = self._place(group_bytes(len(payload)))
            lsn_count = sum(map(takes_lsn, group))
            self._append(segment, payload, lsn_count, len(group))
        return self.sync() if sync else 0.0

    def sync(self) -> float:
        """Make durable what was written before the call; returns the seconds it took. May run beside `commit` without `sync`."""
        if self._segment is None:
            return 0.0
        written_lsn = self.next_lsn - 1
        began = time.perf_counter()
        self._segment.sync()
        self.synced_lsn = max(self.synced_lsn, written_lsn)
        return time.perf_counter() - began

    def mark(self) -> None:
        """Write a group of nothing but the watermark, unsynced, so that the last durable group is protected as well."""
        note = pack_record(Kind.WATERMARK, "", "", self._options.wall_ns(), b"")
        if self._segment is not None and self.synced_lsn > self.marked_lsn and self.fits(len(note)):
            self._append(self._segment, note, 0, 1)

    def close(self) -> None:
        """Seal the open segment: a clean stop."""
        if self._segment is None:
            return
        self._seal(self._segment)
        self._segment = None

    def abandon(self) -> None:
        """Close the file as it is, after a failure."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _place(self, size_bytes: int) -> SegmentWriter:
        """The segment that a group of this size goes to: this one, or the next.

        A segment without a record is not sealed but replaced, under the same name. A group for which no segment has been
        prepared, because nobody reserved room for it, makes a fresh one grow.
        """
        if self._segment is not None and size_bytes > self._segment.room_bytes:
            if self._segment.empty:
                self._segment.close()
            else:
                self._seal(self._segment)
            self._segment = None
        if self._segment is None:
            self.begin()
        assert self._segment is not None
        return self._segment

    def _append(self, segment: SegmentWriter, payload: bytes, lsn_count: int, record_count: int) -> None:
        watermark = min(self.synced_lsn, self.next_lsn - 1)
        segment.append(payload, lsn_count=lsn_count, record_count=record_count, watermark=watermark)
        self.next_lsn += lsn_count
        self.marked_lsn = watermark

    def _seal(self, segment: SegmentWriter) -> None:
        self.sealed.append(segment.seal(self._options.wall_ns(), self.synced_lsn))
        self.synced_lsn = self.next_lsn - 1
