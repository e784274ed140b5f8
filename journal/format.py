"""What the journal looks like on disk. This module is the specification; nothing outside it knows an offset.

All integers are little-endian. A journal is a folder of segment files; the first record of one follows the last of
the one before.

File names
----------

    00000000000000000001-00000001.open    first LSN, epoch; being written to
    00000000000000000001-00000001.seg     the same file once it is sealed and its seal is synced
    spare-0123456789abcdef.tmp            the next segment, filled with zeros ahead of time; worth nothing until renamed
    copy-0123456789abcdef.tmp             the copy of an unclean segment; worth nothing until renamed

An unfinished file has a random name that is never used again: no order in which a file system makes names durable can
put the bytes of one under the name of another.

Sorted by name, segments are in LSN order; the epoch tells apart two that begin with the same LSN because a life of
the daemon wrote no record. A name that ends in `.seg` is evidence: the rename comes after the sync of the seal, so
everything in that file was durable once.

Segment header
--------------

    offset  size  field       meaning
    0       8     magic       "HOLDFAST"
    8       4     version     format version, 1
    12      4     flags       bit 0: begins anew, the LSNs before it are in a checkpoint and not in this journal
    16      8     first_lsn   LSN of the first record that takes one
    24      8     epoch       the life of the daemon that writes this segment
    32      8     time_ns     when the segment was begun, nanoseconds since 1970
    40      8     size_bytes  how long the file was made with its zeros; 0: it grows as it is written
    48      4     chain_seed  random; begins the chain of this segment, and every header checksum in it
    52      4     id_bytes    how much of state_id counts
    56      32    state_id    the state that this journal belongs to, padded with zeros
    88      420   reserved    zeros
    508     4     checksum    CRC-32 of bytes 0 to 508

512 bytes, one sector, so that it is never torn. Magic, version and checksum stay where they are in every version to
come: that is how an older program tells a newer format from damage.

Group header
------------

    offset  size  field             meaning
    0       4     magic             "HGRP"
    4       4     payload_bytes     length of the packed records that follow this header
    8       8     first_lsn         LSN of the first record in the group that takes one (of the next to come, when none does)
    16      8     watermark         every record up to this LSN was durable when the group was written
    24      4     lsn_count         records in the group that take an LSN
    28      4     record_count      records in the group
    32      4     previous          header checksum of the group before; of the first group: chain_seed
    36      4     payload_checksum  CRC-32 of payload and filler
    40      4     header_checksum   CRC-32 of chain_seed, of this group's offset in the file, and of bytes 0 to 40
    44      4     mark              "done", never zero, so that a header cut short shows

The payload follows, then 1 to 8 bytes of filler (0xA5) up to a multiple of 8: the last byte of a whole group is never
zero.

A group is what one write made and one sync covers. Why one checksum a group and not one a record: it is checked at
memory speed, and a group is never acknowledged in part. Why CRC-32 of zlib: it finds every single flipped bit and
every burst up to 32, and runs at several GB/s without a dependency. Why the seed and the offset are in the header
checksum: a group verifies only where it was written. An old group in a recycled sector, or a copy of a segment that a
user stored inside a record, does not.

A record in the payload is a MessagePack array: kind, service, operation, time_ns, payload, blobs. LSNs are counted
from first_lsn.

When a group is valid
---------------------

1. It lies inside the file. (A length is never trusted past the file's end.)
2. Magic, mark and header checksum are right, and its watermark is below its first LSN: it verifies by itself.
3. The payload checksum is right.
4. `previous` is the header checksum of the group before, and first_lsn follows its last LSN: it continues the chain.

Groups are read in order until the log ends: by a seal (a group with one record of kind SEAL), or by zeros to the
segment's end.

Torn tail or corruption
-----------------------

At the first group that is not valid (let n be the next LSN) a crash must be told from damage, because the first loses
nothing that was acknowledged and the second may. It was durable once, and so is damage, if

- a group after it, in this segment or a later one, verifies by itself and carries a watermark >= n: its writer had
  seen n durable; or
- there is a later segment, or this segment's name says that it was sealed, or a checkpoint was made at n or later; or
- the group is wholly there: its last byte is not zero and no piece of it in any 512-byte sector is all zeros. A write
  that a crash cut short leaves sectors of the zeros that were there before; or
- the file is shorter than its header says that it was made.

Otherwise it is a **torn tail**: everything from there on goes to quarantine and is cut.

Damage is **corruption**, and refused, unless nothing is missing after the checkpoint: when the log can be taken up
again after the damage at an LSN not beyond the checkpoint's next (or at n itself, when what is damaged held no
record), it is a warning.

The order of writes
-------------------

1. A segment is filled with zeros, synced, given its header, synced, renamed, and the folder synced, before its first
   record is written. Why zeros, when fallocate is quicker: a write into unwritten extents changes metadata, and each
   sync then pays for the file system's own journal (measured: 2 to 4 times slower).
2. A seal is synced, and the file renamed to `.seg`, before the next segment's first record is written. A segment that
   holds no record yet and is too small for the first one is not sealed: the next takes its name.
3. A watermark is written only after the sync that made it true. When the queue goes idle after a sync, a group of
   nothing but a watermark follows, unsynced: it protects the last acknowledged group too.
4. After an unclean stop the valid part of the open segment is copied, sealed, synced and renamed over it. Why: the
   kernel marks pages clean after a failed sync, so what is read may not be what is on disk; a file of an earlier life
   is never appended to.
5. What is cut is in quarantine, synced, before it is cut.
6. Segments are retired oldest first, the folder synced after each: a crash leaves no hole.
"""

from __future__ import annotations

import re
import secrets
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "ALIGNMENT_BYTES",
    "GROUP",
    "GROUP_HEADER_BYTES",
    "GROUP_MAGIC",
    "GROUP_OVERHEAD_BYTES_MAX",
    "RECORD_BYTES_MAX",
    "SECTOR_BYTES",
    "SEGMENT",
    "SEGMENT_HEADER_BYTES",
    "UNFINISHED_SUFFIX",
    "VERSION",
    "GroupHeader",
    "SegmentHeader",
    "SegmentName",
    "group_bytes",
    "pack_group",
    "pack_segment_header",
    "payload_of",
    "unfinished_name",
    "unpack_group_header",
    "unpack_segment_header",
    "wholly_present",
]

VERSION = 1
BEGINS_ANEW = 1
SECTOR_BYTES = 512
ALIGNMENT_BYTES = 8
UNFINISHED_SUFFIX = ".tmp"
RECORD_BYTES_MAX = 1 << 28
"""No record is longer: a reader holds one group in memory, and a length has 32 bits. Bodies are blobs long before."""

SEGMENT_MAGIC = b"HOLDFAST"
GROUP_MAGIC = b"HGRP"
GROUP_MARK = b"done"
FILLER = b"\xa5" * ALIGNMENT_BYTES

SEGMENT = struct.Struct("<8sIIQQQQII32s420sI")
SEGMENT_HEADER_BYTES = SEGMENT.size
STATE_ID_BYTES_MAX = 32

GROUP = struct.Struct("<4sIQQIIIII4s")
GROUP_HEADER_BYTES = GROUP.size
_CHECKED = struct.Struct("<4sIQQIIII")  # the group header up to its own checksum
_PLACE = struct.Struct("<IQ")  # chain seed and offset, with which a header checksum begins

_NAME = re.compile(r"(\d{20})-(\d{8,20})\.(open|seg)")


class SegmentName(NamedTuple):
    """What the name of a segment file says."""

    first_lsn: int
    epoch: int
    sealed: bool

    @classmethod
    def parse(cls, name: str) -> SegmentName | None:
        """The meaning of a file name, None when it is not a segment's."""
        found = _NAME.fullmatch(name)
        return cls(int(found[1]), int(found[2]), found[3] == "seg") if found else None

    def __str__(self) -> str:
        return f"{self.first_lsn:020d}-{self.epoch:08d}.{'seg' if self.sealed else 'open'}"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The header of a segment; `version` is what is found in the file."""

    first_lsn: int
    epoch: int
    time_ns: int
    size_bytes: int
    chain_seed: int
    state_id: bytes
    begins_anew: bool = False
    version: int = VERSION


class GroupHeader(NamedTuple):
    """The header of a group, its checksum verified."""

    payload_bytes: int
    first_lsn: int
    watermark: int
    lsn_count: int
    record_count: int
    previous: int
    payload_checksum: int
    header_checksum: int

    @property
    def next_lsn(self) -> int:
        """The LSN after the group's last."""
        return self.first_lsn + self.lsn_count

    @property
    def size_bytes(self) -> int:
        """The whole group's length, filler included."""
        return group_bytes(self.payload_bytes)


GROUP_OVERHEAD_BYTES_MAX = GROUP_HEADER_BYTES + ALIGNMENT_BYTES
"""How much longer a group is than its payload, at most."""


def unfinished_name(what: str) -> str:
    """A name, never used before, for a file that is being made."""
    return f"{what}-{secrets.token_hex(8)}{UNFINISHED_SUFFIX}"


def group_bytes(payload_bytes: int) -> int:
    """How long the group of a payload is, header and filler included."""
    return (GROUP_HEADER_BYTES + payload_bytes) // ALIGNMENT_BYTES * ALIGNMENT_BYTES + ALIGNMENT_BYTES


def pack_segment_header(header: SegmentHeader) -> bytes:
    """The 512 bytes that a segment begins with."""
    assert len(header.state_id) <= STATE_ID_BYTES_MAX, "a state id is at most 32 bytes"
    packed = SEGMENT.pack(
        SEGMENT_MAGIC,
        header.version,
        BEGINS_ANEW if header.begins_anew else 0,
        header.first_lsn,
        header.epoch,
        header.time_ns,
        header.size_bytes,
        header.chain_seed,
        len(header.state_id),
        header.state_id,
        b"",
        0,
    )
    return packed[:-4] + zlib.crc32(packed[:-4]).to_bytes(4, "little")


def unpack_segment_header(data: bytes) -> SegmentHeader | str:
    """The header in a file's first 512 bytes, or in words what is wrong with it. The version is for the caller to judge."""
    if len(data) < SEGMENT_HEADER_BYTES:
        return "the file is shorter than a segment header"
    magic, version, flags, first_lsn, epoch, time_ns, size_bytes, seed, id_bytes, state_id, _, checksum = (
        SEGMENT.unpack(data)
    )
    if magic != SEGMENT_MAGIC:
        return "the file does not begin as a journal segment does"
    if zlib.crc32(data[:-4]) != checksum:
        return "the checksum of the segment header is wrong"
    return SegmentHeader(
        first_lsn, epoch, time_ns, size_bytes, seed, state_id[:id_bytes], bool(flags & BEGINS_ANEW), version
    )


def pack_group(
    payload: bytes,
    *,
    first_lsn: int,
    lsn_count: int,
    record_count: int,
    watermark: int,
    previous: int,
    chain_seed: int,
    offset: int,
) -> tuple[bytes, int]:
    """A whole group for `offset`, and its header checksum, which the next group names as `previous`."""
    assert watermark < first_lsn, "a watermark speaks of records that were durable before the group was written"
    filler = FILLER[(GROUP_HEADER_BYTES + len(payload)) % ALIGNMENT_BYTES :]
    payload_checksum = zlib.crc32(filler, zlib.crc32(payload))
    head = _CHECKED.pack(
        GROUP_MAGIC, len(payload), first_lsn, watermark, lsn_count, record_count, previous, payload_checksum
    )
    checksum = zlib.crc32(head, zlib.crc32(_PLACE.pack(chain_seed, offset)))
    return b"".join((head, checksum.to_bytes(4, "little"), GROUP_MARK, payload, filler)), checksum


def unpack_group_header(data: memoryview, *, chain_seed: int, offset: int) -> GroupHeader | None:
    """The group header that `data`, which lies at `offset` of its file, begins with; None when it does not verify by itself."""
    if len(data) < GROUP_HEADER_BYTES:
        return None
    magic, *numbers, mark = GROUP.unpack_from(data)
    if magic != GROUP_MAGIC or mark != GROUP_MARK:
        return None
    header = GroupHeader._make(numbers)
    place = zlib.crc32(_PLACE.pack(chain_seed, offset))
    if zlib.crc32(data[: _CHECKED.size], place) != header.header_checksum or header.watermark >= header.first_lsn:
        return None
    return header


def payload_of(group: memoryview, header: GroupHeader) -> memoryview | None:
    """The payload of a whole group, None when its checksum is wrong."""
    if zlib.crc32(group[GROUP_HEADER_BYTES:]) != header.payload_checksum:
        return None
    return group[GROUP_HEADER_BYTES : GROUP_HEADER_BYTES + header.payload_bytes]


def wholly_present(data: bytes, offset: int) -> bool:
    """True when every sector of `data`, which lies at `offset` of its file, has been written: the third rule of damage.

    `data` is a group as far as its header tells, or a header alone where that cannot be trusted.
    """
    if not data or data[-1] == 0:
        return False
    cut = SECTOR_BYTES - offset % SECTOR_BYTES
    pieces = [data[:cut], *(data[begin : begin + SECTOR_BYTES] for begin in range(cut, len(data), SECTOR_BYTES))]
    return all(any(piece) for piece in pieces)
