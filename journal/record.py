"""Records: what one entry of the journal is, and its packed form inside a group."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from holdfast.journal.format import GroupHeader

__all__ = [
    "CheckpointNote",
    "Kind",
    "Record",
    "checkpoint_note",
    "pack_checkpoint",
    "pack_record",
    "takes_lsn",
    "unpack_records",
]


class Kind(enum.IntEnum):
    """What a record is. The first four take an LSN; the others are about the journal itself and do not."""

    COMMAND = 1
    MUTATION = 2
    RESET = 3
    LOAD = 4
    CHECKPOINT = 16
    SEAL = 17
    WATERMARK = 18


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the journal.

    `lsn` of a kind that takes none is that of the record before it. `time_ns` is the writer's, nanoseconds since
    1970. `blobs` are the SHA-256 digests of the blobs that the record cannot be replayed without.
    """

    lsn: int
    epoch: int
    kind: Kind
    service: str
    operation: str
    time_ns: int
    payload: bytes
    blobs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CheckpointNote:
    """What a checkpoint record says: that the manifest of this digest stands for the state at `lsn`."""

    lsn: int
    manifest: bytes


_pack = msgpack.Packer(autoreset=True, unicode_errors="surrogatepass").pack
_KINDS = {int(kind): kind for kind in Kind}


def pack_record(
    kind: Kind, service: str, operation: str, time_ns: int, payload: bytes, blobs: tuple[bytes, ...] = ()
) -> bytes:
    """The packed form of a record. It carries no LSN: the group that it goes into counts them."""
    packed: bytes = _pack((int(kind), service, operation, time_ns, payload, blobs))
    return packed


def takes_lsn(packed: bytes) -> bool:
    """True when a packed record takes an LSN: its kind is the array's first element, a one-byte integer."""
    return packed[1] < Kind.CHECKPOINT


def pack_checkpoint(note: CheckpointNote, time_ns: int) -> bytes:
    """The packed form of a checkpoint record."""
    return pack_record(Kind.CHECKPOINT, "", "", time_ns, note.lsn.to_bytes(8, "little") + note.manifest)


def checkpoint_note(record: Record) -> CheckpointNote:
    """What a checkpoint record says."""
    assert record.kind is Kind.CHECKPOINT
    return CheckpointNote(int.from_bytes(record.payload[:8], "little"), record.payload[8:])


def unpack_records(payload: bytes | memoryview, header: GroupHeader, epoch: int) -> Iterator[Record]:
    """The records of a group in order. Raises ValueError when the payload is not what the header says, whatever is in it."""
    lsn = header.first_lsn - 1
    count = 0
    try:
        for number, service, operation, time_ns, body, blobs in _unpack(payload, header.record_count):
            _check_types(number, service, operation, time_ns, body, blobs)
            kind = _KINDS[number]
            if kind < Kind.CHECKPOINT:
                lsn += 1
            count += 1
            yield Record(lsn, epoch, kind, service, operation, time_ns, body, blobs)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException, RecursionError) as error:
        raise ValueError(f"a record cannot be read: {error!r}") from error
    if count != header.record_count or lsn + 1 != header.next_lsn:
        raise ValueError("the group does not hold the records that its header counts")


def _unpack(payload: bytes | memoryview, record_count: int) -> Iterable[tuple[Any, ...]]:
    """The arrays that a payload is made of; raises what msgpack raises, and ValueError for bytes that are left over."""
    if record_count == 1:
        return (msgpack.unpackb(payload, use_list=False, unicode_errors="surrogatepass", strict_map_key=False),)
    return _unpack_many(payload)


def _unpack_many(payload: bytes | memoryview) -> Iterator[tuple[Any, ...]]:
    unpacker = msgpack.Unpacker(
        use_list=False, unicode_errors="surrogatepass", max_buffer_size=max(len(payload), 1), strict_map_key=False
    )
    unpacker.feed(payload)
    yield from unpacker
    if unpacker.tell() != len(payload):
        raise ValueError("a record is cut short")


def _check_types(*fields: object) -> None:
    """Raise TypeError when a field is not what it must be: a valid checksum proves who wrote it, not what."""
    number, service, operation, time_ns, body, blobs = fields
    if not (
        type(number) is int
        and type(service) is str
        and type(operation) is str
        and type(time_ns) is int
        and type(body) is bytes
        and type(blobs) is tuple
        and all(type(blob) is bytes for blob in blobs)
    ):
        raise TypeError("a field has the wrong type")
