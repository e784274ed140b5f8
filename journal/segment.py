"""Segments: one file of the journal, as a list sees it and as its one writer does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.journal.disk import Disk, File
from holdfast.journal.format import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    SegmentName,
    group_bytes,
    pack_group,
    pack_segment_header,
    unfinished_name,
)
from holdfast.journal.record import Kind, pack_record

__all__ = [
    "SegmentInfo",
    "SegmentWriter",
    "begin_segment",
    "cut_into_groups",
    "list_segments",
    "prepare_spare",
    "sealed_bytes_max",
]

FILL_STEP_BYTES = 1 << 20
"""Zeros are written and synced in steps, so that no commit waits behind a whole segment of them."""

_ZEROS = bytes(FILL_STEP_BYTES)


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A sealed segment: its file, the LSNs [first_lsn, next_lsn) in it, its length and when it was begun."""

    path: str
    first_lsn: int
    next_lsn: int
    size_bytes: int
    time_ns: int
    epoch: int


def list_segments(disk: Disk, folder: str) -> list[tuple[SegmentName, str]]:
    """The segments in a folder, in LSN order: what the name says, and the path."""
    named = ((SegmentName.parse(name), os.path.join(folder, name)) for name in disk.listdir(folder))
    return sorted((name, path) for name, path in named if name is not None)


def prepare_spare(disk: Disk, folder: str, size_bytes: int) -> File:
    """Make the next segment's file, filled with zeros and synced; 0 makes an empty one that will grow.

    Raises OSError, ENOSPC among them, and then leaves nothing behind.
    """
    path = os.path.join(folder, unfinished_name("spare"))
    file = disk.create(path)
    try:
        for offset in range(0, size_bytes, FILL_STEP_BYTES):
            file.pwrite(_ZEROS[: size_bytes - offset], offset)
            file.fdatasync()  # pace: the sync in `begin_segment` would make it all durable, but would take that long
    except BaseException:
        file.close()
        disk.unlink(path)
        raise
    return file


def begin_segment(disk: Disk, folder: str, spare: File, header: SegmentHeader, capacity_bytes: int) -> SegmentWriter:
    """Turn the spare into the open segment; when this returns, groups in it can be acknowledged.

    Where there is a segment of that name it holds no record, and is replaced.
    """
    path = os.path.join(folder, str(SegmentName(header.first_lsn, header.epoch, sealed=False)))
    spare.pwrite(pack_segment_header(header), 0)
    spare.fdatasync()  # header, zeros and length: a name must never stand for a file of which any of these can be lost
    disk.rename(spare.path, path)
    disk.fsync_dir(folder)  # or a power cut could take the file from under records that were acknowledged
    spare.close()
    return SegmentWriter(disk, path, disk.open(path, write=True), header, capacity_bytes)


def sealed_bytes_max() -> int:
    """Room that stays free at a segment's end for its seal."""
    return group_bytes(len(pack_record(Kind.SEAL, "", "", (1 << 63) - 1, b"")))


class SegmentWriter:
    """The open segment and its one writer: groups go to its end, in a chain, until it is sealed.

    Not for several threads at once, but for `sync`, which may run while groups are appended and covers those that
    were there when it began. Every method may raise OSError; after one did, the segment is not to be written again.
    """

    def __init__(self, disk: Disk, path: str, file: File, header: SegmentHeader, capacity_bytes: int) -> None:
        self.path = path
        self.header = header
        self.offset = SEGMENT_HEADER_BYTES
        self.next_lsn = header.first_lsn
        self._disk = disk
        self._file = file
        self._chain = header.chain_seed
        self.room_bytes = capacity_bytes - sealed_bytes_max() - self.offset
        """How long a group still fits without the file growing."""

    @property
    def empty(self) -> bool:
        """True while no record in it takes an LSN: nothing that is ever asked for again."""
        return self.next_lsn == self.header.first_lsn

    def append(self, payload: bytes, *, lsn_count: int, record_count: int, watermark: int) -> None:
        """Write one group; durable after the next `sync`."""
        group, checksum = pack_group(
            payload,
            first_lsn=self.next_lsn,
            lsn_count=lsn_count,
            record_count=record_count,
            watermark=watermark,
            previous=self._chain,
            chain_seed=self.header.chain_seed,
            offset=self.offset,
        )
        self._file.pwrite(group, self.offset)
        self.offset += len(group)
        self.room_bytes -= len(group)
        self.next_lsn += lsn_count
        self._chain = checksum

    def sync(self) -> None:
        """Return once every group appended before is durable: what promise 1 waits for."""
        self._file.fdatasync()

    def seal(self, time_ns: int, watermark: int) -> SegmentInfo:
        """End the segment: a seal, a sync, the name that says so. The rename is durable after the next sync of the folder."""
        self.append(pack_record(Kind.SEAL, "", "", time_ns, b""), lsn_count=0, record_count=1, watermark=watermark)
        self.sync()  # the next segment's first record must not be durable before this one's last
        self._file.truncate(self.offset)
        self.close()
        name = SegmentName(self.header.first_lsn, self.header.epoch, sealed=True)
        sealed = os.path.join(os.path.dirname(self.path), str(name))
        self._disk.rename(self.path, sealed)
        return SegmentInfo(
            sealed, self.header.first_lsn, self.next_lsn, self.offset, self.header.time_ns, self.header.epoch
        )

    def close(self) -> None:
        """Give the file back as it is."""
        self._file.close()


def cut_into_groups(records: list[bytes], bytes_max: int) -> Iterator[list[bytes]]:
    """The records in order, in runs of at most `bytes_max`; a single record may be larger."""
    begin = size_bytes = 0
    for index, record in enumerate(records):
        if size_bytes + len(record) > bytes_max and index > begin:
            yield records[begin:index]
            begin, size_bytes = index, 0
        size_bytes += len(record)
    yield records[begin:]
