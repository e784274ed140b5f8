"""Recovery: what happens to a journal before anything is appended to it.

It is scanned; a torn tail is set aside in quarantine and cut; every segment that an earlier life left open is
replaced by a sealed copy of its valid part. Corruption and a foreign format are refused before anything is changed.

Each step leaves a journal from which recovery can start again, wherever it is stopped.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from holdfast.journal.disk import Disk, File, write_aside
from holdfast.journal.format import UNFINISHED_SUFFIX, pack_group, unfinished_name
from holdfast.journal.record import CheckpointNote, Kind, pack_record
from holdfast.journal.scan import Damage, Progress, Scanned, TornEnd, scan

__all__ = ["Recovered", "RecoveryReport", "quarantine_bytes", "quarantine_tail", "recover", "seal_copy"]

COPY_STEP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What recovery found and did.

    `epoch` is that of the life that begins now. `torn` is the tail that was cut, `damages` are warnings (damage that
    cost nothing after the checkpoint), `quarantined` the files in which cut bytes lie, `checkpoint` the newest
    checkpoint record read.
    """

    last_lsn: int
    epoch: int
    records: int
    groups: int
    torn: TornEnd | None
    damages: tuple[Damage, ...]
    quarantined: tuple[str, ...]
    checkpoint: CheckpointNote | None
    clean: bool


@dataclass(frozen=True, slots=True)
class Recovered:
    """A journal that can be appended to: its sealed segments as scanned, and the report."""

    segments: list[Scanned]
    report: RecoveryReport
    begins_anew: bool


def recover(
    disk: Disk,
    folder: str,
    *,
    state_id: bytes,
    checkpoint_lsn: int,
    quarantine_folder: str,
    may_begin_anew: bool,
    time_ns: int,
    progress: Progress | None,
) -> Recovered:
    """Bring a journal into a state that can be appended to. Raises Corruption, IncompatibleFormat and OSError."""
    disk.make_folder(folder)
    found = scan(
        disk,
        folder,
        state_id=state_id,
        checkpoint_lsn=checkpoint_lsn,
        may_end_below=may_begin_anew,
        progress=progress,
    )
    for name in disk.listdir(folder):
        if name.endswith(UNFINISHED_SUFFIX):
            disk.unlink(os.path.join(folder, name))
    quarantined = [quarantine_tail(disk, found.torn, quarantine_folder)] if found.torn is not None else []
    unclean = [segment for segment in found.segments if not segment.name.sealed]
    for segment in unclean:
        seal_copy(disk, folder, segment, time_ns)
    report = RecoveryReport(
        last_lsn=max(found.last_lsn, checkpoint_lsn),
        epoch=found.epoch + 1,
        records=found.records,
        groups=found.groups,
        torn=found.torn,
        damages=tuple(found.damages),
        quarantined=tuple(quarantined),
        checkpoint=found.checkpoint,
        clean=not unclean,
    )
    return Recovered(found.segments, report, begins_anew=found.last_lsn < checkpoint_lsn)


def seal_copy(disk: Disk, folder: str, segment: Scanned, time_ns: int, more: Sequence[bytes] = ()) -> None:
    """Replace a segment by a sealed, synced copy of its valid part, and note that in `segment`.

    `more` are packed records that take an LSN each and follow that part, in a group of their own.

    A copy, because the kernel marks pages clean after a failed sync: what reads back well may not be on the disk, and
    only bytes written and synced anew are known to be. That holds for a seal that was written but perhaps never
    synced, too.
    """
    unfinished = os.path.join(folder, unfinished_name("copy"))
    with disk.open(segment.path) as source, disk.create(unfinished) as copy:
        for chunk in _chunks(source, 0, segment.end_offset):
            copy.append(chunk)
        if more:
            copy.append(_group(segment, more, lsn_count=len(more)))
        if not segment.has_seal:
            copy.append(_group(segment, [pack_record(Kind.SEAL, "", "", time_ns, b"")], lsn_count=0))
        copy.fsync()  # everything in it is about to be replayed, and so seen: it must not vanish afterwards
        size_bytes = copy.size_bytes()
    disk.rename(unfinished, segment.path)
    disk.fsync_dir(folder)  # or the name that says "sealed" could end up on the old file
    sealed = segment.name._replace(sealed=True)
    path = os.path.join(folder, str(sealed))
    if path != segment.path:
        disk.rename(segment.path, path)  # durable with the next segment's name; if it is lost, the copy is copied again
    segment.path, segment.name, segment.size_bytes = path, sealed, size_bytes


def quarantine_tail(disk: Disk, torn: TornEnd, folder: str) -> str:
    """Set the bytes of a torn tail aside, durably, with the reason beside them; returns where they lie.

    Repeating it changes nothing.
    """
    stem = f"torn-tail-{os.path.basename(torn.path).partition('.')[0]}-at-{torn.offset}"
    return quarantine_bytes(
        disk, torn.path, torn.offset, folder, stem=stem, facts={"lsn": torn.lsn, "reason": torn.reason}
    )


def quarantine_bytes(disk: Disk, path: str, offset: int, folder: str, *, stem: str, facts: dict[str, int | str]) -> str:
    """Copy a file's bytes from `offset` on, but for the zeros at its end, to quarantine; returns the path of the copy."""
    disk.make_folder(folder)
    with disk.open(path) as file:
        end = _end_of_data(file, offset)
        checksum = 0
        for chunk in _chunks(file, offset, end):
            checksum = zlib.crc32(chunk, checksum)
        target = os.path.join(folder, f"{stem}-{checksum:08x}")
        if not disk.exists(target):
            note = {"file": os.path.basename(path), "offset": offset, "bytes": end - offset, **facts}
            write_aside(disk, f"{target}.json", [json.dumps(note, indent=2).encode()])
            write_aside(disk, target, _chunks(file, offset, end))
    return target


def _group(segment: Scanned, records: Sequence[bytes], *, lsn_count: int) -> bytes:
    """The group of some packed records that continues a segment, and `segment` moved on behind it."""
    group, segment.chain = pack_group(
        b"".join(records),
        first_lsn=segment.next_lsn,
        lsn_count=lsn_count,
        record_count=len(records),
        watermark=min(segment.synced_lsn, segment.next_lsn - 1),
        previous=segment.chain,
        chain_seed=segment.header.chain_seed,
        offset=segment.end_offset,
    )
    segment.end_offset += len(group)
    segment.next_lsn += lsn_count
    return group


def _chunks(file: File, begin: int, end: int) -> Iterator[bytes]:
    for offset in range(begin, end, COPY_STEP_BYTES):
        yield file.pread(min(COPY_STEP_BYTES, end - offset), offset)


def _end_of_data(file: File, begin: int) -> int:
    """Where the last byte lies that is not zero, at `begin` or after."""
    end = begin
    for offset in range(begin, file.size_bytes(), COPY_STEP_BYTES):
        data = file.pread(COPY_STEP_BYTES, offset).rstrip(b"\0")
        if data:
            end = offset + len(data)
    return end
