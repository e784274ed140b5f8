"""Repair: cut a damaged journal behind an LSN, by the decision of a human who accepts that loss.

Nothing is destroyed. Every byte behind the cut is copied to quarantine, durably, before anything is taken away; then the later
segments go, newest first, and the one that holds the cut is replaced by a sealed copy of what is kept. Stopped anywhere, it can
be run again.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

from holdfast.journal.disk import Disk, LocalDisk
from holdfast.journal.errors import JournalError
from holdfast.journal.format import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    SegmentName,
    pack_group,
    pack_segment_header,
    unfinished_name,
)
from holdfast.journal.record import Kind, pack_record
from holdfast.journal.recovery import quarantine_bytes, seal_copy
from holdfast.journal.scan import Scanned, scan
from holdfast.journal.segment import list_segments

__all__ = ["Repaired", "repair_journal"]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair left: the journal's last LSN, where the bytes behind it lie now, and the LSN that comes next."""

    last_lsn: int
    next_lsn: int
    quarantined: tuple[str, ...]


def repair_journal(
    folder: str | os.PathLike[str],
    *,
    accept_loss_after: int,
    quarantine: str | os.PathLike[str],
    checkpoint_lsn: int = 0,
    state_id: bytes | None = None,
    disk: Disk | None = None,
) -> Repaired:
    """Keep the journal up to LSN `accept_loss_after` and set everything behind it aside. No daemon may use the journal.

    `checkpoint_lsn` is that of the newest verified checkpoint: when it lies beyond the cut, the journal begins anew behind it.
    Raises Corruption when the damage begins before the cut, JournalError when there is no such LSN, and then nothing is changed.
    """
    folder, disk = os.path.abspath(folder), disk or LocalDisk()
    named = list_segments(disk, folder)
    if not named or accept_loss_after < named[0][0].first_lsn - 1:
        raise JournalError(f"{folder} does not hold LSN {accept_loss_after}: nothing was changed")
    found = scan(
        disk,
        folder,
        state_id=state_id,
        checkpoint_lsn=max(min(checkpoint_lsn, accept_loss_after) - 1, named[0][0].first_lsn - 1),
        may_end_below=True,
        upto_lsn=accept_loss_after,
    )
    last = found.segments[-1]
    kept = _records_to_keep(last, accept_loss_after)
    if last.next_lsn + len(kept) - 1 < accept_loss_after:
        raise JournalError(f"the journal ends at LSN {last.next_lsn - 1} already: nothing was changed")
    later = [path for _, path in named[len(found.segments) :]]
    quarantined = _set_aside(disk, os.path.abspath(quarantine), last, later, accept_loss_after)
    for path in reversed(later):
        disk.unlink(path)
    time_ns = time.time_ns()
    seal_copy(disk, folder, last, time_ns, kept)
    next_lsn = max(accept_loss_after, checkpoint_lsn) + 1
    newest = replace(
        last.header,
        first_lsn=next_lsn,
        epoch=named[-1][0].epoch,
        time_ns=time_ns,
        size_bytes=0,
        begins_anew=checkpoint_lsn > accept_loss_after,
    )
    _begin(disk, folder, newest)
    return Repaired(accept_loss_after, next_lsn, tuple(quarantined))


def _records_to_keep(last: Scanned, upto_lsn: int) -> list[bytes]:
    """Of the group that the cut goes through, the packed records before it."""
    if last.cut is None:
        return []
    return [
        pack_record(record.kind, record.service, record.operation, record.time_ns, record.payload, record.blobs)
        for record in last.cut.records(last.header.epoch)
        if record.kind < Kind.CHECKPOINT and record.lsn <= upto_lsn
    ]


def _set_aside(disk: Disk, folder: str, last: Scanned, later: list[str], lsn: int) -> list[str]:
    """Copy everything behind the cut to quarantine, durably; returns where it lies."""
    facts: dict[str, int | str] = {"lsn": lsn + 1, "reason": f"repair accepted the loss of what follows LSN {lsn}"}
    parts = [(last.path, last.end_offset)] if last.end_offset < last.size_bytes else []
    return [
        quarantine_bytes(
            disk,
            path,
            offset,
            folder,
            stem=f"repaired-{os.path.basename(path).partition('.')[0]}-at-{offset}",
            facts=facts,
        )
        for path, offset in [*parts, *((path, 0) for path in later)]
    ]


def _begin(disk: Disk, folder: str, header: SegmentHeader) -> None:
    """Put an empty, sealed segment behind the cut: it keeps the newest epoch, so that no (epoch, LSN) is ever given twice."""
    unfinished = os.path.join(folder, unfinished_name("copy"))
    seal, _ = pack_group(
        pack_record(Kind.SEAL, "", "", header.time_ns, b""),
        first_lsn=header.first_lsn,
        lsn_count=0,
        record_count=1,
        watermark=0,
        previous=header.chain_seed,
        chain_seed=header.chain_seed,
        offset=SEGMENT_HEADER_BYTES,
    )
    with disk.create(unfinished) as file:
        file.append(pack_segment_header(header) + seal)
        file.fsync()  # its name says that it is sealed
    disk.rename(unfinished, os.path.join(folder, str(SegmentName(header.first_lsn, header.epoch, sealed=True))))
    disk.fsync_dir(folder)  # when the repair is said to be done, the next start finds it done
