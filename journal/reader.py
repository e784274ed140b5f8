"""Reading one segment: group after group, in bounded memory, up to where the log ends and why it ends there."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

from holdfast.journal.disk import File
from holdfast.journal.format import (
    ALIGNMENT_BYTES,
    GROUP_HEADER_BYTES,
    GROUP_MAGIC,
    SEGMENT_HEADER_BYTES,
    GroupHeader,
    SegmentHeader,
    payload_of,
    unpack_group_header,
    wholly_present,
)
from holdfast.journal.record import Kind, Record, unpack_records

__all__ = ["End", "Ending", "Found", "Group", "SegmentReader"]

WINDOW_BYTES = 1 << 20
"""How much is read at a time: large enough that system calls do not count, small against a segment."""

_ZEROS = bytes(WINDOW_BYTES)


class Ending(enum.Enum):
    """Why reading stopped."""

    SEAL = "seal"
    ZEROS = "zeros"
    BAD = "bad"


class End(NamedTuple):
    """Where the log of a segment ends, and why; `reason` puts a bad group in words."""

    ending: Ending
    offset: int
    reason: str = ""
    whole: bool = False
    """Of a bad group: wholly present, so that no crash explains it."""

    header: GroupHeader | None = None
    """Of a bad group: its header, when that verifies by itself and only the payload is damaged."""


class Group(NamedTuple):
    """A valid group, from `offset` to `end`; `payload` is its packed records."""

    header: GroupHeader
    offset: int
    end: int
    payload: memoryview

    def records(self, epoch: int) -> Iterator[Record]:
        """The records in it; raises ValueError when they are not what the header says."""
        return unpack_records(self.payload, self.header, epoch)

    def notes(self, epoch: int) -> list[Record]:
        """The records that take no LSN; most groups have none, and are not even unpacked."""
        if self.header.record_count == self.header.lsn_count:
            return []
        return [record for record in self.records(epoch) if record.kind >= Kind.CHECKPOINT]


class Found(NamedTuple):
    """A group that verifies by itself, met while looking past a bad one."""

    header: GroupHeader
    offset: int


class SegmentReader:
    """Reads a segment whose header is known. `groups` leaves `end` behind."""

    def __init__(self, file: File, header: SegmentHeader) -> None:
        self.header = header
        self.end = End(Ending.ZEROS, SEGMENT_HEADER_BYTES)
        self.size_bytes = file.size_bytes()
        self._file = file
        self._begin = 0
        self._window = memoryview(b"")

    def groups(self, offset: int, next_lsn: int, previous: int) -> Iterator[Group]:
        """The valid groups from `offset` on, where a group with `next_lsn` that follows `previous` is due."""
        while True:
            header = self._header_at(offset)
            if header is None:
                self.end = self._judge(offset)
                return
            if header.previous != previous or header.first_lsn != next_lsn:
                reason = f"a group with LSN {header.first_lsn} does not continue the chain"
                self.end = End(Ending.BAD, offset, reason, self._whole(offset, header.size_bytes))
                return
            size_bytes = header.size_bytes
            payload = self._payload_at(offset, size_bytes, header)
            if payload is None:
                reason = "the checksum of a group's records is wrong, or it is cut short"
                self.end = End(Ending.BAD, offset, reason, self._whole(offset, size_bytes), header)
                return
            group = Group(header, offset, offset + size_bytes, payload)
            yield group
            offset += size_bytes
            next_lsn += header.lsn_count
            previous = header.header_checksum
            if self._is_seal(group):
                self.end = End(Ending.SEAL, offset)
                return

    def search(self, offset: int) -> Iterator[Found]:
        """Every group at `offset` or later that verifies by itself, payload and all."""
        offset += -offset % ALIGNMENT_BYTES
        while offset < self.size_bytes:
            chunk = self._file.pread(WINDOW_BYTES + len(GROUP_MAGIC) - 1, offset)
            at = chunk.find(GROUP_MAGIC)
            while at >= 0:
                header = self._header_at(offset + at) if at % ALIGNMENT_BYTES == 0 else None
                if header is not None and self._payload_at(offset + at, header.size_bytes, header) is not None:
                    yield Found(header, offset + at)
                at = chunk.find(GROUP_MAGIC, at + 1)
            offset += WINDOW_BYTES

    def zeros_from(self, offset: int) -> bool:
        """True when nothing but zeros lies from `offset` to the file's end."""
        while offset < self.size_bytes:
            chunk = self._file.pread(WINDOW_BYTES, offset)
            if chunk != _ZEROS[: len(chunk)]:
                return False
            offset += len(chunk)
        return True

    def _header_at(self, offset: int) -> GroupHeader | None:
        view = self._view(offset, GROUP_HEADER_BYTES)
        return unpack_group_header(view, chain_seed=self.header.chain_seed, offset=offset)

    def _payload_at(self, offset: int, size_bytes: int, header: GroupHeader) -> memoryview | None:
        if offset + size_bytes > self.size_bytes:
            return None
        return payload_of(self._view(offset, size_bytes), header)

    def _view(self, offset: int, size_bytes: int) -> memoryview:
        """`size_bytes` at `offset`, fewer where the file ends."""
        at = offset - self._begin
        if at < 0 or at + size_bytes > len(self._window):
            wanted = max(size_bytes, WINDOW_BYTES)
            self._window = memoryview(self._file.pread(min(wanted, max(self.size_bytes - offset, 0)), offset))
            self._begin, at = offset, 0
        return self._window[at : at + size_bytes]

    def _judge(self, offset: int) -> End:
        if self.zeros_from(offset):
            return End(Ending.ZEROS, offset)
        reason = "there is neither a group nor the end of the log"
        return End(Ending.BAD, offset, reason, self._whole(offset, GROUP_HEADER_BYTES))

    def _whole(self, offset: int, size_bytes: int) -> bool:
        if offset + size_bytes > self.size_bytes:
            return False
        return wholly_present(self._file.pread(size_bytes, offset), offset)

    def _is_seal(self, group: Group) -> bool:
        if group.header.lsn_count or group.header.record_count != 1:
            return False
        try:
            return next(group.records(self.header.epoch)).kind is Kind.SEAL
        except (ValueError, StopIteration):
            return False  # unreadable records are found, and refused, by whoever reads them
