"""holdfast.journal: a write-ahead journal with group commit, for any program that must not forget what it acknowledged.

What lies where:

    journal     the face of it all
    memory      the same face with nothing behind it: the journal switched off
    format      the bytes on disk: tables, rules, reasons
    record      one entry, packed and unpacked
    options     limits and times, each with its reason
    errors      everything that is raised

    segment     one file of the journal, and its writer
    spare       the next one, prepared ahead
    appender    batches into groups, segment after segment
    writer      group commit, lanes, those who wait
    lane        the thread for slow syncs
    retention   what may go

    reader      one segment, group by group
    scan        a whole journal, torn tail told from damage
    recovery    quarantine, cut, sealed copies
    repair      a cut that a human accepted

    blobs       large bodies, by digest
    disk        the door to the file system, and its contract
    fakes       disks in memory, disks that fail
    recording   a disk that tells what a power cut could have left

The journal knows nothing of what its records mean.
"""

from __future__ import annotations

from holdfast.journal.blobs import BlobStore, BlobWriter, Collected
from holdfast.journal.disk import Disk, DiskStream, File, LocalDisk, write_aside
from holdfast.journal.errors import (
    BlobDamaged,
    BlobMissing,
    Corruption,
    DamagedFile,
    IncompatibleFormat,
    JournalError,
    JournalFailed,
    JournalFull,
    RecordTooLarge,
    TornTail,
)
from holdfast.journal.fakes import Fault, FaultyDisk, MemoryDisk
from holdfast.journal.journal import Journal, JournalStat
from holdfast.journal.memory import MemoryJournal
from holdfast.journal.options import JournalOptions, Lane, SyncMode
from holdfast.journal.record import CheckpointNote, Kind, Record
from holdfast.journal.recovery import RecoveryReport
from holdfast.journal.repair import Repaired, repair_journal
from holdfast.journal.scan import Damage, TornEnd, read_journal

__all__ = [
    "BlobDamaged",
    "BlobMissing",
    "BlobStore",
    "BlobWriter",
    "CheckpointNote",
    "Collected",
    "Corruption",
    "Damage",
    "DamagedFile",
    "Disk",
    "DiskStream",
    "Fault",
    "FaultyDisk",
    "File",
    "IncompatibleFormat",
    "Journal",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalOptions",
    "JournalStat",
    "Kind",
    "Lane",
    "LocalDisk",
    "MemoryDisk",
    "MemoryJournal",
    "Record",
    "RecordTooLarge",
    "RecoveryReport",
    "Repaired",
    "SyncMode",
    "TornEnd",
    "TornTail",
    "read_journal",
    "repair_journal",
    "write_aside",
]
